"""The atomic batch and the pipelined singles against the real server: every code of the notes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.support.server import RealServer
from wf.jetstream import batch, mending, topology
from wf.jetstream.client import JetStream
from wf.jetstream.encode import header_lines
from wf.jetstream.port import (
    SUBJECT_FULL,
    WRONG_LAST_SEQUENCE,
    Accepted,
    Outcome,
    Outgoing,
    Rejected,
    Unknown,
)
from wf.jetstream.replies import Flight

STATES = topology.WORKFLOW_STATES
TASKS = topology.ACTIVITY_TASKS


def state(key: str, expected: int | None = 0, message_id: str | None = None) -> Outgoing:
    return Outgoing(f"$KV.WORKFLOW_STATES.{key}", b"{}", message_id, expected)


def refused(outcome: Outcome) -> int:
    assert isinstance(outcome, Rejected), outcome
    return outcome.code


async def raw(js: JetStream, parts: list[bytes], messages: list[Outgoing]) -> Outcome:
    """Send protocol bytes as they are; the outcome of the one that asks for a reply."""
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    flight = Flight(js._replies, messages, 1, future)
    reply = f"{js._replies.prefix}{flight.first}".encode()
    js._wire.send(b"".join(part.replace(b"REPLY", reply) for part in parts))
    async with asyncio.timeout(5):
        await future
    return flight.land(js._replies)[0]


# The codes.


async def test_10071_names_the_real_last_sequence_and_that_names_the_key(js: JetStream) -> None:
    await js.publish(STATES, [state("x", None), state("y", None), state("x", None)])
    outcome = await js.publish_batch(STATES, [state("new"), state("y", 2), state("x", 1)])
    assert isinstance(outcome, Rejected)
    assert (outcome.code, outcome.last_sequence) == (WRONG_LAST_SEQUENCE, 3)
    found = await js.at(STATES, 3)
    assert found is not None
    assert found.subject == "$KV.WORKFLOW_STATES.x"


async def test_10071_for_a_key_that_does_not_exist_says_zero(js: JetStream) -> None:
    outcome = await js.publish_batch(STATES, [state("none", 5)])
    assert outcome == Rejected(WRONG_LAST_SEQUENCE, "wrong last sequence: 0", 0)


async def test_resending_ones_own_landed_batch_is_10071(js: JetStream) -> None:
    messages = [state("a"), state("b")]
    assert await js.publish_batch(STATES, messages) == Accepted(2)
    assert refused(await js.publish_batch(STATES, messages)) == WRONG_LAST_SEQUENCE


async def test_in_a_batch_a_known_message_id_is_seen_before_a_wrong_sequence(js: JetStream) -> None:
    messages = [state("a", 0, "id:a"), state("b", 0, "id:b")]
    assert await js.publish_batch(STATES, messages) == Accepted(2)
    assert refused(await js.publish_batch(STATES, messages)) == batch.BATCH_DUPLICATE_ID
    # singles: the other way round
    assert [refused(outcome) for outcome in await js.publish(STATES, messages)] == [
        WRONG_LAST_SEQUENCE,
        WRONG_LAST_SEQUENCE,
    ]


async def test_10201_a_known_message_id_refuses_the_whole_batch(js: JetStream) -> None:
    await js.publish(TASKS, [Outgoing("activity.tasks.a", b"", "id:1")])
    messages = [Outgoing("activity.tasks.a", b"", f"id:{n}") for n in (2, 1)]
    assert refused(await js.publish_batch(TASKS, messages)) == batch.BATCH_DUPLICATE_ID
    assert await js.last_sequence(TASKS) == 1


async def test_singles_take_what_got_10201(js: JetStream) -> None:
    await js.publish(TASKS, [Outgoing("activity.tasks.a", b"", "id:1")])
    messages = [Outgoing("activity.tasks.a", b"", f"id:{n}") for n in (2, 1)]
    assert await js.publish(TASKS, messages) == [Accepted(2), Accepted(1, duplicate=True)]


async def test_10164_one_key_written_twice_in_one_batch(js: JetStream) -> None:
    messages = [state("a"), state("a")]
    lines = [header_lines(message) for message in messages]
    parts = batch.batched("twice", messages, lines, "REPLY")
    assert refused(await raw(js, parts, messages)) == batch.BATCH_KEY_TWICE


async def test_10176_a_gap_in_the_batch(js: JetStream) -> None:
    messages = [state("a"), state("b"), state("c")]
    lines = [header_lines(message) for message in messages]
    parts = batch.batched("gap", messages, lines, "REPLY")
    assert refused(await raw(js, [parts[0], parts[2]], messages)) == batch.BATCH_INCOMPLETE
    assert await js.last_sequence(STATES) == 0


async def test_10176_a_commit_of_a_batch_that_never_began(js: JetStream) -> None:
    messages = [state("a"), state("b")]
    lines = [header_lines(message) for message in messages]
    parts = batch.batched("unknown", messages, lines, "REPLY")
    assert refused(await raw(js, parts[1:], messages)) == batch.BATCH_INCOMPLETE


async def test_10177_expected_last_message_id_is_not_allowed(js: JetStream) -> None:
    message = Outgoing("activity.tasks.a", b"", headers={"Nats-Expected-Last-Msg-Id": "x"})
    assert refused(await js.publish_batch(TASKS, [message])) == batch.BATCH_LAST_ID


async def test_10199_more_messages_than_a_batch_may_have(js: JetStream) -> None:
    messages = [state(f"k{n}") for n in range(1001)]
    lines = [header_lines(message) for message in messages]
    parts = batch.batched("large", messages, lines, "REPLY")
    assert refused(await raw(js, parts, messages)) == batch.BATCH_TOO_LARGE
    assert await js.last_sequence(STATES) == 0


async def test_10077_a_full_subject_refuses_the_batch_and_singles_tell_which(
    js: JetStream, nats_server: RealServer
) -> None:
    await limit_tasks(js, nats_server, 2)
    messages = [Outgoing(f"activity.tasks.{name}", b"") for name in ("a", "a", "b", "a")]
    assert refused(await js.publish_batch(TASKS, messages)) == SUBJECT_FULL
    assert await js.last_sequence(TASKS) == 0
    outcomes = await js.publish(TASKS, messages)
    assert outcomes[:3] == [Accepted(1), Accepted(2), Accepted(3)]
    assert refused(outcomes[3]) == SUBJECT_FULL


async def limit_tasks(js: JetStream, server: RealServer, limit: int) -> None:
    asset = next(asset for asset in topology.assets(server.settings()) if asset.name == TASKS)
    asset.config["max_msgs_per_subject"] = limit
    assert await mending.ensure_stream(js, asset)


async def test_too_many_batches_under_way_are_tried_again_until_they_land(js: JetStream) -> None:
    async def one(number: int) -> Outcome:
        messages = [state(f"b{number}-{n}") for n in range(20)]
        return await js.publish_batch(STATES, messages, timeout_s=10)

    outcomes = await asyncio.gather(*(one(number) for number in range(150)))
    assert all(isinstance(outcome, Accepted) for outcome in outcomes)
    assert await js.last_sequence(STATES) == 150 * 20


async def test_10210_or_10176_for_one_batch_more_than_the_server_keeps_open(js: JetStream) -> None:
    for number in range(50):  # begun and never committed
        messages = [state(f"o{number}"), state(f"p{number}")]
        lines = [header_lines(message) for message in messages]
        js._wire.send(batch.batched(f"open{number}", messages, lines, "")[0])
    await js.flush()
    outcome = await js.publish_batch(STATES, [state("a"), state("b")], timeout_s=1)
    assert refused(outcome) in (batch.BATCH_TOO_MANY, batch.BATCH_INCOMPLETE)


# Races and lost answers.


async def test_of_two_racing_batches_on_one_key_exactly_one_wins(
    js: JetStream, nats_server: RealServer
) -> None:
    other = await nats_server.connect()
    try:
        for number in range(30):
            shared = f"shared{number}"
            ours = [state(f"ours{number}-{n}") for n in range(5)] + [state(shared)]
            theirs = [state(f"theirs{number}-{n}") for n in range(5)] + [state(shared)]
            outcomes = await asyncio.gather(
                js.publish_batch(STATES, ours), other.publish_batch(STATES, theirs)
            )
            assert sorted(type(outcome).__name__ for outcome in outcomes) == [
                "Accepted",
                "Rejected",
            ]
            won = "ours" if isinstance(outcomes[0], Accepted) else "theirs"
            keys = await js.subjects(STATES, f"$KV.WORKFLOW_STATES.*{number}-*")
            assert keys == {}  # a wildcard stands for a whole token only
            found = await js.last_many(
                STATES,
                [f"$KV.WORKFLOW_STATES.{side}{number}-0" for side in ("ours", "theirs")],
            )
            assert list(found) == [f"$KV.WORKFLOW_STATES.{won}{number}-0"]
    finally:
        await other.close()


async def test_no_stream_for_the_subject_is_unknown_and_said_at_once(js: JetStream) -> None:
    async with asyncio.timeout(1):
        (outcome,) = await js.publish("x", [Outgoing("nobody.listens", b"")])
        whole = await js.publish_batch("x", [Outgoing("nobody.listens", b"")])
    assert isinstance(outcome, Unknown)
    assert isinstance(whole, Unknown)
    assert "no stream" in outcome.reason


async def test_a_server_that_dies_before_answering_leaves_unknown_at_once(
    broker: RealServer,
) -> None:
    js = await broker.connect()
    await topology.ensure(js, broker.settings())
    await js.flush()
    js._wire.send(b"")  # nothing is under way
    messages = [state(f"k{n}") for n in range(100)]
    single = asyncio.create_task(js.publish(STATES, messages, timeout_s=10))
    whole = asyncio.create_task(js.publish_batch(STATES, messages, timeout_s=10))
    broker.kill9()
    async with asyncio.timeout(5):
        outcomes = [*await single, await whole]
    assert any(isinstance(outcome, Unknown) for outcome in outcomes)
    broker.start()
    # what is asked for while disconnected waits for the connection
    await js.publish(STATES, [state("later", None)], timeout_s=10)
    stored = await js.last_many(STATES, [message.subject for message in messages])
    accepted = {
        message.subject
        for message, outcome in zip(messages, outcomes, strict=False)
        if isinstance(outcome, Accepted)
    }
    assert accepted <= set(stored)
    await js.close()


async def test_nothing_that_was_unknown_is_stored_behind_the_callers_back(
    broker: RealServer,
) -> None:
    js = await broker.connect()
    await topology.ensure(js, broker.settings())
    broker.kill9()
    outcome = await js.publish_batch(STATES, [state("a")], timeout_s=0.5)
    assert isinstance(outcome, Unknown)
    broker.start()
    await js.flush()
    assert await js.last(STATES, "$KV.WORKFLOW_STATES.a") is None
    await js.close()


async def test_a_publish_waits_for_the_connection_within_its_time(broker: RealServer) -> None:
    js = await broker.connect()
    await topology.ensure(js, broker.settings())
    broker.kill9()
    await _until_lost(js)
    waiting = asyncio.create_task(js.publish(STATES, [state("a")], timeout_s=10))
    await asyncio.sleep(0)
    broker.start()
    assert await waiting == [Accepted(1)]
    await js.close()


async def _until_lost(js: JetStream) -> None:
    async with asyncio.timeout(5):
        while js._wire.is_connected:
            await asyncio.sleep(0.001)


async def test_kill9_between_batches_never_tears_one(broker: RealServer) -> None:
    js = await broker.connect()
    await topology.ensure(js, broker.settings())
    landed: set[int] = set()

    async def publish() -> None:
        for number in range(200):
            messages = [state(f"t{number}-{n}") for n in range(10)]
            if isinstance(await js.publish_batch(STATES, messages), Accepted):
                landed.add(number)

    work = asyncio.create_task(publish())
    for _ in range(3):
        target = len(landed) + 20
        async with asyncio.timeout(10):
            while len(landed) < target and not work.done():
                await asyncio.sleep(0.001)
        await asyncio.to_thread(broker.restart)
    await work
    for number in range(200):
        names = [f"$KV.WORKFLOW_STATES.t{number}-{n}" for n in range(10)]
        found = await js.last_many(STATES, names)
        assert len(found) in (0, 10)
        if number in landed:
            assert len(found) == 10
    await js.close()


# Headers.


async def test_a_message_with_a_time_to_live_expires(js: JetStream, tmp_path: Path) -> None:
    await js.publish(STATES, [Outgoing("$KV.WORKFLOW_STATES.gone", b"{}", ttl_s=1)])
    marker = None
    async with asyncio.timeout(10):
        while marker is None or marker.data:
            marker = await js.last(STATES, "$KV.WORKFLOW_STATES.gone")
            await asyncio.sleep(0.02)
    assert marker.headers is not None
    assert marker.headers["Nats-Marker-Reason"] == "MaxAge"
    # creation over the marker uses the marker's sequence
    assert refused((await js.publish(STATES, [state("gone", 0)]))[0]) == WRONG_LAST_SEQUENCE
    outcome = await js.publish_batch(STATES, [state("gone", marker.sequence)])
    assert isinstance(outcome, Accepted)


async def test_large_messages_go_through_whole(js: JetStream) -> None:
    body = bytes(range(256)) * 4096 * 6  # 6 MiB, every byte value
    await js.publish(STATES, [Outgoing("$KV.WORKFLOW_STATES.big", body)])
    stored = await js.last(STATES, "$KV.WORKFLOW_STATES.big")
    assert stored is not None
    assert stored.data == body


async def test_a_message_that_is_too_large_is_refused_without_harm_to_the_others(
    js: JetStream,
) -> None:
    huge = Outgoing("$KV.WORKFLOW_STATES.huge", b"x" * js.max_payload, "id")
    outcomes = await js.publish(STATES, [state("a"), huge, state("b")])
    assert [type(outcome) for outcome in outcomes] == [Accepted, Rejected, Accepted]
    assert refused(outcomes[1]) == batch.MESSAGE_TOO_LARGE
    assert refused(await js.publish_batch(STATES, [state("c"), huge])) == batch.MESSAGE_TOO_LARGE
    assert await js.last(STATES, "$KV.WORKFLOW_STATES.c") is None


async def test_the_largest_message_goes_through(js: JetStream) -> None:
    subject = "$KV.WORKFLOW_STATES.most"
    head = len(f"NATS/1.0\r\n{header_lines(Outgoing(subject, b'', 'id'))}\r\n")
    for data, accepted in ((b"x" * (js.max_payload - head), True), (b"x" * js.max_payload, False)):
        (outcome,) = await js.publish(STATES, [Outgoing(subject, data, "id")])
        assert isinstance(outcome, Accepted) is accepted


@pytest.mark.parametrize("subject", ["a b", "", "a\r\nPUB x 0", "a\tb"])
async def test_a_subject_that_would_break_the_protocol_is_refused(
    js: JetStream, subject: str
) -> None:
    with pytest.raises(ValueError, match="subject"):
        await js.publish("x", [Outgoing(subject, b"")])
