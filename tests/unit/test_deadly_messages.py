"""Messages that kill, or break, what reads them beside the engine: on a broker in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest

from orchestrator.cloudevents import correlator as correlating
from orchestrator.cloudevents.correlator import Correlator
from orchestrator.cloudevents.event_triggers import Triggers
from orchestrator.concurrency.admission import Admission
from orchestrator.definition import canonical_bytes, parse
from orchestrator.dispatch import outbox as outboxes
from orchestrator.dispatch.outbox_relay import Publisher
from orchestrator.dispatch.timer_limit import TimerCap
from orchestrator.engine import loop
from orchestrator.engine.loop import Service
from orchestrator.ingest.ack_renewal import Leases
from orchestrator.ingest.consume import read
from orchestrator.ingest.instance_queues import Lanes
from orchestrator.ingest.poison_guard import GUARDED, Guard
from orchestrator.ingest.poison_journal import Journal
from orchestrator.ingest.poison_trial import Fall, Piece
from orchestrator.registry import definitions as defining
from orchestrator.registry.definitions import Definitions
from orchestrator.state import commit as records
from orchestrator.state.snapshot_cache import Cache
from orchestrator.state.snapshot_store import Store
from tests.support.memory import MemoryBroker, MemoryPort, connect
from tests.support.server import make_settings
from tests.support.waiting import eventually
from wf.jetstream import topology
from wf.jetstream.cloud_event_message import cloud_event_message
from wf.jetstream.port import Delivery, Outgoing
from wf.protocol import messages, subjects


class Killed(BaseException):
    """The process ends."""


async def child(pieces: Sequence[Piece]) -> Fall | None:
    """In place of a forked one."""
    for number, piece in enumerate(pieces):
        try:
            piece()
        except Killed:
            return Fall(number, "SIGSEGV")
    return None


def guard_of(tmp_path: Path) -> Guard:
    return Guard(Journal(tmp_path / "o.journal", GUARDED), child)


async def broker(tmp_path: Path) -> MemoryPort:
    port = await connect(MemoryBroker())
    await topology.ensure(port, make_settings(tmp_path))
    return port


async def letters(port: MemoryPort) -> list[dict[str, Any]]:
    found = await port.scan(topology.DEAD_LETTERS, "dead.>")
    return [orjson.loads(one.data)["evidence"] for one in found]


FLOW = """
document: {{dsl: '1.0.3', namespace: default, name: f{n}, version: '1.0.0'}}
do: [{{a: {{set: {{b: 1}}}}}}]
"""


async def test_definitions_that_kill_the_compiler_cost_one_death_and_the_others_are_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killing(document: Any, subject: str, **options: Any) -> Any:
        if subject.split(".")[3] in ("f1", "f2", "f7"):
            raise Killed
        return parse(document, subject, **options)

    monkeypatch.setattr(defining, "parse", killing)
    port = await broker(tmp_path)
    for n in range(10):
        definition = parse(FLOW.format(n=n))
        subject = subjects.definition("default", definition.name, definition.version)
        await port.publish(
            topology.WORKFLOW_DEFINITIONS, [Outgoing(subject, canonical_bytes(definition))]
        )
    with pytest.raises(Killed):
        await Definitions(port, guard_of(tmp_path)).entries.start()
    for _ in range(30):  # boots; those that kill lie there for good
        known = Definitions(port, guard_of(tmp_path))
        await known.entries.start()
        assert {name for _, name in known.versions()} == {f"f{n}" for n in (0, 3, 4, 5, 6, 8, 9)}
    told = await letters(port)
    assert [one["sequence"] for one in told] == [2, 3, 8]
    assert all("SIGSEGV" in one["reason"] for one in told)
    await port.close()


async def listen(port: MemoryPort, key: str) -> None:
    body = messages.encode(messages.listener_body(from_ms=0, correlate=[]))
    await port.publish(topology.WORKFLOW_LISTENERS, [Outgoing(subjects.listener(key), body)])


async def test_events_that_kill_the_correlator_cost_one_death_and_the_others_are_heard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    matched = correlating._matched

    def killing(stored: Any, event: Any, keys: Any) -> Any:
        if event["data"] % 3 == 1:
            raise Killed
        return matched(stored, event, keys)

    monkeypatch.setattr(correlating, "_matched", killing)
    port = await broker(tmp_path)
    await listen(port, "paid.all.i.1")
    for n in range(9):
        event = {"specversion": "1.0", "id": str(n), "source": "/s", "type": "paid", "data": n}
        await port.publish(topology.CLOUD_EVENTS, [cloud_event_message(event, str(n))])

    async def life() -> None:
        await port.reset_consumer(topology.CLOUD_EVENTS, topology.LISTENERS)
        guard = guard_of(tmp_path)
        one = Correlator(port, Triggers(Definitions(port, guard)), batch=10, guard=guard)
        await one.match()

    with pytest.raises(Killed):
        await life()
    second = asyncio.create_task(life())

    async def heard() -> bool:
        stored = await port.scan(topology.WORKFLOW_EVENTS, "workflow.engine.event.>")
        data = [orjson.loads(one.data)["cloud_event"]["data"] for one in stored]
        return data == [0, 2, 3, 5, 6, 8] and len(await letters(port)) == 3

    await eventually(heard, what="all but those that kill")
    assert {one["sequence"] for one in await letters(port)} == {2, 5, 8}
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)
    await port.close()


async def test_a_message_that_breaks_a_loop_is_set_aside_alone(tmp_path: Path) -> None:
    port = await broker(tmp_path)
    for n in range(20):
        await port.publish(topology.CLOUD_EVENTS, [Outgoing("cloudevents.a", str(n).encode())])
    done: list[int] = []

    async def work(taken: list[Delivery]) -> None:
        numbers = [int(one.data) for one in taken]
        if {4, 11} & set(numbers):
            raise KeyError("\ud83d")
        done.extend(numbers)

    reading = asyncio.create_task(read(port, topology.CLOUD_EVENTS, topology.LISTENERS, 7, work))

    async def through() -> bool:
        assert not reading.done(), reading.exception()
        return await port.ack_floor(topology.CLOUD_EVENTS, topology.LISTENERS) == 20

    await eventually(through, what="the end of the stream")
    assert done == [n for n in range(20) if n not in (4, 11)]
    assert [one["payload"] for one in await letters(port)] == ["4", "11"]
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    await port.close()


def flow_state(instance: str, sequence: int) -> Outgoing:
    """A stored instance whose outbox, one history entry, may not be published."""
    snapshot = {"id": instance, "workflow": "f", "namespace": "default", "version": "1.0.0"}
    snapshot |= {"status": "running", "started_ms": 1, "input": None, "context": {}, "frames": {}}
    snapshot |= {"runs": {}, "timers": {}, "results": {}}
    history = [(5, topology.WORKFLOW_EVENTS, sequence, [], {"kind": "gone"})]
    events = [(topology.WORKFLOW_EVENTS, sequence)]
    commit = records.Commit(1, "t", events=events, history=history)
    return Outgoing(subjects.state(instance), records.encode(snapshot, commit))


@pytest.mark.parametrize("what", ["decode", "outbox"])
async def test_states_that_kill_cost_one_death_and_the_others_are_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """When they are read, or when the outbox is made of them that a predecessor left."""
    bad = {"i1", "i2", "i7"}
    decode, build = records.decode, outboxes.build

    def decoding(stored: Any) -> Any:
        if what == "decode" and stored.subject.rpartition(".")[2] in bad:
            raise Killed
        return decode(stored)

    def building(snapshot: Any, *more: Any) -> Any:
        if what == "outbox" and snapshot["id"] in bad:
            raise Killed
        return build(snapshot, *more)

    monkeypatch.setattr(records, "decode", decoding)
    monkeypatch.setattr(outboxes, "build", building)
    port = await broker(tmp_path)
    names = [f"i{n}" for n in range(10)]
    await port.publish(topology.WORKFLOW_STATES, [flow_state(name, 9) for name in names])

    async def life() -> dict[str, records.Record]:
        guard = guard_of(tmp_path)
        loaded = await Store(port, Cache(1 << 20), guard).read(names)
        cold = {name: record for name, record in loaded.items() if not record.flushed}
        assert not await Publisher(port, TimerCap(port, 100), guard).flush(cold)
        return loaded

    with pytest.raises(Killed):
        await life()
    for _ in range(30):  # what is stored stays as it is
        loaded = await life()
        assert {name for name, record in loaded.items() if record.unusable} == bad
        assert all("SIGSEGV" in loaded[name].unusable for name in bad)
    told = await port.scan(topology.WORKFLOW_HISTORY, "workflow.history.>")
    assert {one.subject.rpartition(".")[2] for one in told} == set(names) - bad
    await port.close()


@pytest.mark.parametrize("data", [b"{", b"7", b"[]", b"{}", b'{"status": 1}'])
async def test_a_state_that_is_none_ends_no_audit_and_keeps_its_place(
    tmp_path: Path, data: bytes
) -> None:
    port = await broker(tmp_path)
    admission = Admission(port, Definitions(port), batch=10)
    name = subjects.state("i")
    await port.publish(topology.WORKFLOW_STATES, [Outgoing(name, data)])
    stored = await port.last(topology.WORKFLOW_STATES, name)
    assert admission._wants(stored, "default.f.all.0000000000000001.i.1")
    await port.close()


async def test_events_that_kill_who_decodes_them_cost_one_death(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, bad = loop.read, {"1", "2", "7"}

    def killing(delivery: Delivery, own_from: int = 0) -> Any:
        if delivery.subject.split(".")[-2] in bad:  # the partition comes last
            raise Killed
        return reading(delivery, own_from)

    monkeypatch.setattr(loop, "read", killing)
    memory = MemoryBroker()
    port = await connect(memory)
    await topology.ensure(port, make_settings(tmp_path))
    for n in range(10):
        subject = f"workflow.command.requested.i.{n}"
        await port.publish(topology.WORKFLOW_EVENTS, [Outgoing(subject, b"{}")])

    async def life() -> None:
        own = await connect(memory)
        await own.reset_consumer(topology.WORKFLOW_EVENTS, topology.ORCHESTRATOR)
        one = Service(own, Lanes(), Leases(own, 10.0), batch=100, guard=guard_of(tmp_path))
        try:
            await one._intake(topology.WORKFLOW_EVENTS, topology.ORCHESTRATOR)
        finally:
            own.cut()

    with pytest.raises(Killed):
        await life()
    second = asyncio.create_task(life())

    async def told() -> bool:
        assert not second.done(), second.exception()
        return {one["sequence"] for one in await letters(port)} >= {2, 3, 8}

    await eventually(told, what="the dead letters")
    deadly = [one for one in await letters(port) if "SIGSEGV" in one["reason"]]
    assert [one["sequence"] for one in deadly] == [2, 3, 8]
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)
    await port.close()
