"""Workflows that limit how many of them run at once, against the real server."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from orchestrator.concurrency import admission
from orchestrator.definition import parse
from orchestrator.dispatch.effects import leave_place
from orchestrator.state.history_fold import fold
from tests.support.engine import (
    FakeWorker,
    deploy,
    ended,
    engine,
    history,
    in_status,
    send,
    settled,
    snapshot,
    start,
    succeed,
)
from tests.support.server import RealServer
from tests.support.waiting import eventually
from wf.jetstream import topology
from wf.jetstream.client import JetStream
from wf.jetstream.port import Outgoing
from wf.protocol import messages, subjects

JsonObject = dict[str, Any]

FLOW = """
document:
  dsl: '1.0.3'
  namespace: default
  name: flow
  version: 'VERSION'
  metadata: {wf: {concurrency: LIMIT, concurrencyKey: "${ .customer }"}}
do:
  - hear: {listen: {to: {one: {with: {type: go}}}}}
  - work: {call: work, with: {n: 1}}
"""

UNLIMITED = """
document: {dsl: '1.0.3', namespace: default, name: flow, version: '2.0.2'}
do:
  - rest: {wait: {seconds: 1}}
"""


def flow(limit: int, version: str = "1.0.0") -> str:
    return FLOW.replace("LIMIT", str(limit)).replace("VERSION", version)


async def begin(js: JetStream, *instances: str, customer: str = "acme") -> None:
    """Start them one after the other, so that they stand in this order."""
    for instance in instances:
        await start(js, "flow", instance, {"customer": customer})
        await eventually(lambda one=instance: snapshot(js, one), what=f"a start of {instance}")


async def go(js: JetStream, instance: str) -> JsonObject:
    """Let one of those that run come to its end."""
    await send(js, subjects.signal(instance, "hear"), messages.signal_body(data=None))
    return await ended(js, instance)


async def statuses(js: JetStream, *instances: str) -> list[str]:
    found = [await snapshot(js, instance) for instance in instances]
    return [one["status"] if one else "" for one in found]


async def entries(js: JetStream) -> list[str]:
    stored = await js.scan(topology.WORKFLOW_PLACES, admission.ALL)
    return [one.subject for one in stored if not one.is_marker]


def none_left(js: JetStream) -> Awaitable[Any]:
    async def look() -> bool:
        return not await entries(js)

    return eventually(look, what="an empty line")


def running(js: JetStream, *instances: str) -> Callable[[], Awaitable[bool]]:
    async def look() -> bool:
        return set(await statuses(js, *instances)) == {"waiting"}

    return look


async def test_only_so_many_run_and_the_others_follow_in_order(
    js: JetStream, nats_server: RealServer
) -> None:
    await deploy(js, flow(2))
    async with engine(nats_server), FakeWorker(js, {"work": succeed()}):
        await begin(js, "a", "b", "c", "d")
        await begin(js, "other", customer="globex")
        await eventually(running(js, "a", "b", "other"), what="three that run")
        await settled(js)
        assert await statuses(js, "c", "d") == ["pending", "pending"]
        waits = await snapshot(js, "c")
        assert waits is not None
        assert (waits["slot"]["key"], waits["slot"]["state"]) == ("acme", "waiting")
        final = await go(js, "b")
        assert final["slot"]["state"] == "released"
        await in_status(js, "c", "waiting")
        await settled(js)
        assert await statuses(js, "a", "d") == ["waiting", "pending"]
        await go(js, "c")
        await in_status(js, "d", "waiting")
        for instance in ("a", "d", "other"):
            await go(js, instance)
        await none_left(js)
        await settled(js)
        for instance in "abcd":
            stored = await ended(js, instance)
            stored.pop("commit")
            lookup = lambda *_: parse(flow(2))  # noqa: E731
            assert fold(await history(js, instance), lookup) == stored


async def test_who_waits_may_be_cancelled_or_suspended_or_keep_the_place_suspended(
    js: JetStream, nats_server: RealServer
) -> None:
    await deploy(js, flow(1))
    async with engine(nats_server), FakeWorker(js, {"work": succeed()}):
        await begin(js, "a")
        await in_status(js, "a", "waiting")
        await begin(js, "b", "c", "d")
        await send(js, subjects.command("b", "cancel"), messages.command_body())
        await send(js, subjects.command("c", "suspend"), messages.command_body())
        await ended(js, "b")
        await in_status(js, "c", "suspended")
        await go(js, "a")

        async def holds() -> bool:
            found = await snapshot(js, "c")
            return found is not None and bool(found.get("held"))

        await eventually(holds, what="a place for the suspended one")
        await settled(js)
        assert await statuses(js, "c", "d") == ["suspended", "pending"]
        await send(js, subjects.command("c", "resume"), messages.command_body())
        await in_status(js, "c", "waiting")
        await go(js, "c")
        await in_status(js, "d", "waiting")
        await go(js, "d")
        await none_left(js)


async def test_the_limit_of_the_newest_version_counts(
    js: JetStream, nats_server: RealServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.main.FOLLOW_S", 0.05)
    await deploy(js, flow(1))
    async with engine(nats_server), FakeWorker(js, {"work": succeed()}):
        await begin(js, "a", "b", "c", "d")
        await in_status(js, "a", "waiting")
        await settled(js)
        assert await statuses(js, "b", "c", "d") == ["pending"] * 3
        await deploy(js, flow(3, "2.0.0"))
        await eventually(running(js, "a", "b", "c"), what="three that run")
        await settled(js)
        assert await statuses(js, "d") == ["pending"]
        await deploy(js, flow(1, "2.0.1"))
        await go(js, "a")
        await go(js, "b")
        await settled(js)
        assert await statuses(js, "c", "d") == ["waiting", "pending"]
        await deploy(js, UNLIMITED)
        await in_status(js, "d", "waiting")


async def test_two_orchestrators_keep_the_limit(
    js: JetStream, nats_server: RealServer, tmp_path: Any
) -> None:
    await deploy(js, flow(3))
    plain = nats_server.settings()
    supervisor = plain.supervisor.model_copy(update={"state_dir": tmp_path / "other"})
    other = plain.model_copy(update={"supervisor": supervisor})
    names = [f"i{n}" for n in range(24)]
    async with engine(nats_server), engine(nats_server, settings=other):
        async with FakeWorker(js, {"work": succeed()}):
            for name in names:
                await start(js, "flow", name, {"customer": "acme"})
            left = set(names)
            while left:
                free = [
                    name
                    for name, status in zip(left, await statuses(js, *left), strict=True)
                    if status == "waiting"
                ]
                assert len(free) <= 3
                for name in free:
                    await go(js, name)
                    left.discard(name)
            await none_left(js)


async def test_a_place_is_taken_back_from_one_that_cannot_give_it_up(
    js: JetStream, nats_server: RealServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As left behind by an orchestrator that was stopped for long, with an instance long gone."""
    monkeypatch.setattr("orchestrator.main.AUDIT_S", 0.05)
    monkeypatch.setattr("orchestrator.main.TICK_S", 0.05)
    await deploy(js, flow(1))
    await deploy(js, flow(1).replace("name: flow", "name: warm"))
    async with engine(nats_server), FakeWorker(js, {"work": succeed()}):
        await start(js, "warm", "w", {"customer": "acme"})
        await in_status(js, "w", "waiting")
        (key,) = await entries(js)
        ghost = key.replace("default.warm", "default.flow").replace(".w.", ".ghost.")
        await js.publish(topology.WORKFLOW_PLACES, [Outgoing(ghost, b'{"v":1}')])
        await begin(js, "a")
        await in_status(js, "a", "waiting")
        assert ghost not in await entries(js)


async def test_the_audit_finds_the_entry_of_one_that_has_ended(
    js: JetStream, nats_server: RealServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.main.AUDIT_S", 0.05)
    monkeypatch.setattr("orchestrator.main.TICK_S", 0.05)
    await deploy(js, flow(1))
    async with engine(nats_server), FakeWorker(js, {"work": succeed()}):
        await begin(js, "a")
        await in_status(js, "a", "waiting")
        (key,) = await entries(js)
        await begin(js, "b")
        await settled(js)
        # It was purged by hand: nobody will give its place up.
        await js.purge(topology.WORKFLOW_STATES, subject=subjects.state("a"))
        await in_status(js, "b", "waiting")
        assert key not in await entries(js)


async def test_a_request_that_is_sent_again_changes_nothing(
    js: JetStream, nats_server: RealServer
) -> None:
    await deploy(js, flow(1))
    async with engine(nats_server), FakeWorker(js, {"work": succeed()}):
        await begin(js, "a", "b", "c")
        await in_status(js, "a", "waiting")
        await settled(js)
        keys = await entries(js)
        assert [key.split(".")[-2] for key in keys] == ["a", "b", "c"]
        key = keys[1].removeprefix(admission.PREFIX)
        await send(
            js, subjects.own_place("b", 2), messages.admit_body(turn=2, entry=key[:-1] + "2")
        )
        await go(js, "a")
        await go(js, "b")
        await go(js, "c")
        await none_left(js)
        await js.publish(topology.WORKFLOW_PLACES, [leave_place(key)])
        await asyncio.sleep(0)
        assert not await entries(js)
