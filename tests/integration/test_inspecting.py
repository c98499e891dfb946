"""`wf-supervisor --check` tries an external broker, says what is wrong, and changes nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from supervisor.reload.check import check
from supervisor.reload.configuration import Configuration
from tests.support.server import RealServer
from wf.jetstream import inspection, topology
from wf.jetstream.inspection import LIMIT_S, inspect
from wf.settings import Settings

USER = "user: a, password: b"
LOGIN = {"user": "a", "password": "b"}


@contextmanager
def server(folder: Path, config: str = "") -> Iterator[RealServer]:
    made = RealServer(folder / "broker", config=config)
    made.start()
    try:
        yield made
    finally:
        made.kill9()


def streams(made: RealServer, settings: Settings) -> Any:
    async def look() -> Any:
        js = await inspection.client.connect(
            inspection.from_settings(settings, "orchestrator"), role="orchestrator", name="t"
        )
        try:
            return (await js.api("STREAM.LIST"))["streams"]
        finally:
            await js.close()

    return asyncio.run(look())


def ensured(made: RealServer, *more: dict[str, Any]) -> None:
    """The pool's streams, and more."""

    async def make() -> None:
        js = await made.connect()
        await topology.ensure(js, made.settings())
        for config in more:
            await js.api(f"STREAM.UPDATE.{config['name']}", config)
        await js.close()

    asyncio.run(make())


def test_a_good_broker_is_good_and_stays_as_it_is(tmp_path: Path) -> None:
    with server(tmp_path) as made:
        settings = made.settings()
        facts, problems = inspect(settings, 3)
        assert problems == []
        assert "0 streams are there, 14 are to be made" in facts
        assert not streams(made, settings)
        ensured(made)
        before = streams(made, settings)
        facts, problems = inspect(settings, 3)
        assert problems == []
        assert "14 streams are there, 0 are to be made" in facts
        strip = [{**one, "ts": None} for one in before]
        assert [{**one, "ts": None} for one in streams(made, settings)] == strip


def _account(more: str, js: str = "jetstream: enabled") -> str:
    return f"accounts {{ A: {{ users: [{{ {USER}{more} }}], {js} }} }}"


DENY = ", permissions: {{ {kind}: {{ deny: {subjects} }} }}"
BROKEN: dict[str, tuple[str, dict[str, Any], str]] = {
    "a wrong password": (_account(""), {"user": "a", "password": "no"}, "check [nats] user"),
    "no JetStream": (_account("", "jetstream: disabled"), LOGIN, "JetStream is not enabled"),
    "no right to make streams": (
        _account(DENY.format(kind="publish", subjects='["$JS.API.STREAM.CREATE.>"]')),
        LOGIN, "publish to $JS.API.STREAM.CREATE.WORKFLOW_EVENTS",
    ),
    "no right to make consumers": (
        _account(DENY.format(kind="publish", subjects='["$JS.API.CONSUMER.CREATE.>"]')),
        LOGIN, "publish to $JS.API.CONSUMER.CREATE.WORKFLOW_EVENTS.orchestrator",
    ),
    "no right to store a snapshot": (
        _account(DENY.format(kind="publish", subjects='["$KV.WORKFLOW_STATES.>"]')),
        LOGIN, "publish to $KV.WORKFLOW_STATES.*",
    ),
    "no inbox": (
        _account(DENY.format(kind="subscribe", subjects='["_INBOX_worker.>"]')),
        LOGIN, "subscribe to _INBOX_worker",
    ),
    "no inbox of ours": (
        _account(DENY.format(kind="subscribe", subjects='["_INBOX_orchestrator.>"]')),
        LOGIN, "subscribe to _INBOX_orchestrator",
    ),
    "too few streams": (_account("", "jetstream: {max_streams: 5}"), LOGIN, "raise max_streams"),
    "too little room": (_account("", "jetstream: {max_file: 1MB}"), LOGIN, "raise its max_file"),
    "too few consumers": (
        _account("", "jetstream: {max_consumers: 5}"), LOGIN, "raise max_consumers",
    ),
    "streams that need max_bytes": (
        _account("", "jetstream: {max_bytes_required: true}"), LOGIN, "demands max_bytes",
    ),
    "no cluster for replicas": ("", {"replicas": 3}, "set replicas = 1"),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN.values(), ids=BROKEN)
def test_what_is_wrong_is_said_with_its_remedy(
    tmp_path: Path, case: tuple[str, dict[str, Any], str]
) -> None:
    config, nats, said = case
    with server(tmp_path, config) as made:
        begun_s = time.monotonic()
        _, problems = inspect(made.settings(**nats), 1)
        assert any(said in one for one in problems), problems
        assert time.monotonic() - begun_s < LIMIT_S + 5


def test_a_broker_that_is_not_there_is_said_in_time(tmp_path: Path) -> None:
    with server(tmp_path) as made:
        settings = made.settings()
    begun_s = time.monotonic()
    _, (problem,) = inspect(settings)
    assert "no broker answered" in problem
    assert time.monotonic() - begun_s < LIMIT_S


def test_an_old_server_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topology, "OLDEST_SERVER", (99, 1))
    with server(tmp_path) as made:
        _, problems = inspect(made.settings())
    assert "99.1 or newer is needed" in problems[0]


def test_what_lies_there_and_is_in_the_way_is_said(tmp_path: Path) -> None:
    foreign = {"name": "OTHER", "subjects": ["workflow.history.>"], "storage": "file"}

    async def make(made: RealServer) -> None:
        js = await made.connect()
        await js.api("STREAM.CREATE.OTHER", foreign)
        tasks = next(a for a in topology.assets(made.settings()) if a.name == "ACTIVITY_TASKS")
        wrong = {**tasks.config, "storage": "memory", "deny_purge": True, "max_msgs": 5}
        await js.api("STREAM.CREATE.ACTIVITY_TASKS", wrong)
        await js.close()

    with server(tmp_path) as made:
        asyncio.run(make(made))
        _, problems = inspect(made.settings())
    text = "\n".join(problems)
    assert "workflow.history.* of WORKFLOW_HISTORY belong to the stream OTHER already" in text
    assert "another storage, which cannot be changed" in text
    assert "was given deny_purge" in text


def test_clocks_that_differ_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with server(tmp_path) as made:
        ensured(made)
        late = datetime.now(tz=UTC).timestamp() + 60
        monkeypatch.setattr(inspection.time, "time", lambda: late)
        _, problems = inspect(made.settings())
    assert any("clocks" in one and "NTP" in one for one in problems), problems


def test_check_tells_of_it(tmp_path: Path) -> None:
    with server(tmp_path) as made:
        settings = made.settings()
        settings.workflows_dir.mkdir(exist_ok=True)
        lines, problems = check(Configuration(settings, (), ()))
        assert problems == []
        assert any("nats-server 2." in line for line in lines)
    lines, problems = check(Configuration(settings, (), ()))
    assert "not good" in lines[0]
    assert "no broker answered" in problems[0]
