"""Workflows that events start (`schedule.on`), with a real server, and whoever dies meanwhile."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from orchestrator.cloudevents import event_sets
from tests.support.engine import deploy, ended, engine, settled
from tests.support.server import RealServer
from tests.support.waiting import eventually
from wf.client.client import Client
from wf.jetstream import topology
from wf.jetstream.client import JetStream
from wf.jetstream.cloud_event_message import cloud_event_message
from wf.protocol import subjects

POINTS = 16
ONE = "{one: {with: {type: order.placed, data: '${ .n >= 0 }'}}}"
ALL = """{all: [
  {with: {type: order.placed}, correlate: {order: {from: .data.order}}},
  {with: {type: order.paid}, correlate: {order: {from: .data.of}}}]}"""


def flow(on: str | None = ONE, version: str = "1.0.0", name: str = "ship") -> str:
    return f"""
document: {{dsl: '1.0.3', namespace: default, name: {name}, version: '{version}'}}
{f"schedule: {{on: {on}}}" if on else ""}
do:
  - note: {{set: {{version: '{version}', events: '${{ $workflow.input | map(.data) }}'}}}}
"""


async def emit(js: JetStream, type_: str, data: Any) -> None:
    await Client(js).emit(type_, data)


async def names(js: JetStream) -> list[str]:
    """All instances that were ever started, in the order of their first message."""
    stored = await js.scan(topology.WORKFLOW_HISTORY, subjects.history("*"))
    return list(dict.fromkeys(one.subject.rpartition(".")[2] for one in stored))


async def outputs(js: JetStream, count: int) -> list[Any]:
    """Of `count` instances, when there are as many; and there are no more once all is settled."""

    async def look() -> bool:
        return len(await names(js)) >= count

    await eventually(look, limit_s=15, what=f"{count} instances")
    await matched(js)
    await settled(js)
    found = await names(js)
    assert len(found) == count
    return [(await ended(js, name))["output"] for name in found]


async def matched(js: JetStream) -> None:
    """All events are acknowledged."""

    async def look() -> bool:
        floor = await js.ack_floor(topology.CLOUD_EVENTS, topology.LISTENERS)
        return floor >= await js.last_sequence(topology.CLOUD_EVENTS)

    await eventually(look, limit_s=40, what="all events matched")


async def collections(js: JetStream) -> list[Any]:
    stored = await js.scan(topology.WORKFLOW_COLLECTIONS, subjects.collection(">"))
    return [orjson.loads(one.data) for one in stored if not one.is_marker]


async def test_each_event_that_fits_starts_an_instance(
    js: JetStream, nats_server: RealServer
) -> None:
    await deploy(js, flow())
    async with engine(nats_server):
        for n in (1, -1, 2):
            await emit(js, "order.placed", {"n": n})
        await emit(js, "order.paid", {"n": 3})
        found = await outputs(js, 2)
    assert [one["events"] for one in found] == [[{"n": 1}], [{"n": 2}]]


async def test_any_starts_one_instance_for_an_event_though_two_filters_fit(
    js: JetStream, nats_server: RealServer
) -> None:
    await deploy(js, flow("{any: [{with: {type: a}}, {with: {type: b}}, {with: {type: a}}]}"))
    async with engine(nats_server):
        for type_ in ("a", "b", "c"):
            await emit(js, type_, type_)
        assert [one["events"] for one in await outputs(js, 2)] == [["a"], ["b"]]


async def test_events_of_any_type_are_not_those_that_the_engine_makes_of_it(
    js: JetStream, nats_server: RealServer
) -> None:
    """Else the first one would be the first of endlessly many."""
    plain = nats_server.settings()
    orchestrator = plain.orchestrator.model_copy(update={"lifecycle_events": True})
    settings = plain.model_copy(update={"orchestrator": orchestrator})
    await deploy(js, flow("{any: []}"))
    async with engine(nats_server, settings=settings):
        await emit(js, "whatever", 7)
        assert [one["events"] for one in await outputs(js, 1)] == [[7]]


async def test_all_collects_one_event_of_each_filter_by_its_correlation(
    js: JetStream, nats_server: RealServer
) -> None:
    await deploy(js, flow(ALL))
    async with engine(nats_server):
        await emit(js, "order.paid", {"of": 2})
        await emit(js, "order.placed", {"order": 1})
        await emit(js, "order.placed", {"order": 3})
        await emit(js, "order.placed", {"order": 2})
        await emit(js, "order.paid", {"of": 1})
        found = await outputs(js, 2)
    assert [one["events"] for one in found] == [
        [{"order": 2}, {"of": 2}],
        [{"order": 1}, {"of": 1}],
    ]
    assert [len(one["open"]) for one in await collections(js) if one["open"]] == [1]


async def test_events_from_before_the_deployment_start_nothing_and_later_ones_are_not_lost(
    js: JetStream, nats_server: RealServer
) -> None:
    await topology.ensure(js, nats_server.settings())
    await emit(js, "order.placed", {"n": 1})
    await deploy(js, flow())
    await emit(js, "order.placed", {"n": 2})
    async with engine(nats_server):
        assert [one["events"] for one in await outputs(js, 1)] == [[{"n": 2}]]


async def test_a_newer_version_replaces_the_trigger_for_what_comes_after_it(
    js: JetStream, nats_server: RealServer
) -> None:
    await deploy(js, flow())
    await emit(js, "order.placed", {"n": 1})
    await deploy(js, flow("{one: {with: {type: order.paid}}}", "1.1.0"))
    await emit(js, "order.placed", {"n": 2})
    await emit(js, "order.paid", {"n": 3})
    async with engine(nats_server):
        assert await outputs(js, 2) == [
            {"version": "1.0.0", "events": [{"n": 1}]},
            {"version": "1.1.0", "events": [{"n": 3}]},
        ]
        await deploy(js, flow(None, "1.2.0"))
        await emit(js, "order.paid", {"n": 4})
        await outputs(js, 2)


async def test_what_was_collected_for_a_trigger_that_is_replaced_is_removed(
    js: JetStream, nats_server: RealServer
) -> None:
    await deploy(js, flow(ALL))
    async with engine(nats_server) as one:
        await emit(js, "order.placed", {"order": 1})
        await eventually(lambda: collections(js), what="a collection")
        await deploy(js, flow(ALL, "1.0.1"))
        await one.orchestrator._correlator.collector.clean()
        await emit(js, "order.paid", {"of": 1})  # the same trigger: it goes on
        assert (await outputs(js, 1))[0]["version"] == "1.0.1"
        await emit(js, "order.placed", {"order": 2})
        await matched(js)
        await deploy(js, flow(None, "1.1.0"))

        async def is_empty() -> bool:
            await one.orchestrator._correlator.collector.clean()
            return all(not entry["open"] for entry in await collections(js))

        await eventually(is_empty, what="the collection is removed")


async def test_two_orchestrators_start_each_set_once(
    js: JetStream, nats_server: RealServer, tmp_path: Any
) -> None:
    plain = nats_server.settings()
    supervisor = plain.supervisor.model_copy(update={"state_dir": tmp_path / "other"})
    other = plain.model_copy(update={"supervisor": supervisor})
    await deploy(js, flow(ALL))
    await deploy(
        js, flow("{all: [{with: {type: order.placed}}, {with: {type: order.paid}}]}", name="pair")
    )
    async with engine(nats_server), engine(nats_server, settings=other):
        await asyncio.gather(*(emit(js, "order.placed", {"order": n}) for n in range(40)))
        await asyncio.gather(*(emit(js, "order.paid", {"of": n}) for n in range(40)))
        found = await outputs(js, 80)
    for side in ("order", "of"):
        seen = sorted(data[side] for one in found for data in one["events"] if side in data)
        assert seen == sorted([*range(40), *range(40)])


@pytest.mark.parametrize("die_at", range(6))
async def test_a_crash_at_any_point_of_a_start_makes_one_instance(
    js: JetStream, nats_server: RealServer, die_at: int
) -> None:
    await deploy(js, flow())
    async with engine(nats_server) as first:
        first.port._die_at = len(first.port.points) + die_at
        await emit(js, "order.placed", {"n": 1})
        await first.died()
    async with engine(nats_server):
        assert [one["events"] for one in await outputs(js, 1)] == [[{"n": 1}]]


@pytest.mark.parametrize("die_at", range(14))
async def test_a_crash_at_any_point_while_a_set_is_completed_makes_one_instance(
    js: JetStream, nats_server: RealServer, die_at: int
) -> None:
    await deploy(js, flow(ALL))
    async with engine(nats_server) as first:
        await emit(js, "order.placed", {"order": 1})
        await matched(js)
        await first.js.flush()
        first.port._die_at = len(first.port.points) + die_at
        await emit(js, "order.paid", {"of": 1})
        await first.died()
    async with engine(nats_server):
        found = await outputs(js, 1)
        assert [one["events"] for one in found] == [[{"order": 1}, {"of": 1}]]
        assert [one["open"] + one["done"] for one in await collections(js)] == [[]]


async def test_events_whose_acknowledgements_are_lost_are_not_taken_again(
    js: JetStream, nats_server: RealServer
) -> None:
    """Else each of them would be the first of another set."""
    await deploy(js, flow(ALL))
    await deploy(js, flow(ONE, name="other"))
    async with engine(nats_server) as first:
        first.port.acks_lost = True
        await emit(js, "order.placed", {"order": 1, "n": 1})
        await emit(js, "order.paid", {"of": 1})

        async def both() -> bool:
            return len(await names(js)) == 2

        await eventually(both, what="two instances")
    async with engine(nats_server):
        await outputs(js, 2)
        assert [one["open"] + one["done"] for one in await collections(js)] == [[]]


async def test_an_event_that_is_published_again_is_the_same_one(
    js: JetStream, nats_server: RealServer
) -> None:
    """As by an outbox after a crash, when the broker has forgotten its message id."""
    await deploy(js, flow(ALL))
    await deploy(js, flow(ONE, name="other"))
    event = {"specversion": "1.0", "id": "1", "source": "/shop", "type": "order.placed"}
    placed = {**event, "data": {"order": 1, "n": 1}}
    paid = {**event, "type": "order.paid", "data": {"of": 1}}
    async with engine(nats_server):
        for n, one in enumerate((placed, placed, paid, paid, placed)):
            await js.publish(topology.CLOUD_EVENTS, [cloud_event_message(one, f"again-{n}")])
        await outputs(js, 2)
        assert [one["open"] + one["done"] for one in await collections(js)] == [[]]


async def test_events_for_which_there_is_no_room_are_set_aside(
    js: JetStream, nats_server: RealServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_sets, "MARGIN_BYTES", js.max_payload - 9000)
    await deploy(js, flow(ALL))
    async with engine(nats_server):
        for n in range(8):
            await emit(js, "order.placed", {"order": 1, "n": n, "text": "x" * 1000})
        await matched(js)
        letters = await js.scan(topology.DEAD_LETTERS, "dead.message.>")
        assert len(letters) == 5
        assert all(b"too many events wait" in letter.data for letter in letters)
        # What completes a set has the other half of the room.
        for n in range(3):
            await emit(js, "order.paid", {"of": 1, "n": n, "text": "x" * 1000})
        found = await outputs(js, 3)
        assert [[data["n"] for data in one["events"]] for one in found] == [[0, 0], [1, 1], [2, 2]]
        assert len(await js.scan(topology.DEAD_LETTERS, "dead.message.>")) == 5


async def test_the_broker_dies_between_two_events_of_a_set(broker: RealServer) -> None:
    """It may have forgotten that the first was acknowledged."""
    js = await broker.connect()
    await topology.ensure(js, broker.settings())
    await deploy(js, flow(ALL))
    async with engine(broker):
        for n in range(20):
            await emit(js, "order.placed", {"order": n})
            if n in (7, 14):
                await asyncio.to_thread(broker.restart)
        await asyncio.to_thread(broker.restart)
        for n in range(20):
            await emit(js, "order.paid", {"of": n})
        found = await outputs(js, 20)
        assert sorted(one["events"][0]["order"] for one in found) == list(range(20))
        assert not any(one["open"] or one["done"] for one in await collections(js))
    await js.close()
