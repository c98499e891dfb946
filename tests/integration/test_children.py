"""run: workflow, with a real server: parents and children as instances of their own."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from orchestrator.definition import parse
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
from wf.jetstream.client import JetStream
from wf.protocol import messages, subjects
from wf.protocol.ids import child_id

PARENT = """
document: {dsl: '1.0.0', namespace: default, name: parent, version: '1.0.0'}
do:
  - ship:
      run: {workflow: {namespace: default, name: child, version: latest, input: {n: "${ .n + 1 }"}}}
  - sum: {set: {total: "${ .n }"}}
"""
CHILD = """
document: {dsl: '1.0.0', namespace: default, name: child, version: '1.0.0'}
do:
  - work: {call: a, with: {n: "${ .n * 10 }"}}
"""
WAITING = """
document: {dsl: '1.0.0', namespace: default, name: child, version: '1.0.0'}
do:
  - pause: {wait: {hours: 1}}
"""
POINTS = 44  # measured by the test below


def lookup(namespace: str, name: str, version: str | None) -> Any:
    return parse(PARENT if name == "parent" else CHILD)


async def check(js: JetStream, instance: str, output: Any) -> None:
    """The end, and that history tells the same."""
    final = await ended(js, instance, limit_s=30)
    await settled(js)
    final.pop("commit")
    assert final["status"] == "completed", final
    assert final["output"] == output
    assert fold(await history(js, instance), lookup) == final


@pytest.mark.parametrize("die_at", range(POINTS))
async def test_dying_at_any_await_a_child_runs_once_and_its_parent_hears_of_it(
    js: JetStream, nats_server: RealServer, die_at: int
) -> None:
    for one in (PARENT, CHILD):
        await deploy(js, one)
    await start(js, "parent", "p", {"n": 1})
    async with FakeWorker(js, {"a": succeed()}) as worker:
        async with engine(nats_server, die_at) as first:
            done, _ = await asyncio.wait(
                [asyncio.create_task(ended(js, "p")), asyncio.create_task(first.died())],
                return_when=asyncio.FIRST_COMPLETED,
            )
            await asyncio.gather(*done)
        async with engine(nats_server):
            await check(js, "p", {"total": 20})
            await check(js, child_id("p", 1), {"n": 20})
        assert set(worker.ran) == {(child_id("p", 1), 1, 1)}


async def test_a_life_has_no_more_crash_points_than_are_tried(
    js: JetStream, nats_server: RealServer
) -> None:
    for one in (PARENT, CHILD):
        await deploy(js, one)
    async with FakeWorker(js, {"a": succeed()}), engine(nats_server) as first:
        await start(js, "parent", "p", {"n": 1})
        await check(js, "p", {"total": 20})
        assert POINTS // 2 < len(first.port.points) <= POINTS, first.port.points


@pytest.mark.parametrize("die_at", range(24))
async def test_dying_at_any_await_a_cancelled_parent_takes_its_child_with_it(
    js: JetStream, nats_server: RealServer, die_at: int
) -> None:
    for one in (PARENT, WAITING):
        await deploy(js, one)
    child = child_id("p", 1)
    async with engine(nats_server):
        await start(js, "parent", "p", {"n": 1})
        await in_status(js, child, "waiting")
        await settled(js)
    await send(js, subjects.command("p", "cancel"), messages.command_body(reason="no stock"))
    async with engine(nats_server, die_at) as first:
        done, _ = await asyncio.wait(
            [asyncio.create_task(ended(js, child)), asyncio.create_task(first.died())],
            return_when=asyncio.FIRST_COMPLETED,
        )
        await asyncio.gather(*done)
    async with engine(nats_server):
        assert (await ended(js, "p"))["status"] == "cancelled"
        final = await ended(js, child)
        assert final["status"] == "cancelled"
        assert final["reason"] == "run 1 of p, which started it, has ended"
        assert final["timers"] == {}


async def test_a_child_that_nobody_deployed_faults_its_parent(
    js: JetStream, nats_server: RealServer
) -> None:
    await deploy(js, PARENT)
    async with engine(nats_server):
        await start(js, "parent", "p", {"n": 1})
        final = await ended(js, "p")
        assert final["status"] == "faulted"
        assert final["error"]["status"] == 404
        assert final["error"]["instance"] == "/do/0/ship"
        assert "workflow 'child' is not registered" in final["error"]["detail"]
        assert final["error"]["child"]["id"] == child_id("p", 1)


async def test_an_id_that_is_somebody_elses_faults_the_parent_instead_of_leaving_it_waiting(
    js: JetStream, nats_server: RealServer
) -> None:
    for one in (PARENT, WAITING):
        await deploy(js, one)
    async with engine(nats_server):
        await start(js, "child", child_id("p", 1), {})
        await in_status(js, child_id("p", 1), "waiting")
        await start(js, "parent", "p", {"n": 1})
        final = await ended(js, "p")
        assert final["error"]["title"] == "Child not started"
        assert (await snapshot(js, child_id("p", 1)) or {})["status"] == "waiting"


async def test_a_second_start_of_a_child_tells_its_parent_nothing(
    js: JetStream, nats_server: RealServer
) -> None:
    for one in (PARENT, WAITING):
        await deploy(js, one)
    child = child_id("p", 1)
    async with engine(nats_server):
        await start(js, "parent", "p", {"n": 1})
        await in_status(js, child, "waiting")
        parent = {"id": "p", "run": 1, "awaited": True}
        body = messages.start_body(instance=child, input={}, parent=parent, depth=1)
        await send(js, subjects.start("default", "child"), body)
        await settled(js)
        assert (await snapshot(js, "p") or {})["status"] == "running"


async def test_a_recursion_without_an_end_faults(js: JetStream, nats_server: RealServer) -> None:
    await deploy(
        js,
        """
document: {dsl: '1.0.0', namespace: default, name: loop, version: '1.0.0'}
do:
  - again: {run: {workflow: {namespace: default, name: loop}}}
""",
    )
    async with engine(nats_server):
        await start(js, "loop", "l", {})
        final = await ended(js, "l", limit_s=30)
        assert final["status"] == "faulted"
        assert final["error"]["title"] == "Too many workflows deep"


async def test_many_parents_each_with_a_child(js: JetStream, nats_server: RealServer) -> None:
    for one in (PARENT, CHILD):
        await deploy(js, one)
    names = [f"p{n}" for n in range(100)]
    async with FakeWorker(js, {"a": succeed()}), engine(nats_server):
        for name in names:
            await start(js, "parent", name, {"n": 1})
        for name in names:
            final = await ended(js, name, limit_s=30)
            assert final["output"] == {"total": 20}


async def test_a_child_that_is_not_awaited_outlives_its_parent(
    js: JetStream, nats_server: RealServer
) -> None:
    await deploy(js, PARENT.replace("{workflow:", "{await: false, workflow:"))
    await deploy(js, WAITING)
    child = child_id("p", 1)
    async with engine(nats_server):
        await start(js, "parent", "p", {"n": 1})
        assert (await ended(js, "p"))["output"] == {"total": 1}
        found = await in_status(js, child, "waiting")
        assert found["parent"] == {"id": "p", "run": 1, "awaited": False}
