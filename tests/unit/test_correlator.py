"""The correlator on a broker in memory: what each of its two loops must see."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

from orchestrator.cloudevents.correlator import Correlator
from orchestrator.cloudevents.event_triggers import Triggers
from orchestrator.registry.definitions import Definitions
from tests.support.memory import MemoryBroker, MemoryPort, connect
from tests.support.port_cases import take
from tests.support.server import make_settings
from wf.jetstream import topology
from wf.jetstream.cloud_event_message import cloud_event_message
from wf.jetstream.port import Delivery, Outgoing
from wf.protocol import messages, subjects


async def broker(tmp_path: Path) -> MemoryPort:
    port = await connect(MemoryBroker())
    await topology.ensure(port, make_settings(tmp_path))
    return port


async def listen(port: MemoryPort, key: str, from_ms: int = 0) -> None:
    body = messages.encode(messages.listener_body(from_ms=from_ms, correlate=[]))
    await port.publish(topology.WORKFLOW_LISTENERS, [Outgoing(subjects.listener(key), body)])


async def emit(port: MemoryPort, type_: str, n: int) -> None:
    event = {"specversion": "1.0", "id": str(n), "source": "/s", "type": type_, "data": n}
    await port.publish(topology.CLOUD_EVENTS, [cloud_event_message(event, str(n))])


async def deliveries(port: MemoryPort, stream: str, consumer: str, count: int) -> list[Delivery]:
    pull = await port.pull(stream, consumer, window=100)
    taken = await take(pull, count)
    await pull.stop()
    return taken


async def told(port: MemoryPort) -> list[tuple[str, int]]:
    """(instance, data) of what was sent to listeners."""
    stored = await port.scan(topology.WORKFLOW_EVENTS, "workflow.engine.event.>")
    return [
        (one.subject.split(".")[3], orjson.loads(one.data)["cloud_event"]["data"]) for one in stored
    ]


async def test_an_event_is_matched_with_every_listener_stored_before_it(tmp_path: Path) -> None:
    """Though nobody has told the correlator of the entry."""
    port = await broker(tmp_path)
    correlator = Correlator(port, Triggers(Definitions(port)), batch=10)
    await correlator.entries.refresh()
    await listen(port, "paid.all.i.1")
    await emit(port, "paid", 1)
    taken = await deliveries(port, topology.CLOUD_EVENTS, topology.LISTENERS, 1)
    await correlator._match(taken)
    assert await told(port) == [("i", 1)]
    await correlator._match(taken)
    assert await told(port) == [("i", 1)], "the same message id"
    await port.close()


async def test_a_new_listener_gets_the_events_from_its_time_on(tmp_path: Path) -> None:
    port = await broker(tmp_path)
    correlator = Correlator(port, Triggers(Definitions(port)), batch=10)
    for n in range(3):
        await emit(port, "paid", n)
    await emit(port, "other", 9)
    first, second, _, _ = await port.scan(topology.CLOUD_EVENTS, "cloudevents.>")
    assert first.timestamp_ms <= second.timestamp_ms
    await listen(port, "paid.all.all.1", first.timestamp_ms)
    await listen(port, "paid.all.none.1", 2**42)
    await listen(port, "=.all.any.1", first.timestamp_ms)
    entries = await deliveries(port, topology.WORKFLOW_LISTENERS, topology.READ_BACK, 3)
    await correlator._look_back(entries)
    found = await told(port)
    assert [n for who, n in found if who == "all"] == [0, 1, 2]
    assert [n for who, n in found if who == "any"] == [0, 1, 2, 9]
    assert [n for who, n in found if who == "none"] == []
    await port.close()


async def test_entries_that_are_none_do_not_stop_the_others(tmp_path: Path) -> None:
    port = await broker(tmp_path)
    correlator = Correlator(port, Triggers(Definitions(port)), batch=10)
    await emit(port, "paid", 1)
    odd = [
        Outgoing("$KV.WORKFLOW_LISTENERS.odd", b"no json"),
        Outgoing("$KV.WORKFLOW_LISTENERS.a.b.c.1", b'{"from_ms": "x", "correlate": []}'),
    ]
    await port.publish(topology.WORKFLOW_LISTENERS, odd)
    await listen(port, "paid.all.i.1")
    entries = await deliveries(port, topology.WORKFLOW_LISTENERS, topology.READ_BACK, 3)
    await correlator._look_back(entries)
    assert await told(port) == [("i", 1)]
    await correlator.entries.refresh()
    await port.close()


async def test_a_stale_entry_is_taken_out_and_no_longer_found(tmp_path: Path) -> None:
    port = await broker(tmp_path)
    correlator = Correlator(port, Triggers(Definitions(port)), batch=10)
    await listen(port, "paid.all.i.1")
    await correlator.entries.refresh()
    correlator.clear("paid.all.i.1")
    await correlator.clear_stale()
    (marker,) = await port.scan(topology.WORKFLOW_LISTENERS, "$KV.WORKFLOW_LISTENERS.>")
    assert marker.is_marker
    await emit(port, "paid", 1)
    await correlator._match(await deliveries(port, topology.CLOUD_EVENTS, topology.LISTENERS, 1))
    assert await told(port) == []
    await port.close()


async def test_no_reconnect_comes_between_the_index_and_the_events(tmp_path: Path) -> None:
    """A reconnect empties the index and reads it anew, while other reads are awaited."""
    port = await broker(tmp_path)
    definitions = Definitions(port)
    correlator = Correlator(port, Triggers(definitions), batch=10)
    await listen(port, "paid.all.i.1")
    await port.publish(topology.CLOUD_EVENTS, [Outgoing("cloudevents.paid", b"no event")])
    await emit(port, "paid", 1)
    taken = await deliveries(port, topology.CLOUD_EVENTS, topology.LISTENERS, 2)

    def emptied(then: Any) -> Any:
        async def work(*arguments: Any) -> None:
            correlator.entries._known = 0
            correlator._index.clear()
            await then(*arguments)

        return work

    definitions.entries.catch_up = emptied(definitions.entries.catch_up)  # type: ignore[method-assign]
    correlator._set_aside = emptied(correlator._set_aside)  # type: ignore[method-assign]
    await correlator._match(taken)
    assert await told(port) == [("i", 1)]
    await port.close()
