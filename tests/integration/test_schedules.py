"""Workflows that start by themselves, with a real server and its message schedules."""

from __future__ import annotations

import asyncio
import time
from itertools import pairwise
from typing import Any

import pytest

from tests.support.engine import deploy, ended, engine, settled, start
from tests.support.server import RealServer
from tests.support.waiting import eventually
from wf.client import definitions, schedules
from wf.jetstream import topology
from wf.jetstream.client import JetStream
from wf.protocol import subjects
from wf.protocol.ids import scheduled_id

POINTS = 16


def flow(schedule: str, version: str = "1.0.0", name: str = "tick") -> str:
    return f"""
document: {{dsl: '1.0.0', namespace: default, name: {name}, version: '{version}'}}
{f"schedule: {schedule}" if schedule else ""}
do:
  - note: {{set: {{version: '{version}'}}}}
"""


async def names(js: JetStream) -> list[str]:
    """All instances that were ever started, from history, in the order of their first message."""
    stored = await js.scan(topology.WORKFLOW_HISTORY, subjects.history("*"))
    return list(dict.fromkeys(one.subject.rpartition(".")[2] for one in stored))


async def at_least(js: JetStream, count: int) -> list[str]:
    async def look() -> list[str] | None:
        found = await names(js)
        return found if len(found) >= count else None

    found = await eventually(look, limit_s=15, what=f"{count} instances")
    assert found is not None
    return found


async def next_due(js: JetStream) -> schedules.Pending | None:
    return (await schedules.pending(js)).get(("default", "tick"))


def now_ms() -> int:
    return time.time_ns() // 1_000_000


async def test_every_starts_an_instance_at_each_multiple_and_only_one(
    js: JetStream, nats_server: RealServer
) -> None:
    await deploy(js, flow("{every: {seconds: 1}}"))
    async with engine(nats_server), engine(nats_server):
        found = await at_least(js, 3)
    dues = range(now_ms() // 1000 - 30, now_ms() // 1000 + 2)
    known = {scheduled_id("tick", second * 1000): second for second in dues}
    seconds = [known[name] for name in found]
    assert seconds == list(range(seconds[0], seconds[0] + len(seconds)))
    assert (await ended(js, found[0]))["output"] == {"version": "1.0.0"}


async def test_cron_is_stored_for_its_next_time_and_stays_over_restarts(
    js: JetStream, nats_server: RealServer
) -> None:
    await deploy(js, flow("{cron: '0 2 * * *'}"))
    async with engine(nats_server):
        first = await next_due(js)
    assert first is not None
    assert first.schedule == "cron 0 0 2 * * * UTC"
    assert first.due_ms % 86_400_000 == 2 * 3_600_000
    assert 0 < first.due_ms - now_ms() <= 86_400_000
    async with engine(nats_server):
        assert await next_due(js) == first  # not stored again


async def test_a_newer_version_replaces_the_schedule_and_one_without_removes_it(
    js: JetStream, nats_server: RealServer
) -> None:
    await deploy(js, flow("{cron: '0 2 * * *'}"))

    async def is_scheduled(text: str | None) -> bool:
        found = await next_due(js)
        return (found and found.schedule) == text

    async with engine(nats_server):
        await eventually(lambda: is_scheduled("cron 0 0 2 * * * UTC"), what="the first")
        await deploy(js, flow("{cron: '0 3 * * *'}", "1.1.0"))
        await eventually(lambda: is_scheduled("cron 0 0 3 * * * UTC"), what="the second")
        await deploy(js, flow("", "1.2.0"))
        await eventually(lambda: is_scheduled(None), what="none")


async def test_the_schedule_of_a_deleted_definition_is_removed(
    js: JetStream, nats_server: RealServer
) -> None:
    await deploy(js, flow("{cron: '0 2 * * *'}"))
    async with engine(nats_server):
        assert await next_due(js) is not None
    [tick] = await definitions.registered(js)
    await definitions.delete(js, tick)
    async with engine(nats_server):
        assert await next_due(js) is None


async def test_what_fires_after_its_schedule_was_replaced_starts_nothing(
    js: JetStream, nats_server: RealServer
) -> None:
    await deploy(js, flow("{every: {hours: 1}}"))
    old = schedules.message("default", "tick", "every 1d", now_ms() - 1000)
    async with engine(nats_server) as one:
        await js.publish(topology.WORKFLOW_TIMERS, [old])

        async def is_ignored() -> bool:
            counts = one.orchestrator._engine.counts
            return bool(counts["ignored.unscheduled"])

        await eventually(is_ignored, what="the old one fired")
        assert await names(js) == []

        async def is_mended() -> bool:
            found = await next_due(js)
            return found is not None and found.schedule == "every 1h"

        await eventually(is_mended, what="the schedule is there again")


async def test_after_starts_again_that_long_after_each_end(
    js: JetStream, nats_server: RealServer
) -> None:
    await deploy(js, flow("{after: {milliseconds: 300}}"))
    async with engine(nats_server):
        assert await names(js) == []  # the first is started by hand
        await start(js, "tick", "first", {})
        found = await at_least(js, 3)
        ends = [await ended(js, name) for name in found[:3]]
    for before, after in pairwise(ends):
        assert after["started_ms"] >= before["ended_ms"] + 300


async def test_what_was_due_while_the_broker_was_down_starts_once(broker: RealServer) -> None:
    js = await broker.connect()
    await topology.ensure(js, broker.settings())
    await deploy(js, flow("{every: {seconds: 2}}"))
    async with engine(broker):
        await at_least(js, 1)
        first = await next_due(js)
        assert first is not None
        broker.kill9()
        while now_ms() < first.due_ms + 4500:  # two more would have been due
            await asyncio.sleep(0.05)
        broker.start()
        up_ms = now_ms()
        await at_least(js, 3)
    found = await names(js)
    assert found[1] == scheduled_id("tick", first.due_ms)  # late, and the only one that is
    after = {scheduled_id("tick", due) for due in range(up_ms // 2000 * 2000, up_ms + 9000, 2000)}
    assert set(found[2:]) <= after
    await js.close()


@pytest.mark.parametrize("die_at", range(POINTS))
async def test_dying_at_any_await_each_time_starts_one_and_the_next_is_stored(
    js: JetStream, nats_server: RealServer, die_at: int
) -> None:
    await deploy(js, flow("{every: {hours: 1}}"))
    due_ms = now_ms() // 3_600_000 * 3_600_000  # the last that was due
    first = schedules.message("default", "tick", "every 1h", due_ms)
    await js.publish(topology.WORKFLOW_TIMERS, [first])
    instance = scheduled_id("tick", due_ms)
    async with engine(nats_server, die_at) as one:
        done: Any
        done, _ = await asyncio.wait(
            [asyncio.create_task(ended(js, instance)), asyncio.create_task(one.died())],
            return_when=asyncio.FIRST_COMPLETED,
        )
        await asyncio.gather(*done)
    async with engine(nats_server):
        await ended(js, instance)
        await settled(js)
        assert await names(js) == [instance]

        async def is_stored() -> bool:
            found = await next_due(js)
            return found is not None and found.due_ms == due_ms + 3_600_000

        await eventually(is_stored, what="the next one")
