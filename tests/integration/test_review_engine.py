"""Sentences of the commit protocol that a broken line would otherwise break unseen."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from orchestrator import main
from orchestrator.ingest.messages_in import Item
from orchestrator.state import commit as records
from orchestrator.state.commit import Commit, Record, absent
from orchestrator.state.snapshot_cache import Cache
from orchestrator.state.snapshot_store import Store, Write
from tests.integration.test_engine import (
    SLEEPER,
    TWO,
    acked_up_to,
    die_before,
    one_task_per_activity,
    tasks,
)
from tests.support.engine import (
    Engine,
    deploy,
    ended,
    engine,
    history,
    in_status,
    send,
    settled,
    snapshot,
    start,
)
from tests.support.server import RealServer
from tests.support.waiting import eventually
from wf.errors import BrokerError
from wf.jetstream import topology
from wf.jetstream.client import JetStream
from wf.jetstream.port import Outcome, Outgoing, Rejected, Unknown
from wf.protocol import messages, subjects

JsonObject = dict[str, Any]


def write(instance: str, token: str, record: Record) -> Write:
    commit = Commit(record.commit_number + 1, token, [(topology.WORKFLOW_EVENTS, 1)])
    sealed = records.seal({"id": instance, "status": "running"}, commit, record.watch)
    return Write(instance, record, sealed, token)


async def stored_token(js: JetStream, instance: str) -> str:
    found = await snapshot(js, instance)
    assert found is not None
    return str(found["commit"]["token"])


@pytest.mark.parametrize("count", [1, 30])  # as a single, and in an atomic batch
async def test_a_snapshot_that_another_wrote_meanwhile_is_not_overwritten(
    js: JetStream, count: int
) -> None:
    names = [f"i{n}" for n in range(count)]
    store = Store(js, Cache(1 << 20))
    assert (await store.write([write(names[0], "theirs", absent())])).lost == []
    written = await store.write([write(name, "ours", absent()) for name in names])
    assert written.lost == [names[0]]
    assert sorted(written.landed) == sorted(names[1:])
    assert await stored_token(js, names[0]) == "theirs"
    for name in names[1:]:
        assert await stored_token(js, name) == "ours"


async def test_an_event_applied_to_a_stale_cache_is_applied_again_to_what_is_stored(
    js: JetStream, nats_server: RealServer
) -> None:
    await deploy(js, SLEEPER)
    async with engine(nats_server) as one:
        await start(js, "sleeper", "i")
        await in_status(js, "i", "waiting")
        await settled(js)
        store = one.orchestrator._store
        stale = store.cache.get("i")
        assert stale is not None
        await send(js, subjects.command("i", "suspend"), messages.command_body())
        await in_status(js, "i", "suspended")
        await settled(js)
        store.cache.put("i", stale)
        await send(js, subjects.command("i", "cancel"), messages.command_body())
        final = await ended(js, "i")
        await settled(js)
        assert one.orchestrator._engine.counts["conflicts"] == 1
        assert final["commit"]["number"] == 3
        assert [m["commit"] for m in await history(js, "i")] == [1, 2, 3]


async def test_an_event_that_is_held_long_is_not_delivered_to_another(
    js: JetStream, nats_server: RealServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Signs of life go out for as long as its commit takes."""
    monkeypatch.setattr(main, "TICK_S", 0.1)
    await deploy(js, SLEEPER)
    go = asyncio.Event()

    def slow(made: Engine) -> None:
        made.orchestrator._leases._renew_after_s = 0.2
        publish = made.js.publish

        async def wait(stream: str, batch: list[Outgoing], **more: Any) -> list[Outcome]:
            if stream == topology.WORKFLOW_STATES:
                await go.wait()
            return await publish(stream, batch, **more)

        made.js.publish = wait  # type: ignore[method-assign]

    where = f"{topology.WORKFLOW_EVENTS}.{topology.ORCHESTRATOR}"
    async with engine(nats_server, prepare=slow) as only:
        config = (await js.api(f"CONSUMER.INFO.{where}"))["config"]
        change = {
            "stream_name": topology.WORKFLOW_EVENTS,
            "config": {**config, "ack_wait": topology.nanoseconds(1)},
            "action": "update",
        }
        await js.api(f"CONSUMER.CREATE.{where}", change)
        began = asyncio.get_running_loop().time()
        await start(js, "sleeper", "i")

        async def long_held() -> bool:
            assert (await js.api(f"CONSUMER.INFO.{where}"))["num_redelivered"] == 0
            return asyncio.get_running_loop().time() - began > 2.5

        await eventually(long_held, what="two and a half ack_waits")
        go.set()
        await in_status(js, "i", "waiting")
        await settled(js)
        assert only.orchestrator._engine.counts["applied"] == 1


async def test_a_commit_names_every_event_that_it_applied(
    js: JetStream, nats_server: RealServer
) -> None:
    """One sequence left out, and an outbox would count as published before it is."""
    await deploy(js, SLEEPER)
    await start(js, "sleeper", "i")
    for verb in ("suspend", "resume") * 10:
        await send(js, subjects.command("i", verb), messages.command_body())
    async with engine(nats_server):
        await settled(js)
        final = await snapshot(js, "i")
        assert final is not None
        number = final["commit"]["number"]
        told = [m for m in await history(js, "i") if m["commit"] == number]
        assert len(told) > 1, "no group: this proves nothing"
        assert [[m["stream"], m["sequence"]] for m in told] == final["commit"]["events"]


async def test_a_copy_of_a_held_event_is_not_acked_before_its_outbox_is_stored(
    js: JetStream, nats_server: RealServer
) -> None:
    """The same delivery twice in one group: the second changes nothing, yet its ack is the
    first one's too."""
    await deploy(js, TWO)
    refusals: list[str] = []

    def prepare(made: Engine) -> None:
        publish, offer = made.js.publish, made.orchestrator._lanes.offer

        async def full(stream: str, batch: list[Outgoing], **more: Any) -> list[Outcome]:
            if stream == topology.ACTIVITY_TASKS and len(refusals) < 3:
                refusals.append(stream)
                return [Rejected(10077, "full") for _ in batch]
            return await publish(stream, batch, **more)

        def twice(item: Item) -> None:
            offer(item)
            offer(item)

        made.js.publish = full  # type: ignore[method-assign]
        made.orchestrator._lanes.offer = twice  # type: ignore[method-assign]

    async with engine(nats_server, prepare=prepare):
        started = await start(js, "two", "i", {"n": 1})

        async def refused_again() -> bool:
            return len(refusals) >= 2

        await eventually(refused_again, what="the second refusal")
        assert await js.ack_floor(topology.WORKFLOW_EVENTS, topology.ORCHESTRATOR) < started
        await eventually(lambda: tasks(js, "a"), what="the task")
        await acked_up_to(js, started)


async def test_a_stop_hands_back_what_waits_and_the_next_takes_over_what_is_held(
    js: JetStream, nats_server: RealServer
) -> None:
    """A refused task is no reason to stay, and its event none to be acked."""
    await deploy(js, TWO)
    narrow = one_task_per_activity(nats_server)
    async with engine(nats_server, settings=narrow) as first:
        await start(js, "two", "first", {"n": 1})
        await eventually(lambda: tasks(js, "a"), what="the first task")
        held = await start(js, "two", "second", {"n": 2})
        await in_status(js, "second", "running")
        waiting = await send(js, subjects.command("second", "suspend"), messages.command_body())
        parking = first.orchestrator._parking

        async def is_held() -> bool:
            return parking.holds("second") and len(first.orchestrator._leases) == 2

        await eventually(is_held, what="the held instance")
        first.orchestrator.stop()
        assert first.task is not None
        await asyncio.wait_for(first.task, 5)
        # What waited behind it comes again at once, not after ack_wait.
        pull = await js.pull(topology.WORKFLOW_EVENTS, topology.ORCHESTRATOR, window=10)
        (delivery,) = await asyncio.wait_for(pull.next(10), 5)
        assert delivery.sequence == waiting
        js.nak(delivery)
        await pull.stop()
        assert await js.ack_floor(topology.WORKFLOW_EVENTS, topology.ORCHESTRATOR) < held
    await js.purge(topology.ACTIVITY_TASKS, subject=subjects.task("a"))
    async with engine(nats_server, settings=narrow):
        await in_status(js, "second", "suspended")
        (task,) = await tasks(js, "a")
        assert task["instance"] == "second"


async def test_a_rebuilt_history_says_why_a_start_was_refused(
    js: JetStream, nats_server: RealServer
) -> None:
    """What the shell added to an event is in no stream, only in the commit record."""
    async with engine(nats_server, prepare=die_before(topology.WORKFLOW_HISTORY)) as first:
        await start(js, "nonesuch", "i")
        await first.died()
    assert await history(js, "i") == []
    async with engine(nats_server):
        await settled(js)
        final = await ended(js, "i")
        (message,) = await history(js, "i")
        assert "nonesuch" in message["event"]["refused"]["detail"]
        assert message["event"]["refused"]["detail"] == final["error"]["detail"]


async def test_a_task_that_no_worker_ever_answered_is_given_up_by_the_advisory(
    js: JetStream, nats_server: RealServer
) -> None:
    """The net below the net, and it holds when the broker is silent to it at first."""
    await deploy(js, TWO)
    await js.ensure_task_consumer("a", ack_wait_s=0.3, max_deliver=2, max_ack_pending=10)
    lost: list[str] = []
    unanswered: list[int] = []

    def lossy(made: Engine) -> None:
        publish = made.js.publish

        async def lose(stream: str, batch: list[Outgoing], **more: Any) -> list[Outcome]:
            if stream == topology.WORKFLOW_EVENTS and not lost:
                lost.append(stream)
                return [Unknown("lost") for _ in batch]
            return await publish(stream, batch, **more)

        at = made.js.at

        async def silent(stream: str, sequence: int) -> Any:
            if stream == topology.ACTIVITY_TASKS and not unanswered:
                unanswered.append(sequence)
                raise BrokerError("no answer")
            return await at(stream, sequence)

        made.js.publish = lose  # type: ignore[method-assign]
        made.js.at = silent  # type: ignore[method-assign]

    async with engine(nats_server, prepare=lossy):
        pull = await js.pull(topology.ACTIVITY_TASKS, topology.consumer_name("a"), window=10)
        await start(js, "two", "i", {"n": 1})
        deliveries = 0
        while deliveries < 2:
            deliveries += len(await asyncio.wait_for(pull.next(10), 10))
        final = await ended(js, "i")
        await pull.stop()
        assert lost
        assert unanswered
        assert final["status"] == "faulted"
        assert final["error"]["title"] == "Undeliverable"
        letters = await js.scan(topology.DEAD_LETTERS, "dead.undeliverable.>")
        assert [orjson.loads(one.data)["evidence"]["instance"] for one in letters] == ["i"]


async def test_an_unreadable_message_is_kept_until_its_dead_letter_is_stored(
    js: JetStream, nats_server: RealServer
) -> None:
    lost: list[int] = []

    def lossy(made: Engine) -> None:
        publish = made.js.publish

        async def lose(stream: str, batch: list[Outgoing], **more: Any) -> list[Outcome]:
            if stream == topology.DEAD_LETTERS and not lost:
                floor = await js.ack_floor(topology.WORKFLOW_EVENTS, topology.ORCHESTRATOR)
                lost.append(floor)
                return [Unknown("lost") for _ in batch]
            return await publish(stream, batch, **more)

        made.js.publish = lose  # type: ignore[method-assign]

    async with engine(nats_server, prepare=lossy):
        await js.publish(
            topology.WORKFLOW_EVENTS, [Outgoing("workflow.start.two", b'{"v": 9, "x": 1}')]
        )
        await eventually(
            lambda: js.scan(topology.DEAD_LETTERS, "dead.message.>"), what="the dead letter"
        )
        assert lost == [0]
        await settled(js)


async def test_an_event_that_meets_a_refused_flush_is_applied_afterwards(
    js: JetStream, nats_server: RealServer
) -> None:
    """A predecessor's task finds its queue full: what came for the instance waits for it."""
    await deploy(js, TWO)
    async with engine(nats_server, prepare=die_before(topology.ACTIVITY_TASKS)) as first:
        await start(js, "two", "i", {"n": 1})
        await first.died()
    refusals: list[str] = []

    def full(made: Engine) -> None:
        publish = made.js.publish

        async def refuse(stream: str, batch: list[Outgoing], **more: Any) -> list[Outcome]:
            if stream == topology.ACTIVITY_TASKS and len(refusals) < 3:
                refusals.append(stream)
                return [Rejected(10077, "full") for _ in batch]
            return await publish(stream, batch, **more)

        made.js.publish = refuse  # type: ignore[method-assign]

    await send(js, subjects.command("i", "suspend"), messages.command_body())
    async with engine(nats_server, prepare=full):
        await in_status(js, "i", "suspended")
        assert len(refusals) == 3
        assert len(await tasks(js, "a")) == 1


async def test_a_stop_sees_the_groups_under_way_through(
    js: JetStream, nats_server: RealServer
) -> None:
    await deploy(js, SLEEPER)
    begun, go = asyncio.Event(), asyncio.Event()

    def slow(made: Engine) -> None:
        publish = made.js.publish

        async def wait(stream: str, batch: list[Outgoing], **more: Any) -> list[Outcome]:
            if stream == topology.WORKFLOW_STATES:
                begun.set()
                await go.wait()
            return await publish(stream, batch, **more)

        made.js.publish = wait  # type: ignore[method-assign]

    async with engine(nats_server, prepare=slow) as only:
        started = await start(js, "sleeper", "i")
        await begun.wait()
        only.orchestrator.stop()
        asyncio.get_running_loop().call_later(0.2, go.set)
        assert only.task is not None
        await asyncio.wait_for(only.task, 5)
        await only.js.flush()
        await in_status(js, "i", "waiting")
        await acked_up_to(js, started)
