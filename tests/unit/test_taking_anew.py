"""What a loss at the broker asks of the engine is owed until it is done."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, cast

import pytest

from orchestrator.engine.broker_upkeep import Upkeep
from tests.support.waiting import eventually
from wf.errors import BrokerError
from wf.jetstream import topology
from wf.jetstream.assurance import Found

GONE = frozenset({topology.WORKFLOW_STATES})
LIMIT_S = 10.0
NOTHING = frozenset[str]()


class Scene:
    """An upkeep whose looks find `renewed`, one after the other, and whose taking anew may fail."""

    def __init__(self, *renewed: frozenset[str]) -> None:
        self.found = list(renewed)
        self.failures: list[BaseException] = []
        self.attempts = 0
        self.looks = 0
        self.heard: Callable[[str, bytes], Any] | None = None
        self.waits_for_looks = 0
        self.done = 0
        self.told: list[str] = []
        own = cast("Any", self)
        self.upkeep = Upkeep(
            own, own, own, renewed=self._renew, redeploy=self._nothing, lost=self.told.append
        )

    async def look(self, *, strict: bool) -> Found:
        del strict
        self.looks += 1
        return Found((), self.found.pop(0) if self.found else NOTHING, ())

    async def subscribe_core(self, _subject: str, heard: Callable[[str, bytes], Any]) -> None:
        self.heard = heard

    def troubles(self) -> list[str]:
        return []

    async def ensure(self) -> list[str]:
        return []

    async def until(self, holds: Callable[[], bool]) -> None:
        async def look() -> bool:
            return holds()

        await eventually(look, limit_s=LIMIT_S)

    async def _nothing(self) -> None:
        pass

    async def _renew(self) -> None:
        self.attempts += 1
        if self.waits_for_looks:  # as one that reads a bucket which only a look makes again
            await self.until(lambda: self.looks >= self.waits_for_looks)
        if self.failures:
            raise self.failures.pop(0)
        self.done += 1


@pytest.mark.parametrize("failure", [BrokerError("no answer came"), asyncio.CancelledError()])
async def test_what_could_not_be_taken_anew_is_taken_with_the_next_look(
    failure: BaseException,
) -> None:
    scene = Scene(GONE)
    scene.failures = [failure]
    with pytest.raises(type(failure)):
        await scene.upkeep.look()
    await scene.upkeep.look()
    assert (scene.attempts, scene.done) == (2, 1)
    await scene.upkeep.look()
    assert scene.attempts == 2
    assert len(scene.told) == 1  # a loss is said once


async def test_nothing_is_taken_anew_without_a_reason() -> None:
    scene = Scene(NOTHING)
    await scene.upkeep.look()
    assert scene.attempts == 0


async def test_what_goes_while_all_is_taken_anew_is_made_again_at_once() -> None:
    scene = Scene(GONE, GONE)
    scene.waits_for_looks = 2
    running = asyncio.ensure_future(scene.upkeep.run())
    await scene.until(lambda: scene.heard is not None)
    assert scene.heard is not None
    await scene.heard("$JS.EVENT.ADVISORY.STREAM.DELETED.X", b"")
    await scene.until(lambda: scene.done == 2)  # of what has gone since, as well
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
