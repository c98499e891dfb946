"""What no reader expected: strange messages and entries, data of any size."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from orchestrator import main
from orchestrator.dispatch.outbox import EVIDENCE_BYTES
from orchestrator.engine import apply as applying
from tests.integration.test_engine import SLEEPER, TWO
from tests.support.engine import (
    Engine,
    FakeWorker,
    deploy,
    ended,
    engine,
    history,
    in_status,
    settled,
    start,
    succeed,
)
from tests.support.server import RealServer
from tests.support.waiting import eventually
from wf.jetstream import topology
from wf.jetstream.client import JetStream
from wf.jetstream.encode import publication
from wf.jetstream.port import Outgoing, Stored
from wf.protocol import messages, subjects

JsonObject = dict[str, Any]

SMALL_PAYLOAD = 1024 * 1024

# Whatever `a` gives back is replaced: only its result message is large.
FORGETFUL = """
document: {dsl: '1.0.0', namespace: default, name: forgetful, version: '1.0.0'}
do:
  - a: {call: a, with: {}, output: {as: "${ 1 }"}}
"""


async def works_on(js: JetStream, only: Engine) -> None:
    """An instance that is started now comes to its wait; an engine that died says of what."""
    await deploy(js, SLEEPER)
    await start(js, "sleeper", "another")
    assert only.task is not None
    look = asyncio.create_task(in_status(js, "another", "waiting"))
    await asyncio.wait([look, only.task], return_when=asyncio.FIRST_COMPLETED)
    if only.task.done():
        look.cancel()
        raise AssertionError(f"the engine died: {only.task.exception()!r}")
    await look


@asynccontextmanager
async def small_broker(directory: Path) -> AsyncIterator[tuple[RealServer, JetStream]]:
    """A server with NATS's own default of 1 MiB for one message."""
    broker = RealServer(directory / "small", config=f"max_payload: {SMALL_PAYLOAD}")
    broker.start()
    try:
        js = await broker.connect()
        await topology.ensure(js, broker.settings())
        yield broker, js
        await js.close()
    finally:
        broker.kill9()


async def dead_letters(js: JetStream, kind: str) -> list[Stored]:
    return await js.scan(topology.DEAD_LETTERS, f"dead.{kind}.>")


# Strange messages and entries


@pytest.mark.parametrize(
    ("subject", "body", "says"),
    [
        (
            b"workflow.activity.completed.i.a",
            b'{"v": 1, "run": 1, "outcome": []}',
            "outcome",
        ),
        (b"workflow.start.a\x01b", b'{"v": 9}', "version 9"),
        (b"workflow.start.a\xffb", b'{"v": 9}', "version 9"),
    ],
    ids=["an outcome that is a list", "a control character", "no UTF-8"],
)
async def test_a_message_that_nobody_expected_is_a_dead_letter_and_the_engine_works_on(
    js: JetStream, nats_server: RealServer, subject: bytes, body: bytes, says: str
) -> None:
    async with engine(nats_server) as only:
        js._wire.send(b"PUB %b %d\r\n%b\r\n" % (subject, len(body), body))
        await js.flush()
        await works_on(js, only)
        await settled(js)
        (letter,) = await dead_letters(js, "message")
        assert says in orjson.loads(letter.data)["evidence"]["reason"]


async def test_a_traceparent_that_is_none_is_not_passed_on(
    js: JetStream, nats_server: RealServer
) -> None:
    """A header may hold a bare newline; written into another message it would break that one, and
    its instance would be refused again and again."""
    await deploy(js, TWO)
    body = messages.encode(messages.start_body(instance="i", input={"n": 1}))
    js._wire.send(publication("workflow.start.two", "", "traceparent: a\nb\r\n", body))
    await js.flush()
    async with FakeWorker(js, {"a": succeed(), "b": succeed()}), engine(nats_server) as only:
        assert (await ended(js, "i"))["status"] == "completed"
        await works_on(js, only)
        stored = await js.scan(topology.ACTIVITY_TASKS, subjects.task("a"))
        assert "traceparent" not in (stored[0].headers or {})


@pytest.mark.parametrize(
    ("activity", "more"),
    [
        ("a.b", {}),
        ("bad", {"ack_wait_s": 1e12}),
        ("bad", {"max_ack_pending": 2**64 - 1}),
    ],
    ids=["a key of two tokens", "an endless ack_wait", "a number that the server cannot read"],
)
async def test_a_catalogue_entry_that_cannot_be_used_stops_no_other(
    js: JetStream,
    nats_server: RealServer,
    monkeypatch: pytest.MonkeyPatch,
    activity: str,
    more: JsonObject,
) -> None:
    """Neither when it is noticed nor when the catalogue is read again, as it is every few
    seconds."""
    monkeypatch.setattr(main, "FOLLOW_S", 0.05)
    consumer = {"ack_wait_s": 5, "max_deliver": 5, "max_ack_pending": 5}
    entries = [
        (f"$KV.ACTIVITY_CATALOG.{activity}", {**consumer, **more}),
        ("$KV.ACTIVITY_CATALOG.good", consumer),
    ]
    async with engine(nats_server) as only:
        for subject, one in entries:
            data = messages.encode({"v": 1, "consumer": one})
            await js.publish(topology.ACTIVITY_CATALOG, [Outgoing(subject, data)])
        last = await js.last_sequence(topology.ACTIVITY_CATALOG)

        async def read() -> bool:
            assert only.task is not None
            assert not only.task.done(), repr(only.task.exception())
            return only.orchestrator._catalog.entries._known >= last

        await eventually(read, limit_s=5, what="the whole catalogue")
        assert list(only.orchestrator._catalog.activities) == ["good"]
        name = topology.consumer_name("good")
        await js.api(f"CONSUMER.INFO.{topology.ACTIVITY_TASKS}.{name}")
        await works_on(js, only)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("foo", b"{}"),
        ("default.foo.1", b"7"),
        ("default.foo.1", b'{"document": 7, "do": 8}'),
        ("default.foo.1", b"{"),
    ],
)
@pytest.mark.parametrize("early", [True, False], ids=["before the engine", "while it runs"])
async def test_a_definition_that_was_put_there_by_hand_stops_no_other(
    js: JetStream, nats_server: RealServer, key: str, value: bytes, early: bool
) -> None:
    entry = Outgoing(f"$KV.WORKFLOW_DEFINITIONS.{key}", value)
    if early:
        await js.publish(topology.WORKFLOW_DEFINITIONS, [entry])
    async with engine(nats_server) as only:
        if not early:
            await js.publish(topology.WORKFLOW_DEFINITIONS, [entry])
        await works_on(js, only)


# Sizes


async def test_a_snapshot_limit_above_the_brokers_is_the_brokers(tmp_path: Path) -> None:
    """The configured limit allows more than one message may hold: the input, twice."""
    async with small_broker(tmp_path) as (broker, js):
        assert broker.settings().orchestrator.limits.snapshot > js.max_payload
        await deploy(js, TWO)
        async with engine(broker) as only:
            limits = only.orchestrator._engine._limits
            assert limits.snapshot == limits.message == SMALL_PAYLOAD - main.MESSAGE_MARGIN_BYTES
            await start(js, "two", "i", {"n": "x" * 700_000})
            final = await ended(js, "i", limit_s=5)
            assert final["error"]["title"] == "State too large"
            await settled(js)


async def test_a_start_that_its_history_could_not_repeat_makes_a_faulted_instance(
    js: JetStream, nats_server: RealServer
) -> None:
    await deploy(js, FORGETFUL)
    async with engine(nats_server) as only:
        await start(js, "forgetful", "i", "x" * (js.max_payload - 4096))
        final = await ended(js, "i", limit_s=5)
        assert final["status"] == "faulted"
        assert final["error"]["title"] == "Input too large"
        assert "reference" in final["error"]["detail"]
        await settled(js)
        (message,) = await history(js, "i")
        assert message["event"]["input"] is None
        await works_on(js, only)


async def test_a_result_that_its_history_could_not_repeat_faults_its_run(
    js: JetStream, nats_server: RealServer
) -> None:
    await deploy(js, FORGETFUL)
    async with (
        FakeWorker(js, {"a": succeed("x" * (js.max_payload - 4096))}),
        engine(nats_server) as only,
    ):
        await start(js, "forgetful", "i", {})
        final = await ended(js, "i", limit_s=5)
        assert final["status"] == "faulted"
        assert final["error"]["title"] == "Result too large"
        await settled(js)
        told = await history(js, "i")
        assert [entry["run"] for entry in told[-1]["entries"] if entry["type"] == "run.failed"]
        await works_on(js, only)


async def test_a_large_result_with_many_steps_behind_it_is_published_with_fewer_of_them(
    js: JetStream, nats_server: RealServer
) -> None:
    """Result and entries are both allowed; one history message could not hold the two."""
    steps = "".join(f"\n  - set_number_{n}: {{set: {{n: {n}}}}}" for n in range(600))
    await deploy(js, FORGETFUL + steps.removeprefix("\n") + "\n  - b: {call: b, with: {}}\n")
    room = js.max_payload - main.MESSAGE_MARGIN_BYTES - 1024
    answers = {"a": succeed("x" * room), "b": succeed()}
    async with FakeWorker(js, answers), engine(nats_server):
        await start(js, "forgetful", "i", {})
        assert (await ended(js, "i", limit_s=5))["status"] == "completed"
        await settled(js)
        _, large, _ = await history(js, "i")
        assert len(large["event"]["output"]) == room
        (note,) = [entry for entry in large["entries"] if entry["type"] == "entries.omitted"]
        assert note["count"] > 500
        assert len(large["entries"]) <= applying.FEW_ENTRIES + 1


@pytest.mark.parametrize("size", [EVIDENCE_BYTES, 5 * 1024 * 1024])
async def test_the_evidence_of_a_large_event_is_cut_and_stored(
    js: JetStream, nats_server: RealServer, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """Also of one that the snapshot, which carries its outbox, could not hold beside the rest."""
    await deploy(js, FORGETFUL)
    advance = applying.advance

    def broken(definition: Any, before: Any, event: JsonObject, *more: Any, **options: Any) -> Any:
        if event.get("kind") == "result":
            raise ZeroDivisionError("a bug")
        return advance(definition, before, event, *more, **options)

    monkeypatch.setattr(applying, "advance", broken)
    async with FakeWorker(js, {"a": succeed("x" * size)}), engine(nats_server):
        await start(js, "forgetful", "i", {})
        assert (await ended(js, "i", limit_s=5))["error"]["title"] == "Engine error"
        await settled(js)
        (letter,) = await dead_letters(js, "engine")
        assert len(letter.data) < EVIDENCE_BYTES
        evidence = orjson.loads(letter.data)["evidence"]
        assert "left out" in evidence["event"]
        assert "a bug" in evidence["traceback"]
