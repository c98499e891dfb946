"""A state that is none: its instance is quarantined with evidence, and can be mended."""

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
    send,
    settled,
    start,
    succeed,
)
from tests.support.waiting import eventually
from wf.client import instances
from wf.client.client import Client
from wf.jetstream import topology
from wf.jetstream.port import Accepted, Outgoing
from wf.protocol import subjects

FLOW = {
    "document": {"dsl": "1.0.3", "namespace": "default", "name": "flow", "version": "1.0.0"},
    "do": [
        {"hear": {"listen": {"to": {"one": {"with": {"type": "paid"}}}}}},
        {"a": {"call": "a", "with": {"n": 1}}},
    ],
}


async def put(js: Any, instance: str, data: bytes) -> None:
    (outcome,) = await js.publish(
        topology.WORKFLOW_STATES, [Outgoing(subjects.state(instance), data)]
    )
    assert isinstance(outcome, Accepted)


def change(data: bytes, **more: Any) -> bytes:
    return orjson.dumps({**orjson.loads(data), **more})


GARBAGE = {
    "a broker's answer": lambda data: b'{"stream":"WORKFLOW_EVENTS","seq":7}',
    "no json": lambda data: b"\xff\x00oops",
    "an empty object": lambda data: b"{}",
    "a list": lambda data: b"[]",
    "too deep": lambda data: b"[" * 900 + b"]" * 900,
    "cut short": lambda data: data[: len(data) // 2],
    "a commit of another kind": lambda data: change(data, commit={"number": "1"}),
    "values apart that are none": lambda data: change(
        data, commit={**orjson.loads(data)["commit"], "apart": {"a b": [["input"]]}}
    ),
    "an outbox of another kind": lambda data: change(
        data,
        commit={
            **orjson.loads(data)["commit"],
            "sends": [["bogus", 1]],
            "events": [["WORKFLOW_EVENTS", 10**9]],
        },
    ),
    "another status": lambda data: change(data, status="paused"),
    "frames of another kind": lambda data: change(data, frames={"1": 5}),
}


@pytest.mark.parametrize("name", GARBAGE)
async def test_an_instance_without_a_readable_state_waits_and_the_rest_goes_on(
    nats_server: Any, js: Any, name: str
) -> None:
    client = Client(js)
    async with engine(nats_server), FakeWorker(js, {"a": succeed({"n": 2})}):
        await deploy(js, FLOW)
        await start(js, "flow", "bad")
        await in_status(js, "bad", "waiting")
        await settled(js)
    stored = await js.last(topology.WORKFLOW_STATES, subjects.state("bad"), leader=True)
    await put(js, "bad", GARBAGE[name](stored.data))
    for _ in range(2):  # a restart meets nothing to die of
        async with engine(nats_server) as made, FakeWorker(js, {"a": succeed({"n": 2})}):
            await send(js, subjects.command("bad", "suspend"), {"v": 1})
            await client.emit("paid")
            await start(js, "flow", f"good-{_}")
            await in_status(js, f"good-{_}", "waiting")
            await client.emit("paid")
            assert (await ended(js, f"good-{_}"))["status"] == "completed"
            await settled(js)
            assert made.task is not None
            assert not made.task.done()
    (evidence,) = await js.scan(topology.DEAD_LETTERS, "dead.state.bad")
    assert orjson.loads(evidence.data)["evidence"]["revision"] > stored.sequence
    assert await js.scan(topology.DEAD_LETTERS, "dead.quarantined.bad")
    async with engine(nats_server), FakeWorker(js, {"a": succeed({"n": 2})}):
        assert (await client.get("bad")).status == instances.QUARANTINED
        await client.retry("bad")
        await in_status(js, "bad", "suspended")  # the first command that was kept
        await client.resume("bad")
        await client.resume("bad")
        await client.emit("paid")
        found = await eventually(lambda: _resumed(client), what="the end of bad", limit_s=20)
        assert found.output == {"n": 2}
        await settled(js)
    assert not await js.scan(topology.DEAD_LETTERS, "dead.quarantined.bad")


async def becomes(client: Client, instance: str, status: str) -> instances.Instance:
    async def look() -> instances.Instance | None:
        found = await instances.find(client.port, instance)
        return found if found is not None and found.status == status else None

    found = await eventually(look, what=f"{instance} {status}")
    assert found is not None
    return found


async def _resumed(client: Client) -> Any:
    found = await client.get("bad")
    if found.status == "suspended":  # the second of them
        await client.resume("bad")
    return found if found.status == "completed" else None


async def test_a_client_sees_a_quarantined_instance_as_such(nats_server: Any, js: Any) -> None:
    client = Client(js)
    async with engine(nats_server):
        await deploy(js, FLOW)
        for one in ("bad", "good"):
            await start(js, "flow", one)
            await in_status(js, one, "waiting")
        await put(js, "bad", b"oops")
        found = await client.get("bad")
        assert found.status == instances.QUARANTINED
        assert found.error is not None
        assert "wf retry bad" in found.error["detail"]
        listed = {one.id: one.status for one in (await client.recent()).instances}
        assert listed == {"bad": instances.QUARANTINED, "good": "waiting"}
        await client.cancel("bad")
        assert await becomes(client, "bad", "cancelled")


async def test_what_the_history_does_not_give_is_faulted_and_what_never_was_begins(
    nats_server: Any, js: Any
) -> None:
    client = Client(js)
    async with engine(nats_server), FakeWorker(js, {"a": succeed({"n": 2})}):
        await deploy(js, FLOW)
        await start(js, "flow", "headless")
        await in_status(js, "headless", "waiting")
        await send(js, subjects.command("headless", "suspend"), {"v": 1})
        await in_status(js, "headless", "suspended")
        await settled(js)
        first, *_ = await js.scan(topology.WORKFLOW_HISTORY, subjects.history("headless"))
        await js.purge(
            topology.WORKFLOW_HISTORY, subject=subjects.history("headless"), up_to=first.sequence
        )
        await put(js, "headless", b"oops")
        await put(js, "never", b"oops")
        await start(js, "flow", "never")
        await settled(js)
        await client.cancel("headless")
        lost = await becomes(client, "headless", "faulted")
        assert lost.error is not None
        assert lost.error["title"] == "State lost"
        await client.cancel("never")
        await becomes(client, "never", "waiting")
        last = (await client.history("headless"))[-1]
        assert last.entries[-1]["type"] == "instance.faulted"


async def test_a_command_that_was_applied_and_came_again_meanwhile_is_not_put_back(
    nats_server: Any, js: Any
) -> None:
    client = Client(js)
    async with engine(nats_server):
        await deploy(js, FLOW)
        await start(js, "flow", "it")
        await in_status(js, "it", "waiting")
        await client.suspend("it")
        await in_status(js, "it", "suspended")
        await client.resume("it")
        await in_status(js, "it", "waiting")
        await settled(js)
        history = await js.scan(topology.WORKFLOW_HISTORY, subjects.history("it"))
        (suspend,) = (body for one in history if _verb(body := orjson.loads(one.data)) == "suspend")
        await put(js, "it", b"oops")
        evidence = {
            "subject": subjects.command("it", "suspend"),
            "stream": suspend["stream"],
            "sequence": suspend["sequence"],
            "payload": '{"v":1}',
            "payload_bytes": 7,
        }
        letter = orjson.dumps({"v": 1, "instance": "it", "evidence": evidence})
        subject = subjects.dead_letter("quarantined", "it")
        await js.publish(topology.DEAD_LETTERS, [Outgoing(subject, letter)])
        await client.retry("it")
        await becomes(client, "it", "waiting")
        await settled(js)
        assert (await client.get("it")).status == "waiting"
        assert not await js.scan(topology.DEAD_LETTERS, subject)


def _verb(body: Any) -> Any:
    return body["event"].get("verb")
