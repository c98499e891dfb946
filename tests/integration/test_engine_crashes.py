"""The orchestrator dies at every await of its life, and nothing is lost or done twice (§5, §6)."""

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
    fail_first,
    history,
    settled,
    start,
    succeed,
)
from tests.support.server import RealServer
from wf.jetstream import topology
from wf.jetstream.client import JetStream

FLOW = """
document: {dsl: '1.0.0', namespace: default, name: flow, version: '1.0.0'}
do:
  - a: {call: a, with: {n: "${ .n }"}}
  - pause: {wait: {milliseconds: 20}}
  - b:
      try:
        - risky: {call: b, with: {n: "${ .n + 1 }"}}
      catch:
        retry: {delay: {milliseconds: 5}, limit: {attempt: {count: 3}}}
  - total: {set: {total: "${ .n }"}}
"""

# Every crash point of one run on its own; measured below so that none is left out.
POINTS = 44


def lookup(namespace: str, name: str, version: str | None) -> Any:
    return parse(FLOW) if name == "flow" else None


async def check(js: JetStream, instance: str, output: Any) -> None:
    """The outcome, and the invariants that hold whatever happened on the way."""
    final = await ended(js, instance)
    await settled(js)
    commit = final.pop("commit")
    assert final["status"] == "completed", final
    assert final["output"] == output
    stored = await history(js, instance)
    assert fold(stored, lookup) == final  # invariant 5
    numbers = {message["commit"] for message in stored}
    assert numbers == set(range(1, commit["number"] + 1))
    seen = [
        (m["stream"], m["sequence"]) for m in {(m["commit"], m["n"]): m for m in stored}.values()
    ]
    assert len(seen) == len(set(seen)), "an event took effect twice"  # invariant 3


@pytest.mark.parametrize("die_at", range(POINTS))
async def test_dying_at_any_await_changes_nothing_in_the_outcome(
    js: JetStream, nats_server: RealServer, die_at: int
) -> None:
    await deploy(js, FLOW)
    await start(js, "flow", "i", {"n": 1})
    answers = {"a": succeed(), "b": fail_first(0)}
    async with FakeWorker(js, answers) as worker:
        async with engine(nats_server, die_at) as first:
            done, _ = await asyncio.wait(
                [asyncio.create_task(ended(js, "i")), asyncio.create_task(first.died())],
                return_when=asyncio.FIRST_COMPLETED,
            )
            await asyncio.gather(*done)
        async with engine(nats_server):
            await check(js, "i", {"total": 2})
        assert {(run, attempt) for _, run, attempt in worker.ran} == {(1, 1), (2, 1)}


async def test_a_life_has_no_more_crash_points_than_are_tried(
    js: JetStream, nats_server: RealServer
) -> None:
    await deploy(js, FLOW)
    async with FakeWorker(js, {"a": succeed(), "b": fail_first(0)}), engine(nats_server) as first:
        await start(js, "flow", "i", {"n": 1})
        await check(js, "i", {"total": 2})
        assert len(first.port.points) <= POINTS, first.port.points
        assert len(first.port.points) > POINTS // 2, "try fewer points: the rest never come"


async def test_dying_again_and_again_while_many_instances_run(
    js: JetStream, nats_server: RealServer
) -> None:
    await deploy(js, FLOW)
    names = [f"i{n}" for n in range(40)]
    for name in names:
        await start(js, "flow", name, {"n": 1})
    async with FakeWorker(js, {"a": succeed(), "b": fail_first(0)}):
        for die_at in range(5, 60, 6):
            async with engine(nats_server, die_at) as one:
                assert one.task is not None
                await asyncio.wait([one.task], timeout=2)
        async with engine(nats_server):
            for name in names:
                await check(js, name, {"total": 2})


async def test_the_broker_is_killed_while_instances_run(tmp_path: Any, broker: RealServer) -> None:
    js = await broker.connect()
    await topology.ensure(js, broker.settings())
    await deploy(js, FLOW)
    names = [f"i{n}" for n in range(60)]
    async with FakeWorker(js, {"a": succeed(), "b": fail_first(0)}), engine(broker):
        for n, name in enumerate(names):
            await start(js, "flow", name, {"n": 1})
            if n % 20 == 10:
                await asyncio.to_thread(broker.restart)
        for name in names:
            await check(js, name, {"total": 2})
    await js.close()
