"""listen against the real server: early, late, many, and whoever dies meanwhile."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from orchestrator.dispatch.effects import unlisten
from tests.support.engine import (
    Engine,
    deploy,
    ended,
    engine,
    history,
    in_status,
    settled,
    snapshot,
    start,
)
from tests.support.server import RealServer
from tests.support.waiting import eventually
from wf.client.client import Client
from wf.jetstream import topology
from wf.jetstream.client import JetStream
from wf.jetstream.port import Outgoing
from wf.protocol import messages, subjects

PAID = """
document: {dsl: '1.0.3', namespace: default, name: paid, version: '1.0.0'}
do:
  - pause: {wait: {milliseconds: 5}}
  - hear:
      listen:
        to:
          one:
            with: {type: com.example.paid.v1}
            correlate:
              order: {from: .data.order, expect: "${ $workflow.input.order }"}
"""
COUNT = """
document: {dsl: '1.0.3', namespace: default, name: count, version: '1.0.0'}
do:
  - hear:
      listen:
        to:
          any: [{with: {type: tick, data: "${ .n != 3 }"}}]
          until: "length == 5"
"""
START = """
document: {dsl: '1.0.3', namespace: default, name: begin, version: '1.0.0'}
do:
  - hear: {listen: {to: {one: {with: {type: race.begun}}}}}
"""


async def paid(js: JetStream, order: Any, **more: Any) -> None:
    await Client(js).emit("com.example.paid.v1", {"order": order, **more})


async def index(js: JetStream) -> list[str]:
    """Keys that are in the index."""
    stored = await js.scan(topology.WORKFLOW_LISTENERS, "$KV.WORKFLOW_LISTENERS.>")
    return [one.subject for one in stored if not one.is_marker]


async def emptied(js: JetStream) -> None:
    async def look() -> bool:
        return not await index(js)

    await eventually(look, what="an empty index")


async def test_an_event_reaches_the_one_that_waits_for_it(
    js: JetStream, nats_server: RealServer
) -> None:
    await deploy(js, PAID)
    async with engine(nats_server):
        for n in range(3):
            await start(js, "paid", f"i{n}", {"order": n})
        for n in range(3):
            await in_status(js, f"i{n}", "waiting")
        await paid(js, 1, amount=5)
        assert (await ended(js, "i1"))["output"] == [{"order": 1, "amount": 5}]
        await settled(js)
        for n in (0, 2):
            assert (await snapshot(js, f"i{n}"))["status"] == "waiting"


async def test_an_event_from_before_the_listener_is_not_lost(
    js: JetStream, nats_server: RealServer
) -> None:
    await deploy(js, PAID)
    await paid(js, 7)
    async with engine(nats_server):
        await asyncio.sleep(0)
        await start(js, "paid", "i", {"order": 7})
        assert (await ended(js, "i"))["output"] == [{"order": 7}]
        await emptied(js)


async def test_an_event_older_than_the_buffer_is_not_looked_for(
    js: JetStream, nats_server: RealServer
) -> None:
    await deploy(js, PAID)
    plain = nats_server.settings()
    orchestrator = plain.orchestrator.model_copy(update={"event_buffer": 0.0})
    settings = plain.model_copy(update={"orchestrator": orchestrator})
    await paid(js, 7)
    async with engine(nats_server, settings=settings):
        await start(js, "paid", "i", {"order": 7})
        await eventually(lambda: index(js), what="a listener")
        await paid(js, 7, second=True)
        assert (await ended(js, "i"))["output"] == [{"order": 7, "second": True}]


async def test_without_correlation_an_event_from_before_the_start_is_nobodys(
    js: JetStream, nats_server: RealServer
) -> None:
    await deploy(js, START)
    await Client(js).emit("race.begun", 1)
    async with engine(nats_server):
        await start(js, "begin", "i")
        await eventually(lambda: index(js), what="a listener")
        await Client(js).emit("race.begun", 2)
        assert (await ended(js, "i"))["output"] == [2]


async def test_events_are_heard_in_order_and_once_and_the_index_is_empty_at_the_end(
    js: JetStream, nats_server: RealServer
) -> None:
    await deploy(js, COUNT)
    async with engine(nats_server):
        await start(js, "count", "i")
        await eventually(lambda: index(js), what="a listener")
        for n in range(7):
            await Client(js).emit("tick", {"n": n})
        assert [data["n"] for data in (await ended(js, "i"))["output"]] == [0, 1, 2, 4, 5]
        await emptied(js)


async def test_a_thousand_listeners_hear_one_event(js: JetStream, nats_server: RealServer) -> None:
    await deploy(js, START)
    names = [f"i{n}" for n in range(1000)]
    async with engine(nats_server):
        messages_ = [
            Outgoing(
                subjects.start("default", "begin"),
                messages.encode(messages.start_body(instance=name, input=None)),
            )
            for name in names
        ]
        await js.publish_batch(topology.WORKFLOW_EVENTS, messages_)

        async def all_wait() -> bool:
            return len(await index(js)) == 1000

        await eventually(all_wait, limit_s=30, what="a thousand listeners")
        await Client(js).emit("race.begun", "go")
        for name in names:
            assert (await ended(js, name))["output"] == ["go"]
        await emptied(js)


async def test_two_orchestrators_share_events_and_listeners(
    js: JetStream, nats_server: RealServer, tmp_path: Any
) -> None:
    await deploy(js, PAID)
    plain = nats_server.settings()
    supervisor = plain.supervisor.model_copy(update={"state_dir": tmp_path / "other"})
    other = plain.model_copy(update={"supervisor": supervisor})
    async with engine(nats_server), engine(nats_server, settings=other):
        for n in range(60):
            if n % 3 == 0:
                await paid(js, n)
            await start(js, "paid", f"i{n}", {"order": n})
            if n % 3 == 1:
                await paid(js, n)
        for n in range(2, 60, 3):
            await paid(js, n)
        for n in range(60):
            assert (await ended(js, f"i{n}"))["output"] == [{"order": n}]
        await settled(js)
        await emptied(js)


async def test_an_entry_that_leads_nowhere_is_cleared(
    js: JetStream, nats_server: RealServer
) -> None:
    """As after a lost race: the entry is published once more when its listener is gone."""
    await deploy(js, START)
    async with engine(nats_server):
        await start(js, "begin", "i")
        (subject,) = await eventually(lambda: index(js), what="a listener")
        stored = await js.last(topology.WORKFLOW_LISTENERS, subject)
        await Client(js).emit("race.begun", 1)
        await ended(js, "i")
        await emptied(js)
        assert stored is not None
        await js.publish(topology.WORKFLOW_LISTENERS, [Outgoing(subject, stored.data)])
        await Client(js).emit("race.begun", 2)
        await emptied(js)


async def test_a_signal_cannot_clear_the_entry_of_somebody_else(
    js: JetStream, nats_server: RealServer
) -> None:
    await deploy(js, START)
    async with engine(nats_server) as one:
        await start(js, "begin", "i")
        (subject,) = await eventually(lambda: index(js), what="a listener")
        entry = subject.removeprefix("$KV.WORKFLOW_LISTENERS.")
        body = messages.matched_body(event={}, sequence=1, time_ms=1, entry=entry)
        forged = Outgoing(subjects.own_event("nobody", "1"), messages.encode(body))
        await js.publish(topology.WORKFLOW_EVENTS, [forged])
        await settled(js)
        await one.orchestrator._correlator.clear_stale()
        assert await index(js) == [subject]


async def test_what_is_no_cloud_event_is_set_aside(js: JetStream, nats_server: RealServer) -> None:
    async with engine(nats_server):
        await js.publish(topology.CLOUD_EVENTS, [Outgoing("cloudevents.x", b"no event")])

        async def letters() -> list[Any]:
            return await js.scan(topology.DEAD_LETTERS, "dead.message.>")

        (letter,) = await eventually(letters, what="a dead letter")
        assert b"not a CloudEvent" in letter.data


async def test_a_signal_reaches_a_listen_by_its_name(
    js: JetStream, nats_server: RealServer
) -> None:
    await deploy(js, PAID)
    async with engine(nats_server):
        await start(js, "paid", "i", {"order": 1})
        await Client(js).signal("i", "hear", {"by": "hand"})  # perhaps before it listens
        assert (await ended(js, "i"))["output"] == [{"by": "hand"}]
        await start(js, "paid", "j", {"order": 1})
        await Client(js).signal("j", "com.example.paid.v1", {"order": 1})
        assert (await ended(js, "j"))["output"] == [{"order": 1}]
        await emptied(js)


async def test_the_broker_is_restarted_while_instances_listen(broker: RealServer) -> None:
    js = await broker.connect()
    await topology.ensure(js, broker.settings())
    await deploy(js, PAID)
    async with engine(broker):
        for n in range(20):
            await start(js, "paid", f"i{n}", {"order": n})
            if n == 10:
                await asyncio.to_thread(broker.restart)
            if n % 2:
                await paid(js, n)
        await asyncio.to_thread(broker.restart)
        for n in range(0, 20, 2):
            await paid(js, n)
        for n in range(20):
            assert (await ended(js, f"i{n}"))["output"] == [{"order": n}]
        await emptied(js)
    await js.close()


# --- crashes ----------------------------------------------------------------------------------

POINTS = 36


async def check(js: JetStream, instance: str, output: Any) -> None:
    final = await ended(js, instance)
    assert final["status"] == "completed", final
    assert final["output"] == output
    await settled(js)
    taken = [
        entry["sequence"]
        for message in {(m["commit"], m["n"]): m for m in await history(js, instance)}.values()
        for entry in message["entries"]
        if entry["type"] == "event.consumed"
    ]
    assert len(taken) == len(set(taken)) == 1


@pytest.mark.parametrize("early", [True, False])
@pytest.mark.parametrize("die_at", range(POINTS))
async def test_dying_at_any_await_loses_no_event(
    js: JetStream, nats_server: RealServer, die_at: int, early: bool
) -> None:
    await deploy(js, PAID)
    if early:
        await paid(js, 1)

    async def life(one: Engine) -> None:
        await start(js, "paid", "i", {"order": 1})
        if not early:
            assert one.task is not None
            waiting = asyncio.create_task(eventually(lambda: index(js), what="a listener"))
            await asyncio.wait([waiting, one.task], return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
            await paid(js, 1)
        done = [asyncio.create_task(ended(js, "i")), asyncio.create_task(one.died())]
        await asyncio.wait(done, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.cancel()
        await asyncio.gather(*done, return_exceptions=True)

    async with engine(nats_server, die_at) as first:
        if first.task is not None:
            await life(first)
        else:
            await start(js, "paid", "i", {"order": 1})
            if not early:
                await paid(js, 1)
    async with engine(nats_server):
        await check(js, "i", [{"order": 1}])
        await emptied(js)


async def test_a_life_has_no_more_crash_points_than_are_tried(
    js: JetStream, nats_server: RealServer
) -> None:
    await deploy(js, PAID)
    await paid(js, 1)
    async with engine(nats_server) as first:
        await start(js, "paid", "i", {"order": 1})
        await check(js, "i", [{"order": 1}])
        await emptied(js)
        assert POINTS // 2 < len(first.port.points) <= POINTS, first.port.points


def test_a_marker_names_its_key() -> None:
    assert unlisten("a.b.c.1").subject == "$KV.WORKFLOW_LISTENERS.a.b.c.1"
