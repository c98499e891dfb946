"""Rules of JetStream on which correctness rests, alike on a real server and in memory."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from tests.support.port_cases import (
    BODY,
    EVENTS,
    STATES,
    TASKS,
    TIMERS,
    eventually_floor,
    put_tasks,
    refused,
    signal,
    state,
    take,
    task_consumer,
)
from tests.support.waiting import eventually
from wf.jetstream import batch, topology
from wf.jetstream.advisories import Advisory, AdvisoryReader
from wf.jetstream.port import (
    SUBJECT_FULL,
    WRONG_LAST_SEQUENCE,
    Accepted,
    Outgoing,
    Port,
    Rejected,
    Stored,
    Unknown,
)
from wf.protocol import subjects

WORK = topology.consumer_name("work")

# Dedupe, compare-and-set, limits: which is seen first.


async def test_in_a_batch_a_known_id_is_seen_before_a_wrong_sequence(port: Port) -> None:
    messages = [state("a", expected=0, message_id="a"), state("b", expected=0, message_id="b")]
    assert await port.publish_batch(STATES, messages) == Accepted(2)
    assert refused(await port.publish_batch(STATES, messages)) == batch.BATCH_DUPLICATE_ID
    singles = await port.publish(STATES, messages)
    assert [refused(outcome) for outcome in singles] == [WRONG_LAST_SEQUENCE] * 2


async def test_a_known_id_refuses_the_whole_batch_and_singles_get_through(port: Port) -> None:
    await port.publish(TASKS, [Outgoing("activity.tasks.a", b"", "1")])
    messages = [Outgoing("activity.tasks.a", b"", key) for key in ("2", "1")]
    assert refused(await port.publish_batch(TASKS, messages)) == batch.BATCH_DUPLICATE_ID
    assert await port.last_sequence(TASKS) == 1
    assert await port.publish(TASKS, messages) == [Accepted(2), Accepted(1, duplicate=True)]


async def test_one_id_twice_in_a_batch_refuses_it(port: Port) -> None:
    messages = [Outgoing("activity.tasks.a", b"", "1"), Outgoing("activity.tasks.b", b"", "1")]
    assert refused(await port.publish_batch(TASKS, messages)) == batch.BATCH_DUPLICATE_ID
    assert await port.last_sequence(TASKS) == 0


async def test_the_first_offender_of_a_batch_is_the_one_that_is_named(port: Port) -> None:
    await port.publish(STATES, [state("a", message_id="known"), state("b")])
    wrong_first = [state("b", expected=7), state("c", message_id="known")]
    assert refused(await port.publish_batch(STATES, wrong_first)) == WRONG_LAST_SEQUENCE
    known_first = [state("c", message_id="known"), state("b", expected=7)]
    assert refused(await port.publish_batch(STATES, known_first)) == batch.BATCH_DUPLICATE_ID


async def test_a_sequence_that_a_key_never_had_is_told_to_be_zero(port: Port) -> None:
    outcome = await port.publish_batch(STATES, [state("none", expected=5)])
    assert outcome == Rejected(WRONG_LAST_SEQUENCE, "wrong last sequence: 0", 0)


async def test_an_id_is_known_in_its_own_stream_only(port: Port) -> None:
    await port.publish(TASKS, [Outgoing("activity.tasks.a", b"", "1")])
    assert await port.publish(EVENTS, [signal("a", message_id="1")]) == [Accepted(1)]


async def test_an_id_stays_known_when_its_message_is_purged(port: Port) -> None:
    await port.publish(TASKS, [Outgoing("activity.tasks.a", b"", "1")])
    await port.purge(TASKS)
    assert await port.publish(TASKS, [Outgoing("activity.tasks.a", b"", "1")]) == [
        Accepted(1, duplicate=True)
    ]


async def test_an_id_is_forgotten_when_the_window_is_over(port: Port) -> None:
    current = (await port.api(f"STREAM.INFO.{TASKS}"))["config"]
    await port.api(f"STREAM.UPDATE.{TASKS}", {**current, "duplicate_window": 200_000_000})
    message = Outgoing("activity.tasks.a", b"", "1")
    assert await port.publish(TASKS, [message, message]) == [
        Accepted(1),
        Accepted(1, duplicate=True),
    ]

    async def stored_again() -> bool:
        return Accepted(2) in await port.publish(TASKS, [message])

    await eventually(stored_again)


async def test_a_refused_message_leaves_its_id_unknown(port: Port) -> None:
    await port.publish(STATES, [state("a", expected=3, message_id="m")])
    assert await port.publish(STATES, [state("a", expected=0, message_id="m")]) == [Accepted(1)]


async def test_a_subject_that_no_stream_takes_gets_no_answer(port: Port) -> None:
    async with asyncio.timeout(2):
        (outcome,) = await port.publish("x", [Outgoing("nobody.listens", b"")])
        whole = await port.publish_batch("x", [Outgoing("nobody.listens", b"")])
    assert isinstance(outcome, Unknown)
    assert isinstance(whole, Unknown)


async def test_a_key_holds_its_last_value_only(port: Port) -> None:
    await port.publish(STATES, [state("a"), state("b"), state("a")])
    assert await port.count(STATES) == 2
    assert await port.at(STATES, 1) is None


async def test_the_partition_is_the_same_however_a_message_comes(port: Port) -> None:
    sent = [signal(f"i{n}") for n in range(8)]
    await port.publish(EVENTS, sent)
    found = [stored.subject.rpartition(".")[2] for stored in await port.scan(EVENTS, "workflow.>")]
    assert found == ["12", "15", "2", "5", "0", "3", "6", "9"]


async def test_a_message_that_is_too_large_harms_no_other(port: Port) -> None:
    huge = Outgoing("$KV.WORKFLOW_STATES.huge", b"x" * port.max_payload)
    outcomes = await port.publish(STATES, [state("a"), huge, state("b")])
    assert [type(outcome) for outcome in outcomes] == [Accepted, Rejected, Accepted]
    assert refused(await port.publish_batch(STATES, [state("c"), huge])) == batch.MESSAGE_TOO_LARGE


# Expiry.


async def test_a_key_expires_and_leaves_a_marker_whose_sequence_the_next_must_name(
    port: Port,
) -> None:
    await port.publish(STATES, [Outgoing("$KV.WORKFLOW_STATES.gone", b"{}", ttl_s=1)])

    async def marker() -> Stored | None:
        last = await port.last(STATES, "$KV.WORKFLOW_STATES.gone")
        return last if last is not None and last.is_marker else None

    found = await eventually(marker, what="a marker")
    assert found is not None
    assert found.headers is not None
    assert (found.sequence, found.headers["Nats-Marker-Reason"]) == (2, "MaxAge")
    assert refused((await port.publish(STATES, [state("gone", expected=0)]))[0])
    assert await port.publish(STATES, [state("gone", expected=2)]) == [Accepted(3)]


# Schedules.


def scheduled(timer: str, after_s: float) -> Outgoing:
    at = datetime.now(UTC) + timedelta(seconds=after_s)
    return Outgoing(
        subjects.timer_scheduled("order-1", timer),
        timer.encode(),
        headers={
            "Nats-Schedule": f"@at {at.isoformat().replace('+00:00', 'Z')}",
            "Nats-Schedule-Target": subjects.timer_fired("order-1", timer),
        },
    )


async def test_a_schedule_fires_into_its_own_stream_and_is_gone(port: Port) -> None:
    pull = await port.pull(TIMERS, topology.TIMERS, window=10)
    await port.publish(TIMERS, [scheduled("4", 0.1)])
    (fired,) = await take(pull, 1)
    assert (fired.subject, fired.data) == (subjects.timer_fired("order-1", "4"), b"4")
    assert fired.headers is not None
    assert fired.headers["Nats-Scheduler"] == subjects.timer_scheduled("order-1", "4")
    assert "Nats-Schedule" not in fired.headers
    assert await port.subjects(TIMERS, topology.SCHEDULED_TIMERS) == {}
    await pull.stop()


async def test_a_schedule_in_the_past_fires_at_once(port: Port) -> None:
    pull = await port.pull(TIMERS, topology.TIMERS, window=10)
    await port.publish(TIMERS, [scheduled("4", -3600)])
    (fired,) = await take(pull, 1)
    assert fired.data == b"4"
    await pull.stop()


async def test_a_second_schedule_takes_the_place_of_the_first(port: Port) -> None:
    pull = await port.pull(TIMERS, topology.TIMERS, window=10)
    await port.publish(TIMERS, [scheduled("4", 3600)])
    await port.publish(TIMERS, [scheduled("4", 0.1)])
    assert await port.count(TIMERS) == 1
    (fired,) = await take(pull, 1)
    assert fired.sequence == 3
    assert await port.count(TIMERS) == 1
    await pull.stop()


async def test_purging_its_subject_cancels_a_schedule(port: Port) -> None:
    pull = await port.pull(TIMERS, topology.TIMERS, window=10)
    messages = [scheduled("1", 0.2), scheduled("2", 0.4)]
    assert await port.publish_batch(TIMERS, messages) == Accepted(2)
    assert await port.purge(TIMERS, subject=subjects.timer_scheduled("order-1", "1")) == 1
    (fired,) = await take(pull, 1)
    assert fired.data == b"2"
    await pull.stop()


async def test_a_purge_up_to_a_sequence_leaves_later_schedules(port: Port) -> None:
    pull = await port.pull(TIMERS, topology.TIMERS, window=10)
    await port.publish(TIMERS, [scheduled("1", 0.3), scheduled("2", 0.3)])
    await port.purge(TIMERS, up_to=1)
    (fired,) = await take(pull, 1)
    assert fired.data == b"2"
    await pull.stop()


async def test_what_a_filter_leaves_out_does_not_hold_the_floor_down(port: Port) -> None:
    pull = await port.pull(TIMERS, topology.TIMERS, window=10)
    await port.publish(TIMERS, [scheduled("1", 3600), scheduled("2", 0.05)])
    (fired,) = await take(pull, 1)
    assert fired.sequence == 3
    port.ack(fired)
    await eventually_floor(port, topology.TIMERS, 3, TIMERS)
    await pull.stop()


# Redelivery.


async def test_one_that_is_given_up_holds_the_floor_until_nothing_is_pending(port: Port) -> None:
    await task_consumer(port, ack_wait_s=0.4, max_deliver=2)
    await put_tasks(port, 1)
    pull = await port.pull(TASKS, WORK, window=10)
    await take(pull, 2)
    reader = AdvisoryReader(port)
    async with asyncio.timeout(10):
        await reader.next()
    await eventually_floor(port, WORK, 1)
    await put_tasks(port, 2)
    second, third = await take(pull, 2)
    port.ack(second)
    await port.flush()
    assert await port.ack_floor(TASKS, WORK) == 0
    port.ack(third)
    await eventually_floor(port, WORK, 3)
    await reader.stop()
    await pull.stop()


async def test_deliveries_are_counted_and_the_last_one_is_told_by_an_advisory(port: Port) -> None:
    await task_consumer(port, ack_wait_s=0.4, max_deliver=2)
    await put_tasks(port, 2)
    pull = await port.pull(TASKS, WORK, window=10)
    first, second = await take(pull, 2)
    port.ack(second)
    (again,) = await take(pull, 1)
    assert (again.sequence, again.delivered) == (first.sequence, 2)
    reader = AdvisoryReader(port)
    async with asyncio.timeout(10):
        ((advisory, taken),) = await reader.next()
    assert advisory == Advisory(TASKS, WORK, 1, 2)
    await eventually_floor(port, WORK, 2)  # it has passed the message, which is still there
    assert await port.at(TASKS, 1) is not None
    reader.handled(taken)
    await reader.stop()
    await pull.stop()


async def test_handing_back_counts_as_a_delivery(port: Port) -> None:
    await task_consumer(port, max_deliver=2)
    await put_tasks(port, 1)
    pull = await port.pull(TASKS, WORK, window=1)
    for _ in range(2):
        (held,) = await take(pull, 1)
        port.nak(held)
    reader = AdvisoryReader(port)
    async with asyncio.timeout(10):
        ((advisory, _),) = await reader.next()
    assert advisory.deliveries == 2
    await reader.stop()
    await pull.stop()


async def test_no_more_than_max_ack_pending_are_out_at_once(port: Port) -> None:
    await task_consumer(port, max_ack_pending=2)
    await put_tasks(port, 3)
    pull = await port.pull(TASKS, WORK, window=10)
    first, _ = await take(pull, 2)
    await port.flush()
    assert await port.ack_floor(TASKS, WORK) == 0
    port.ack(first)
    (third,) = await take(pull, 1)
    assert third.sequence == 3
    await pull.stop()


async def test_an_ack_from_an_earlier_delivery_counts(port: Port) -> None:
    await task_consumer(port)
    await put_tasks(port, 1)
    pull = await port.pull(TASKS, WORK, window=1)
    (first,) = await take(pull, 1)
    port.nak(first)
    await take(pull, 1)
    port.ack(first)
    await eventually_floor(port, WORK, 1)
    await pull.stop()


async def test_a_message_that_is_purged_while_it_is_held_is_waited_for_no_longer(
    port: Port,
) -> None:
    await task_consumer(port, ack_wait_s=0.4)
    await put_tasks(port, 3)
    pull = await port.pull(TASKS, WORK, window=10)
    await take(pull, 3)
    assert await port.purge(TASKS, up_to=2) == 2
    (again,) = await take(pull, 1)
    assert again.sequence == 3
    port.ack(again)
    await eventually_floor(port, WORK, 3)
    await pull.stop()


async def test_after_a_reset_the_floor_has_moved_back(port: Port) -> None:
    await port.publish(EVENTS, [signal(f"i{n}") for n in range(4)])
    pull = await port.pull(EVENTS, topology.ORCHESTRATOR, window=10)
    for held in await take(pull, 4):
        port.ack(held)
    await eventually_floor(port, topology.ORCHESTRATOR, 4, EVENTS)
    await pull.stop()
    await port.reset_consumer(EVENTS, topology.ORCHESTRATOR, 3)
    assert await port.ack_floor(EVENTS, topology.ORCHESTRATOR) == 2


@pytest.mark.parametrize("verb", ["ack", "nak", "in_progress"])
async def test_what_is_said_of_a_message_that_is_done_changes_nothing(
    port: Port, verb: str
) -> None:
    await task_consumer(port)
    await put_tasks(port, 2)
    pull = await port.pull(TASKS, WORK, window=1)
    (first,) = await take(pull, 1)
    port.ack(first)
    await eventually_floor(port, WORK, 1)
    getattr(port, verb)(first)
    (second,) = await take(pull, 1)
    assert second.sequence == 2
    await pull.stop()


async def test_a_full_subject_refuses_and_says_so(port: Port) -> None:
    current = (await port.api(f"STREAM.INFO.{TASKS}"))["config"]
    await port.api(f"STREAM.UPDATE.{TASKS}", {**current, "max_msgs_per_subject": 2})
    messages = [Outgoing(f"activity.tasks.{name}", BODY) for name in ("a", "a", "b", "a")]
    assert refused(await port.publish_batch(TASKS, messages)) == SUBJECT_FULL
    assert await port.last_sequence(TASKS) == 0
    outcomes = await port.publish(TASKS, messages)
    assert outcomes[:3] == [Accepted(1), Accepted(2), Accepted(3)]
    assert refused(outcomes[3]) == SUBJECT_FULL
    await port.purge(TASKS, subject="activity.tasks.a", up_to=1)
    assert await port.publish(TASKS, messages[:1]) == [Accepted(4)]


async def test_a_purge_forgets_what_was_handed_back_until_ack_wait_is_over(port: Port) -> None:
    await task_consumer(port, ack_wait_s=2)
    await put_tasks(port, 2)
    pull = await port.pull(TASKS, WORK, window=2)
    first, second = await take(pull, 2)
    await pull.stop()
    port.ack(first)
    port.nak(second)
    await eventually_floor(port, WORK, 1)
    await port.purge(TASKS, subject="activity.tasks.work", up_to=1)
    pull = await port.pull(TASKS, WORK, window=1)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(pull.next(1), 0.7)
    assert (await take(pull, 1))[0].sequence == second.sequence
    await pull.stop()
