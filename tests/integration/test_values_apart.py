"""Large values of an instance are stored once, beside its snapshot, on the real broker."""

from __future__ import annotations

from typing import Any

from tests.support.engine import (
    FakeWorker,
    deploy,
    ended,
    engine,
    history,
    settled,
    snapshot,
    start,
    succeed,
)
from tests.support.server import RealServer
from tests.support.waiting import eventually
from wf.client import instances
from wf.jetstream import topology
from wf.jetstream.client import JetStream
from wf.protocol import subjects

COUNT = 400
PARCELS = [f"parcel-{n:060}" for n in range(COUNT)]
FLOW = """
document: {dsl: '1.0.0', namespace: default, name: sort, version: '1.0.0'}
do:
  - each:
      for: {each: parcel, in: .}
      do:
        - send: {call: send, with: {parcel: "${ $parcel }"}}
"""


async def beside(js: JetStream, instance: str) -> list[str]:
    wanted = subjects.state_value(instance, "*")
    found = await js.scan(topology.WORKFLOW_STATES, wanted, from_sequence=1, limit=1000)
    return [one.subject for one in found]


async def is_under_way(js: JetStream, done: int) -> bool:
    """So many tasks are dispatched, and something has been set apart."""
    state = await snapshot(js, "i")
    return state is not None and state["last_run"] >= done and bool(await beside(js, "i"))


async def test_a_long_loop_stores_its_items_once_over_a_crash_and_leaves_nothing(
    js: JetStream, nats_server: RealServer
) -> None:
    await deploy(js, FLOW)
    seen: list[Any] = []

    def answer(task: Any) -> Any:
        seen.append(task["input"]["parcel"])
        return succeed()(task)

    async with FakeWorker(js, {"send": answer}):
        async with engine(nats_server):
            await start(js, "sort", "i", PARCELS)
            await eventually(lambda: is_under_way(js, 50), what="the loop has begun")
            before = await beside(js, "i")
            found = await instances.find(js, "i")
            assert found is not None
            assert found.snapshot["input"] == PARCELS, "a client sees it whole"
        async with engine(nats_server):
            await eventually(lambda: is_under_way(js, 100), what="the successor goes on")
            assert set(before) <= set(await beside(js, "i")), "it is not stored again"
            final = await ended(js, "i", limit_s=60)
            await settled(js)
    assert final["status"] == "completed"
    assert final["input"] == PARCELS
    assert list(dict.fromkeys(seen)) == PARCELS
    assert await beside(js, "i") == []
    stored = await js.api(f"STREAM.INFO.{topology.WORKFLOW_HISTORY}")
    assert len(await history(js, "i")) == COUNT + 1
    assert stored["state"]["bytes"] < COUNT * len(str(PARCELS)) / 20, "no entry repeats the items"


async def test_an_instance_whose_value_was_deleted_faults_and_the_others_go_on(
    js: JetStream, nats_server: RealServer
) -> None:
    await deploy(js, FLOW)
    async with engine(nats_server):
        async with FakeWorker(js, {"send": succeed()}):
            await start(js, "sort", "i", PARCELS)
            await eventually(lambda: is_under_way(js, 50), what="the loop has begun")
        await settled(js)
    state = await snapshot(js, "i")
    assert state is not None
    assert state["status"] == "running"
    await js.purge(topology.WORKFLOW_STATES, subject=subjects.state_value("i", "*"))
    async with engine(nats_server), FakeWorker(js, {"send": succeed()}):
        await start(js, "sort", "j", PARCELS[:3])
        assert (await ended(js, "j", limit_s=30))["status"] == "completed"
        final = await ended(js, "i", limit_s=30)
    assert final["status"] == "faulted"
    assert final["error"]["title"] == "State damaged"
    assert "failed" not in final
