"""Messages that kill, or break, what reads them beside the engine: on a broker in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest

from orchestrator import correlator as correlating
from orchestrator import definitions as defining
from orchestrator.correlator import Correlator
from orchestrator.definition import canonical_bytes, parse
from orchestrator.definitions import Definitions
from orchestrator.guard import GUARDED, Guard
from orchestrator.journal import Journal
from orchestrator.reading import read
from orchestrator.trial import Fall, Piece
from orchestrator.triggers import Triggers
from tests.support.memory import MemoryBroker, MemoryPort, connect
from tests.support.server import make_settings
from tests.support.waiting import eventually
from wf import cloudevents, messages, subjects
from wf.jetstream import topology
from wf.jetstream.port import Delivery, Outgoing


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
        if document["document"]["name"] in ("f1", "f2", "f7"):
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
        await port.publish(topology.CLOUD_EVENTS, [cloudevents.outgoing(event, str(n))])

    async def life() -> None:
        await port.reset_consumer(topology.CLOUD_EVENTS, topology.LISTENERS)
        guard = guard_of(tmp_path)
        one = Correlator(port, Triggers(Definitions(port, guard)), batch=10, guard=guard)
        await one.match()

    with pytest.raises(Killed):
        await life()
    second = asyncio.create_task(life())

    async def heard() -> bool:
        stored = await port.scan(topology.WORKFLOW_EVENTS, "workflow.signal.received.>")
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
