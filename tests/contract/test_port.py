"""What every implementation of wf.jetstream.port.Port keeps to."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.port_cases import (
    BODY,
    EVENTS,
    STATES,
    TASKS,
    eventually_floor,
    put_tasks,
    signal,
    state,
    take,
    task_consumer,
)
from tests.support.waiting import eventually
from wf.jetstream import topology
from wf.jetstream.port import (
    WRONG_LAST_SEQUENCE,
    Accepted,
    Delivery,
    Outgoing,
    Port,
    Rejected,
    Standing,
)

# Publishing.


async def test_singles_are_stored_in_order_and_say_where(port: Port) -> None:
    outcomes = await port.publish(EVENTS, [signal(f"i{n}") for n in range(5)])
    assert outcomes == [Accepted(n) for n in range(1, 6)]
    assert await port.last_sequence(EVENTS) == 5


async def test_publishing_nothing_gives_nothing(port: Port) -> None:
    assert await port.publish(EVENTS, []) == []


async def test_a_known_message_id_is_stored_once(port: Port) -> None:
    first, second = await port.publish(EVENTS, [signal("a", "s", "x"), signal("a", "s", "x")])
    assert first == Accepted(1)
    assert second == Accepted(1, duplicate=True)


async def test_a_single_with_a_wrong_expected_sequence_is_told_the_real_one(port: Port) -> None:
    await port.publish(STATES, [state("other"), state("a", expected=0)])
    (outcome,) = await port.publish(STATES, [state("a", expected=1)])
    assert isinstance(outcome, Rejected)
    assert (outcome.code, outcome.last_sequence) == (WRONG_LAST_SEQUENCE, 2)


async def test_compare_and_set_comes_before_dedupe(port: Port) -> None:
    await port.publish(STATES, [state("a", expected=0, message_id="m")])
    (outcome,) = await port.publish(STATES, [state("a", expected=0, message_id="m")])
    assert isinstance(outcome, Rejected)
    assert outcome.code == WRONG_LAST_SEQUENCE


async def test_one_refused_single_does_not_hold_up_its_neighbours(port: Port) -> None:
    outcomes = await port.publish(STATES, [state("a"), state("a", expected=99), state("b")])
    assert [type(outcome) for outcome in outcomes] == [Accepted, Rejected, Accepted]


async def test_headers_come_out_as_they_went_in(port: Port) -> None:
    trace = {"traceparent": "00-ab-cd-01"}
    await port.publish(EVENTS, [Outgoing("workflow.start.order", BODY, headers=trace)])
    pull = await port.pull(EVENTS, topology.ORCHESTRATOR, window=1)
    (delivery,) = await take(pull, 1)
    assert delivery.headers is not None
    assert delivery.headers["traceparent"] == "00-ab-cd-01"
    await pull.stop()


@pytest.mark.parametrize("bad", ["a\r\nb: c", "a\nb"])
async def test_a_line_break_in_a_header_is_refused_before_sending(port: Port, bad: str) -> None:
    with pytest.raises(ValueError, match="line break"):
        await port.publish(EVENTS, [Outgoing("workflow.start.x", BODY, headers={"k": bad})])
    assert await port.last_sequence(EVENTS) == 0


# Batches.


async def test_a_batch_is_stored_whole_and_without_gaps(port: Port) -> None:
    outcome = await port.publish_batch(STATES, [state(f"k{n}", expected=0) for n in range(200)])
    assert outcome == Accepted(200)
    stored = await port.last_many(STATES, [f"$KV.WORKFLOW_STATES.k{n}" for n in range(200)])
    assert sorted(found.sequence for found in stored.values()) == list(range(1, 201))


async def test_a_batch_with_one_wrong_sequence_stores_nothing(port: Port) -> None:
    await port.publish(STATES, [state("a")])
    outcome = await port.publish_batch(STATES, [state("b", expected=0), state("a", expected=0)])
    assert isinstance(outcome, Rejected)
    assert (outcome.code, outcome.last_sequence) == (WRONG_LAST_SEQUENCE, 1)
    assert await port.last(STATES, "$KV.WORKFLOW_STATES.b") is None


@pytest.mark.parametrize("count", [0, 1001])
async def test_a_batch_of_the_wrong_size_is_a_mistake_of_the_caller(port: Port, count: int) -> None:
    with pytest.raises(ValueError, match="1 to 1000"):
        await port.publish_batch(STATES, [state(f"k{n}") for n in range(count)])


async def test_a_batch_that_writes_one_key_twice_is_a_mistake_of_the_caller(port: Port) -> None:
    with pytest.raises(ValueError, match="twice"):
        await port.publish_batch(STATES, [state("a", expected=0), state("a", expected=1)])


# Reading.


async def test_the_last_message_of_a_subject(port: Port) -> None:
    await port.publish(STATES, [state("a"), state("a"), state("b")])
    for leader in (False, True):
        found = await port.last(STATES, "$KV.WORKFLOW_STATES.a", leader=leader)
        assert found is not None
        assert (found.subject, found.sequence, found.data) == ("$KV.WORKFLOW_STATES.a", 2, BODY)
        assert found.timestamp_ms > 1_700_000_000_000
        assert await port.last(STATES, "$KV.WORKFLOW_STATES.none", leader=leader) is None


async def test_last_of_many_gives_only_what_exists_however_many_are_asked_for(port: Port) -> None:
    await port.publish_batch(STATES, [state(f"k{n}") for n in range(700)])
    names = [f"$KV.WORKFLOW_STATES.k{n}" for n in range(1400)]
    found = await port.last_many(STATES, names)
    assert sorted(found) == sorted(names[:700])
    assert await port.last_many(STATES, []) == {}
    assert await port.last_many(STATES, ["$KV.WORKFLOW_STATES.none"]) == {}


async def test_a_message_is_found_by_its_sequence(port: Port) -> None:
    await port.publish(EVENTS, [signal("a"), signal("b")])
    found = await port.at(EVENTS, 2)
    assert found is not None
    assert found.subject.startswith("workflow.signal.received.b.s")
    assert await port.at(EVENTS, 3) is None
    assert await port.at(EVENTS, 0) is None


async def test_a_scan_goes_on_from_any_sequence_in_stream_order(port: Port) -> None:
    await port.publish(EVENTS, [signal("a" if n % 2 else "b", f"s{n}") for n in range(10)])
    found = await port.scan(EVENTS, "workflow.signal.received.a.>", from_sequence=3, limit=3)
    assert [stored.sequence for stored in found] == [4, 6, 8]
    filter_ = "workflow.signal.received.a.>"
    assert await port.scan(EVENTS, filter_, from_sequence=3, limit=1) == found[:1]
    assert (
        await port.scan(EVENTS, filter_, from_sequence=found[0].sequence + 1, limit=1)
        == (found[1:2])
    )
    assert await port.scan(EVENTS, ">", from_sequence=11, limit=1) == []
    assert await port.scan(EVENTS, "workflow.signal.received.none.>", limit=1) == []
    assert await port.scan(EVENTS, "workflow.signal.received.none.>") == []
    assert len(await port.scan(EVENTS, "workflow.>")) == 10
    assert await port.scan(EVENTS, "workflow.>", from_sequence=11) == []


async def test_a_scan_may_begin_at_a_time(port: Port) -> None:
    await port.publish(EVENTS, [signal("a", f"s{n}") for n in range(3)])
    all_ = await port.scan(EVENTS, "workflow.>")
    assert await port.scan(EVENTS, "workflow.>", from_ms=all_[0].timestamp_ms) == all_
    assert await port.scan(EVENTS, "workflow.>", from_ms=0) == all_
    assert await port.scan(EVENTS, "workflow.>", from_ms=all_[-1].timestamp_ms + 1) == []
    assert await port.scan(EVENTS, "nothing", from_ms=0) == []


# Pulling and acknowledging.


async def test_a_pull_gives_what_is_there_and_no_more_than_asked_for(port: Port) -> None:
    await task_consumer(port)
    await put_tasks(port, 10)
    pull = await port.pull(TASKS, topology.consumer_name("work"), window=10)
    taken = await take(pull, 10)
    assert [delivery.sequence for delivery in taken] == list(range(1, 11))
    assert {delivery.delivered for delivery in taken} == {1}
    assert taken[0].stream == TASKS
    assert taken[0].consumer == topology.consumer_name("work")
    assert taken[0].subject == "activity.tasks.work"
    assert [delivery.pending for delivery in taken][-1] == 0
    await pull.stop()


@pytest.mark.parametrize("window", [1, 2, 3, 7, 500])
async def test_any_window_gets_everything_in_order(port: Port, window: int) -> None:
    await task_consumer(port, max_ack_pending=1000)
    await put_tasks(port, 60)
    pull = await port.pull(TASKS, topology.consumer_name("work"), window=window)
    seen = []
    while len(seen) < 60:
        for delivery in await take(pull, 1):
            port.ack(delivery)
            seen.append(delivery.sequence)
    assert seen == list(range(1, 61))
    assert await pull.stop() == []


async def test_the_window_bounds_what_is_delivered_ahead(port: Port) -> None:
    await task_consumer(port)
    await put_tasks(port, 20)
    one = await port.pull(TASKS, topology.consumer_name("work"), window=5)
    two = await port.pull(TASKS, topology.consumer_name("work"), window=100)
    await take(two, 15)
    assert len(await one.stop()) == 5
    assert await two.stop() == []


async def test_shrinking_asks_for_nothing_in_place_of_what_was_taken(port: Port) -> None:
    await task_consumer(port)
    await put_tasks(port, 6)
    name = topology.consumer_name("work")
    one = await port.pull(TASKS, name, window=2)
    async with asyncio.timeout(10):
        taken = await one.next(1, shrink=True)
        taken += await one.next(1, shrink=True)
    other = await port.pull(TASKS, name, window=10)
    assert len(await take(other, 4)) == 4  # nothing went to the first
    await other.stop()
    await put_tasks(port, 2)
    one.resize(1)
    assert len(await take(one, 1)) == 1
    one.resize(0)
    assert len(await one.stop()) <= 1
    assert [delivery.sequence for delivery in taken] == [1, 2]


async def test_stopping_gives_back_what_was_not_taken_and_ends_next(port: Port) -> None:
    await task_consumer(port)
    await put_tasks(port, 4)
    pull = await port.pull(TASKS, topology.consumer_name("work"), window=4)
    (first,) = await take(pull, 1)
    await port.flush()
    rest = await pull.stop()
    assert [delivery.sequence for delivery in [first, *rest]] == [1, 2, 3, 4]
    assert await pull.next(10) == []


async def test_next_wakes_when_the_pull_is_stopped(port: Port) -> None:
    await task_consumer(port)
    pull = await port.pull(TASKS, topology.consumer_name("work"), window=4)
    waiting = asyncio.create_task(pull.next(1))
    await port.flush()
    await pull.stop()
    async with asyncio.timeout(5):
        assert await waiting == []


async def test_a_negative_acknowledgement_brings_the_message_again_at_once(port: Port) -> None:
    await task_consumer(port)
    await put_tasks(port, 1)
    pull = await port.pull(TASKS, topology.consumer_name("work"), window=1)
    (first,) = await take(pull, 1)
    port.nak(first)
    (second,) = await take(pull, 1)
    assert (second.sequence, second.delivered) == (first.sequence, 2)
    await pull.stop()


async def test_a_delay_holds_the_message_back(port: Port) -> None:
    await task_consumer(port)
    await put_tasks(port, 2)
    pull = await port.pull(TASKS, topology.consumer_name("work"), window=1)
    (first,) = await take(pull, 1)
    port.nak(first, 0.3)
    (second, again) = await take(pull, 2)
    assert (second.sequence, again.sequence) == (2, 1)
    await pull.stop()


async def test_without_an_acknowledgement_the_message_comes_again_after_ack_wait(
    port: Port,
) -> None:
    await task_consumer(port, ack_wait_s=0.5)
    await put_tasks(port, 1)
    pull = await port.pull(TASKS, topology.consumer_name("work"), window=1)
    await take(pull, 1)
    (again,) = await take(pull, 1)
    assert again.delivered == 2
    await pull.stop()


async def test_in_progress_keeps_the_message_from_coming_again(port: Port) -> None:
    await task_consumer(port, ack_wait_s=0.5)
    await put_tasks(port, 2)
    pull = await port.pull(TASKS, topology.consumer_name("work"), window=2)
    kept, left = await take(pull, 2)
    ticker = asyncio.create_task(_keep(port, kept))
    (again,) = await take(pull, 1)
    ticker.cancel()
    assert again.sequence == left.sequence
    await pull.stop()


async def _keep(port: Port, delivery: Delivery) -> None:
    while True:
        port.in_progress(delivery)
        await asyncio.sleep(0.1)


async def test_a_terminated_message_never_comes_again(port: Port) -> None:
    await task_consumer(port, ack_wait_s=0.5)
    await put_tasks(port, 2)
    pull = await port.pull(TASKS, topology.consumer_name("work"), window=2)
    first, second = await take(pull, 2)
    port.terminate(first)
    (again,) = await take(pull, 1)
    assert again.sequence == second.sequence
    await pull.stop()


async def test_the_floor_is_below_the_first_unacknowledged_message(port: Port) -> None:
    await task_consumer(port)
    name = topology.consumer_name("work")
    assert await port.ack_floor(TASKS, name) == 0
    await put_tasks(port, 3)
    pull = await port.pull(TASKS, name, window=3)
    first, second, third = await take(pull, 3)
    port.ack(third)
    port.ack(first)
    await port.flush()
    await eventually_floor(port, name, 1)
    port.ack(second)
    await eventually_floor(port, name, 3)
    await pull.stop()


async def test_a_consumer_says_what_is_unacknowledged_and_who_waits(port: Port) -> None:
    await task_consumer(port)
    name = topology.consumer_name("work")
    await put_tasks(port, 2)
    pull = await port.pull(TASKS, name, window=3)
    first, _ = await take(pull, 2)
    standing = await port.standing(TASKS, name)
    assert (standing.floor, standing.unacknowledged) == (0, 2)
    assert standing.requests > 0
    port.ack(first)
    await eventually_floor(port, name, 1)
    await pull.stop()
    assert await port.standing(TASKS, name) == Standing(1, unacknowledged=1, requests=0)
    assert await port.standing(TASKS, "nobody") == Standing(0, 0, 0)


async def test_the_floor_of_a_consumer_that_is_not_there_is_zero(port: Port) -> None:
    assert await port.ack_floor(TASKS, "nobody") == 0


async def test_a_reset_delivers_again_what_lies_above_the_floor_with_fresh_counts(
    port: Port,
) -> None:
    await port.publish(EVENTS, [signal(f"i{n}") for n in range(4)])
    pull = await port.pull(EVENTS, topology.ORCHESTRATOR, window=4)
    for delivery in await take(pull, 4):
        if delivery.sequence != 2:
            port.ack(delivery)
    await port.flush()
    await eventually_floor(port, topology.ORCHESTRATOR, 1, EVENTS)
    await port.reset_consumer(EVENTS, topology.ORCHESTRATOR)
    again = await take(pull, 3)
    assert [delivery.sequence for delivery in again] == [2, 3, 4]
    assert {delivery.delivered for delivery in again} == {1}
    await pull.stop()


async def test_a_reset_to_a_sequence_goes_back_that_far(port: Port) -> None:
    await port.publish(EVENTS, [signal(f"i{n}") for n in range(3)])
    pull = await port.pull(EVENTS, topology.ORCHESTRATOR, window=3)
    for delivery in await take(pull, 3):
        port.ack(delivery)
    await eventually_floor(port, topology.ORCHESTRATOR, 3, EVENTS)
    await port.reset_consumer(EVENTS, topology.ORCHESTRATOR, 2)
    assert [delivery.sequence for delivery in await take(pull, 2)] == [2, 3]
    await pull.stop()


# Managing.


async def test_a_purge_goes_up_to_its_sequence_and_keeps_to_its_subject(port: Port) -> None:
    await put_tasks(port, 3, "a")  # 1, 2, 3
    await put_tasks(port, 2, "b")  # 4, 5
    await put_tasks(port, 1, "a")  # 6
    assert await port.purge(TASKS, subject="activity.tasks.a", up_to=5) == 3
    left = await port.scan(TASKS, "activity.tasks.>")
    assert [stored.sequence for stored in left] == [4, 5, 6]
    assert await port.purge(TASKS, up_to=4) == 1
    assert await port.purge(TASKS, up_to=0) == 0
    assert await port.purge(TASKS) == 2
    assert await port.last_sequence(TASKS) == 6


async def test_subjects_are_counted(port: Port) -> None:
    await put_tasks(port, 3, "a")
    await put_tasks(port, 1, "b")
    assert await port.subjects(TASKS, "activity.tasks.a") == {"activity.tasks.a": 3}
    assert await port.subjects(TASKS, "activity.tasks.c") == {}


async def test_a_consumer_is_changed_in_place(port: Port) -> None:
    await task_consumer(port, ack_wait_s=30)
    await put_tasks(port, 2)
    pull = await port.pull(TASKS, topology.consumer_name("work"), window=1)
    (first,) = await take(pull, 1)
    port.ack(first)
    await port.flush()
    await task_consumer(port, ack_wait_s=0.5)
    await take(pull, 1)
    (again,) = await take(pull, 1)
    assert (again.sequence, again.delivered) == (2, 2)
    await pull.stop()


# Core NATS.


async def test_core_messages_are_heard_in_order_until_unsubscribed(port: Port) -> None:
    heard: list[tuple[str, bytes]] = []

    async def hear(subject: str, data: bytes) -> None:
        heard.append((subject, data))

    unsubscribe = await port.subscribe_core("workflow.finished.*", hear)
    for number in range(3):
        await port.publish_core(f"workflow.finished.i{number}", b"%d" % number)

    async def all_heard() -> bool:
        return len(heard) == 3

    await eventually(all_heard)
    assert heard == [(f"workflow.finished.i{n}", b"%d" % n) for n in range(3)]
    await unsubscribe()
    await port.publish_core("workflow.finished.late", b"")
    await port.flush()
    assert len(heard) == 3


def test_the_limit_for_one_message_is_known(port: Port) -> None:
    assert port.max_payload == 8 * 1024 * 1024
