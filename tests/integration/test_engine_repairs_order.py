"""Events that come late, early or twice, and other processes in between."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson

from orchestrator.ingest.messages_in import Item
from tests.integration.test_engine import SLEEPER, TWO, acked_up_to, tasks
from tests.support.engine import (
    Engine,
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
from wf.jetstream.port import Outcome, Outgoing, Stored
from wf.protocol import messages, subjects

START_AGAIN = Outgoing(
    subjects.start("default", "two"),
    messages.encode(messages.start_body(instance="i", input={"n": 1})),
)
CANCEL = Outgoing(subjects.command("i", "cancel"), messages.encode(messages.command_body()))


def leave(made: Engine) -> None:
    """The engine asks for no more: what is redelivered goes to another."""
    pull: Any = made.orchestrator._service._pulls[0]
    pull._pull._refill = pull._pull._renew = lambda: None
    pull._pull._leave()


def slow_states(go: asyncio.Event, stuck_stream: str | None = None) -> Any:
    """Have an engine store snapshots only after `go`, and never publish to `stuck_stream`."""

    def prepare(made: Engine) -> None:
        publish = made.js.publish

        async def wait(stream: str, batch: list[Outgoing], **more: Any) -> list[Outcome]:
            if stream == topology.WORKFLOW_STATES:
                await go.wait()
            if stream == stuck_stream:
                await asyncio.Event().wait()
            return await publish(stream, batch, **more)

        made.js.publish = wait  # type: ignore[method-assign]

    return prepare


async def holds(made: Engine, count: int) -> None:
    async def look() -> bool:
        return len(made.orchestrator._leases) == count

    await eventually(look, what=f"{count} events taken in")


async def test_an_event_whose_start_was_acked_while_it_was_looked_up_is_applied(
    js: JetStream, nats_server: RealServer
) -> None:
    """B finds no snapshot; A stores it and acks the start; only then B reads the ack floor."""
    await deploy(js, SLEEPER)
    go = asyncio.Event()

    def late_floor(made: Engine) -> None:
        async def nothing() -> None: ...

        made.orchestrator._recovery.reset_consumers = nothing  # type: ignore[method-assign]
        made.orchestrator._sweeper.sweep = nothing  # type: ignore[assignment, method-assign]
        floor = made.js.ack_floor
        calls = 0

        async def slow(stream: str, consumer: str) -> int:
            nonlocal calls
            if (stream, consumer) == (topology.WORKFLOW_EVENTS, topology.ORCHESTRATOR):
                calls += 1
                if calls == 2:  # the first is the cold load's
                    go.set()
                    await acked_up_to(js, started)
            return await floor(stream, consumer)

        made.js.ack_floor = slow  # type: ignore[method-assign]

    async with engine(nats_server, prepare=slow_states(go)) as a:
        started = await start(js, "sleeper", "i")
        await holds(a, 1)
        leave(a)
        await a.js.flush()
        async with engine(nats_server, prepare=late_floor) as b:
            await send(js, subjects.command("i", "cancel"), messages.command_body())
            await in_status(js, "i", "cancelled")
            await settled(js)
            assert b.orchestrator._engine.counts["ignored.unknown"] == 0


async def test_an_event_that_comes_before_its_redelivered_start_in_one_group_is_applied(
    js: JetStream, nats_server: RealServer
) -> None:
    """It is unknown when it is looked at, and below the floor when that is read: the start behind
    it has been applied and acked in between."""
    await deploy(js, SLEEPER)
    sequences: list[int] = []

    def inverted(made: Engine) -> None:
        offer, floor = made.orchestrator._lanes.offer, made.js.ack_floor
        starts: list[Item] = []

        def behind(item: Item) -> None:
            if item.event["kind"] == "start":
                starts.append(item)
                sequences.append(item.delivery.sequence)
                return
            offer(item)
            while starts:
                offer(starts.pop())

        async def late(stream: str, consumer: str) -> int:
            if stream == topology.WORKFLOW_EVENTS and await snapshot(js, "i") is not None:
                await acked_up_to(js, sequences[0])
            return await floor(stream, consumer)

        made.orchestrator._lanes.offer = behind  # type: ignore[method-assign]
        made.js.ack_floor = late  # type: ignore[method-assign]

    async with engine(nats_server, prepare=inverted) as only:
        body = messages.encode(messages.start_body(instance="i", input=1))
        begin = Outgoing(subjects.start("default", "sleeper"), body)
        await js.publish_batch(topology.WORKFLOW_EVENTS, [begin, CANCEL])
        await in_status(js, "i", "cancelled")
        assert only.orchestrator._engine.counts["ignored.unknown"] == 0


async def test_with_two_engines_every_command_right_behind_its_start_is_applied(
    js: JetStream, nats_server: RealServer
) -> None:
    await deploy(js, SLEEPER)
    names = [f"i{n}" for n in range(150)]
    body = messages.encode(messages.command_body())
    async with engine(nats_server), engine(nats_server):
        for name in names:
            begin = messages.encode(messages.start_body(instance=name, input=1))
            pair = [
                Outgoing(subjects.start("default", "sleeper"), begin),
                Outgoing(subjects.command(name, "cancel"), body),
            ]
            await js.publish(topology.WORKFLOW_EVENTS, pair)
        await settled(js)
        stored = await js.last_many(topology.WORKFLOW_STATES, [subjects.state(n) for n in names])
        assert [orjson.loads(one.data)["status"] for one in stored.values()] == ["cancelled"] * 150


async def test_a_start_that_another_commits_meanwhile_is_not_taken_for_an_expired_one(
    js: JetStream, nats_server: RealServer
) -> None:
    """A stores two snapshots and their history but not their tasks, and dies. B finds the history,
    and a replica that lags behind has no snapshot. The starts must stay unacked until the tasks
    are out."""
    await deploy(js, TWO)
    go = asyncio.Event()
    lagged: list[str] = []

    def lagging(made: Engine) -> None:
        last_some = made.js.last_some

        async def told() -> bool:
            return bool(await history(js, "i") and await history(js, "j"))

        async def late(
            stream: str, names: list[str], limit_bytes: int
        ) -> tuple[dict[str, Stored], bool]:
            if stream == topology.WORKFLOW_HISTORY and not go.is_set():
                go.set()
                await eventually(told, what="the history")
            if stream == topology.WORKFLOW_STATES and not lagged:
                lagged.append(stream)
                return {}, True
            return await last_some(stream, names, limit_bytes)

        made.js.last_some = late  # type: ignore[assignment, method-assign]

    async with engine(nats_server, prepare=slow_states(go, topology.ACTIVITY_TASKS)) as a:
        await start(js, "two", "i", {"n": 1})
        started = await start(js, "two", "j", {"n": 1})
        await holds(a, 2)
        leave(a)
        await a.js.flush()
        async with engine(nats_server, prepare=lagging) as b:
            await acked_up_to(js, started)
            await a.kill()
            assert lagged
            assert b.orchestrator._engine.counts["ignored.expired"] == 0
            assert sorted(task["instance"] for task in await tasks(js, "a")) == ["i", "j"]


async def ended_and_expired(js: JetStream, only: Engine) -> None:
    """`i` has run, and its snapshot is gone."""
    await start(js, "two", "i", {"n": 1})
    await ended(js, "i")
    await settled(js)
    only.orchestrator._store.cache.clear()
    marker = {"KV-Operation": "PURGE", "Nats-Rollup": "sub"}
    await js.publish(topology.WORKFLOW_STATES, [Outgoing(subjects.state("i"), b"", headers=marker)])


async def test_an_expired_instance_is_not_made_again_by_a_start_behind_a_late_event(
    js: JetStream, nats_server: RealServer
) -> None:
    await deploy(js, TWO)
    async with FakeWorker(js, {"a": succeed(), "b": succeed()}), engine(nats_server) as only:
        await ended_and_expired(js, only)
        await js.publish_batch(topology.WORKFLOW_EVENTS, [CANCEL, START_AGAIN])
        await settled(js)
        assert await snapshot(js, "i") is None


async def test_an_event_behind_a_suspected_start_of_an_expired_instance_is_seen_to(
    js: JetStream, nats_server: RealServer
) -> None:
    """The start goes alone, and is dropped; what came behind it is still this group's."""
    await deploy(js, TWO)
    async with FakeWorker(js, {"a": succeed(), "b": succeed()}), engine(nats_server) as only:
        await ended_and_expired(js, only)
        only.orchestrator._guard.is_careful = lambda events=(): True
        await js.publish_batch(topology.WORKFLOW_EVENTS, [START_AGAIN, CANCEL])
        await settled(js)
        assert await snapshot(js, "i") is None
        service = only.orchestrator._service

        async def through() -> bool:
            return not service._groups

        await eventually(through, what="the end of the group")
        assert service._failure is None, repr(service._failure)
