"""`@on_start` and `@on_stop`: what they go on, and in which order they run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from wf import on_start, on_stop
from wf.authoring import hooks
from wf.errors import ConfigError
from wf.worker import lifespan
from wf.worker.shutdown import Stopping


@pytest.fixture(autouse=True)
def alone() -> Iterator[None]:
    hooks.forget()
    yield
    hooks.forget()


async def test_the_start_runs_in_order_and_the_stop_in_reverse() -> None:
    heard: list[str] = []

    def said(name: str, register: Callable[..., Any], fails: bool = False) -> None:
        async def hook(optional: int = 1) -> None:
            await asyncio.sleep(0)
            heard.append(name)
            if fails:
                raise SystemExit(3)

        register(hook)

    said("open a", on_start)
    on_start(lambda: heard.append("open b"))
    said("close a", on_stop)
    said("close b", on_stop, fails=True)
    assert await lifespan.begin(Stopping()) is None
    await lifespan.end(1.0)
    assert heard == ["open a", "open b", "close b", "close a"]


async def test_the_first_that_fails_ends_the_start_and_says_why() -> None:
    heard: list[str] = []

    @on_start
    def fails() -> None:
        raise ValueError("no database \ud83d")

    on_start(lambda: heard.append("never"))
    failure = await lifespan.begin(Stopping())
    assert failure is not None
    assert "no database \\ud83d" in failure
    assert heard == []


async def test_a_stop_does_not_wait_for_a_start_that_hangs() -> None:
    stopping = Stopping()

    @on_start
    async def hangs() -> None:
        stopping.request(0, "SIGTERM")
        await asyncio.sleep(3600)

    async with asyncio.timeout(5):
        assert await lifespan.begin(stopping) is None
    assert stopping.requested


async def test_a_stop_that_hangs_is_bounded() -> None:
    heard: list[str] = []
    on_stop(lambda: heard.append("last"))

    @on_stop
    async def hangs() -> None:
        await asyncio.sleep(3600)

    async with asyncio.timeout(5):
        await lifespan.end(0.0)


def needs_one(one: int) -> None: ...


def yields() -> Iterator[int]:
    yield 1


@pytest.mark.parametrize("register", [on_start, on_stop])
@pytest.mark.parametrize("wrong", [needs_one, yields, 7, "name"])
def test_what_is_no_hook_is_refused(register: Callable[[Any], Any], wrong: Any) -> None:
    with pytest.raises(ConfigError, match="@on_st"):
        register(wrong)
    assert hooks.starts() == hooks.stops() == []
