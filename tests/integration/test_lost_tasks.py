"""A task that is gone without an outcome does not leave its run open for ever."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from tests.support.engine import (
    FakeWorker,
    deploy,
    ended,
    engine,
    in_status,
    snapshot,
    start,
    succeed,
)
from tests.support.server import RealServer
from tests.support.waiting import eventually
from wf.client.client import Client
from wf.jetstream import mending, topology
from wf.jetstream.client import JetStream
from wf.jetstream.port import Accepted, Delivery, Outgoing
from wf.protocol import messages, subjects
from wf.settings import OrchestratorSettings, Settings

FLOW = """
document: {dsl: '1.0.0', namespace: default, name: flow, version: '1.0.0'}
do:
  - both:
      fork:
        branches:
          - one: {call: a, with: {n: 1}}
          - two: {call: a, with: {n: 2}}
"""
TASKS, CONSUMER = topology.ACTIVITY_TASKS, topology.consumer_name("a")


def soon(server: RealServer, age_s: float = 1.0) -> Settings:
    """Lost tasks are looked for after a second."""
    update = {"orchestrator": OrchestratorSettings(lost_task_age=age_s)}
    return server.settings().model_copy(update=update)


async def make_consumer(js: JetStream) -> None:
    await js.ensure_task_consumer("a", ack_wait_s=30, max_deliver=20, max_ack_pending=1000)


async def take(js: JetStream, count: int) -> list[Delivery]:
    """So many tasks, as a stranger takes them."""
    pull = await js.pull(TASKS, CONSUMER, window=count)
    taken: list[Delivery] = []
    while len(taken) < count:
        taken += await pull.next(count - len(taken))
    await pull.stop()
    return taken


async def stored_tasks(js: JetStream, count: int) -> list[int]:
    async def look() -> list[int]:
        found = await js.scan(TASKS, subjects.task("a"))
        return [one.sequence for one in found] if len(found) >= count else []

    return await eventually(look, what=f"{count} tasks are stored")


async def purged(js: JetStream) -> None:
    await stored_tasks(js, 2)
    await js.purge(TASKS)


async def acked(js: JetStream) -> None:
    await make_consumer(js)
    for delivery in await take(js, 2):
        js.ack(delivery)
    await js.flush()


async def terminated(js: JetStream) -> None:
    await make_consumer(js)
    for delivery in await take(js, 2):
        js.terminate(delivery)
    await js.flush()


async def unreadable(js: JetStream) -> None:
    """Their worker has answered nonsense, and acknowledged."""
    await make_consumer(js)
    for delivery in await take(js, 2):
        task = messages.decode(delivery.data)
        subject = subjects.completed(task["instance"], "a")
        await js.publish(topology.WORKFLOW_EVENTS, [Outgoing(subject, b'{"v":1,"run":"one"}')])
        js.ack(delivery)
    await js.flush()


async def stream_lost(js: JetStream) -> None:
    await stored_tasks(js, 2)
    await js.api(f"STREAM.DELETE.{TASKS}")

    async def back() -> bool:
        return await mending.stream_info(js, TASKS) is not None

    await eventually(back, what="the stream is made again")


@pytest.mark.parametrize(
    "harm",
    [purged, acked, terminated, unreadable, stream_lost],
    ids=lambda one: one.__name__,
)
async def test_the_tasks_of_a_run_are_gone_and_it_completes(broker: RealServer, harm: Any) -> None:
    async with engine(broker, settings=soon(broker)) as one:
        await deploy(one.js, FLOW)
        await start(one.js, "flow", "it")
        await harm(one.js)
        async with FakeWorker(one.js, {"a": succeed()}) as worker:
            found = await ended(one.js, "it")
        assert found["status"] == "completed", found
        assert sorted({run for _, run, _ in worker.ran}) == [1, 2]


async def test_a_task_that_waits_or_runs_is_not_lost_and_is_not_sent_again(
    broker: RealServer,
) -> None:
    async with engine(broker, settings=soon(broker, 0.5)) as one:
        await deploy(one.js, FLOW)
        await start(one.js, "flow", "it")
        await make_consumer(one.js)
        (held,) = await take(one.js, 1)  # the other waits
        searching = one.orchestrator._searching

        async def noted() -> bool:
            return len(searching._noted) == 2

        await eventually(noted, what="both runs are noted")
        for _ in range(3):
            assert await searching.look() == 0
        assert await one.js.count(TASKS) == 2
        one.js.nak(held)
        async with FakeWorker(one.js, {"a": succeed()}) as worker:
            await ended(one.js, "it")
        assert len(worker.ran) == 2


async def test_what_is_held_while_suspended_is_not_lost_and_does_not_run_again(
    broker: RealServer,
) -> None:
    async with engine(broker, settings=soon(broker, 0.5)) as one:
        await deploy(one.js, FLOW)
        await start(one.js, "flow", "it")
        await stored_tasks(one.js, 2)
        client = Client(one.js)
        await client.suspend("it")
        await in_status(one.js, "it", "suspended")
        async with FakeWorker(one.js, {"a": succeed()}) as worker:
            searching = one.orchestrator._searching

            async def seen() -> bool:
                found = await one.js.last(topology.WORKFLOW_STATES, subjects.state("it"))
                held = orjson.loads(found.data)["held"] if found is not None else []
                return len(held) == 2 and found is not None and searching._cursor > found.sequence

            await eventually(seen, what="the snapshot with both results is looked at")
            for _ in range(3):
                assert await searching.look() == 0
            assert await one.js.count(TASKS) == 2
            await client.resume("it")
            await ended(one.js, "it")
        assert len(worker.ran) == 2


async def test_a_task_that_is_always_ended_is_set_aside(broker: RealServer) -> None:
    async with engine(broker, settings=soon(broker, 0)) as one:
        await deploy(one.js, FLOW)
        await start(one.js, "flow", "it")
        await make_consumer(one.js)
        pull = await one.js.pull(TASKS, CONSUMER, window=1)

        async def refuse() -> bool:
            found = await snapshot(one.js, "it")
            if found is not None and found["status"] == "faulted":
                return True
            for delivery in await pull.next(1):
                one.js.terminate(delivery)
            return False

        await start(one.js, "flow", "other")  # so that the pull always has something in the end
        await eventually(refuse, what="it is given up")
        await pull.stop()

        async def stored() -> Any:
            return await one.js.scan(topology.DEAD_LETTERS, "dead.>")

        letters = await eventually(stored, what="the dead letter is stored")
        evidence = orjson.loads(letters[0].data)["evidence"]
        assert "+TERM" in evidence["reason"]
        assert evidence["instance"] == "it"


async def test_a_result_that_says_of_which_run_it_is_fails_that_run_at_once(
    broker: RealServer,
) -> None:
    flow = FLOW.replace("- one: {call: a, with: {n: 1}}\n          ", "")
    async with engine(broker, settings=soon(broker, 0)) as one:
        await deploy(one.js, flow)
        await start(one.js, "flow", "it")
        await stored_tasks(one.js, 1)
        body = b'{"v":1,"run":1,"attempt":1,"outcome":"wonderful"}'
        (outcome,) = await one.js.publish(
            topology.WORKFLOW_EVENTS, [Outgoing(subjects.completed("it", "a"), body)]
        )
        assert isinstance(outcome, Accepted)
        found = await ended(one.js, "it")
        assert found["status"] == "faulted"
        assert found["error"]["title"] == "Unreadable result"
        assert "wonderful" in found["error"]["detail"]


async def test_the_stream_of_advisories_of_an_older_version_is_updated_in_place(
    js: JetStream, nats_server: RealServer
) -> None:
    config = (await js.api(f"STREAM.INFO.{topology.ADVISORIES}"))["config"]
    old = {**config, "subjects": [f"{topology.MAX_DELIVERIES}.>"]}
    await js.api(f"STREAM.UPDATE.{topology.ADVISORIES}", old)
    assert await topology.ensure(js, nats_server.settings()) == [topology.ADVISORIES]
    config = (await js.api(f"STREAM.INFO.{topology.ADVISORIES}"))["config"]
    assert f"{topology.TERMINATED}.>" in config["subjects"]
