"""The sweeper deletes what was acknowledged, and nothing else."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.server import RealServer
from tests.support.waiting import eventually
from wf.errors import MessageError
from wf.jetstream import topology
from wf.jetstream.advisories import Advisory, AdvisoryReader, parse_advisory
from wf.jetstream.client import JetStream
from wf.jetstream.port import Accepted, Delivery, Outgoing
from wf.jetstream.sweeper import LATE_MESSAGES, LATE_S, Postponed, Sweeper, purge_to
from wf.protocol import subjects

EVENTS = topology.WORKFLOW_EVENTS
TASKS = topology.ACTIVITY_TASKS
TIMERS = topology.WORKFLOW_TIMERS
CONSUMER = topology.consumer_name("work")


class Clock:
    """Time that passes only when told to."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        self.now_s += 10
        return self.now_s


async def put(js: JetStream, count: int, subject: str = "activity.tasks.work") -> None:
    outcomes = await js.publish("", [Outgoing(subject, b"") for _ in range(count)])
    assert all(isinstance(outcome, Accepted) for outcome in outcomes)


async def take(js: JetStream, stream: str, consumer: str, count: int) -> list[Delivery]:
    pull = await js.pull(stream, consumer, window=count)
    taken: list[Delivery] = []
    async with asyncio.timeout(10):
        while len(taken) < count:
            taken += await pull.next(count - len(taken))
    for left in await pull.stop():  # the pull has asked for more meanwhile
        js.nak(left)
    return taken


async def sequences(js: JetStream, stream: str, subject: str) -> list[int]:
    return [stored.sequence for stored in await js.scan(stream, subject)]


async def floor_is(js: JetStream, stream: str, consumer: str, floor: int) -> None:
    async def reached() -> bool:
        return await js.ack_floor(stream, consumer) == floor

    await eventually(reached)


@pytest.mark.parametrize(
    ("earlier", "now", "unhandled", "limit"),
    [
        (0, 0, None, 0),
        (0, 9, None, 0),  # read for the first time: an advisory may be under way
        (5, 9, None, 5),
        (9, 5, None, 5),  # the consumer was reset
        (9, 9, 4, 3),
        (9, 9, 20, 9),
        (9, 9, 1, 0),
    ],
)
def test_a_purge_goes_to_the_earlier_floor_and_stops_before_an_unhandled_message(
    earlier: int, now: int, unhandled: int | None, limit: int
) -> None:
    assert purge_to(earlier, now, unhandled) == limit


async def test_what_was_acknowledged_a_period_ago_is_deleted_and_the_rest_stays(
    js: JetStream,
) -> None:
    await js.ensure_task_consumer("work", ack_wait_s=30, max_deliver=5, max_ack_pending=100)
    await put(js, 6)
    sweeper = Sweeper(js, clock=Clock())
    for delivery in (await take(js, TASKS, CONSUMER, 5))[:3]:
        js.ack(delivery)
    await floor_is(js, TASKS, CONSUMER, 3)
    waiting = await js.pull(TASKS, CONSUMER, window=2)
    assert (await waiting.next(1))[0].sequence == 6
    assert await sweeper.sweep() == 0
    assert await sequences(js, TASKS, "activity.tasks.>") == [1, 2, 3, 4, 5, 6]
    assert await sweeper.sweep() == 3
    assert await sequences(js, TASKS, "activity.tasks.>") == [4, 5, 6]
    assert await sweeper.sweep() == 0
    await waiting.stop()


async def test_what_was_handed_back_comes_at_once_however_often_it_is_swept(js: JetStream) -> None:
    await js.ensure_task_consumer("work", ack_wait_s=30, max_deliver=5, max_ack_pending=100)
    await put(js, 3)
    first, *held = await take(js, TASKS, CONSUMER, 3)
    js.ack(first)
    for delivery in held:
        js.nak(delivery)
    await floor_is(js, TASKS, CONSUMER, 1)
    sweeper = Sweeper(js, clock=Clock())
    for _ in range(3):
        assert await sweeper.sweep() == 0
    async with asyncio.timeout(1):
        assert {one.sequence for one in await take(js, TASKS, CONSUMER, 2)} == {2, 3}


async def test_a_reader_that_is_always_busy_is_swept_when_it_is_late(js: JetStream) -> None:
    await js.ensure_task_consumer("work", ack_wait_s=30, max_deliver=5, max_ack_pending=100)
    await put(js, 2)
    first, _ = await take(js, TASKS, CONSUMER, 2)
    js.ack(first)
    await floor_is(js, TASKS, CONSUMER, 1)
    clock = Clock()
    sweeper = Sweeper(js, clock=clock)
    assert [await sweeper.sweep() for _ in range(3)] == [0, 0, 0]
    clock.now_s += LATE_S
    assert await sweeper.sweep() == 1


@pytest.mark.parametrize(
    ("now_s", "up_to", "late"),
    [
        (0.0, 5, False),
        (LATE_S - 1, 5 + LATE_MESSAGES - 1, False),
        (LATE_S, 5, True),
        (1.0, 5 + LATE_MESSAGES, True),
    ],
)
def test_a_purge_is_late_by_time_or_by_what_has_gathered(
    now_s: float, up_to: int, late: bool
) -> None:
    assert Postponed(0.0, 5).is_late(now_s, up_to) == late


async def test_a_sweep_that_comes_too_early_does_nothing(js: JetStream) -> None:
    await put(js, 1, "workflow.start.order")
    (delivery,) = await take(js, EVENTS, topology.ORCHESTRATOR, 1)
    js.ack(delivery)
    await floor_is(js, EVENTS, topology.ORCHESTRATOR, 1)
    now_s = 0.0
    sweeper = Sweeper(js, period_s=1.0, clock=lambda: now_s)
    assert await sweeper.sweep() == 0
    now_s = 0.9
    assert await sweeper.sweep() == 0
    now_s = 1.1
    assert await sweeper.sweep() == 1


async def test_one_activity_that_is_behind_does_not_hold_up_another(js: JetStream) -> None:
    await js.ensure_task_consumer("work", ack_wait_s=30, max_deliver=5, max_ack_pending=100)
    await put(js, 2, "activity.tasks.nobody")
    await put(js, 2)
    for delivery in await take(js, TASKS, CONSUMER, 2):
        js.ack(delivery)
    await floor_is(js, TASKS, CONSUMER, 4)
    sweeper = Sweeper(js, clock=Clock())
    await sweeper.sweep()
    assert await sweeper.sweep() == 2
    assert await sequences(js, TASKS, "activity.tasks.>") == [1, 2]


async def test_a_consumer_that_was_reset_keeps_what_it_will_read_again(js: JetStream) -> None:
    await put(js, 5, "workflow.start.order")
    for delivery in await take(js, EVENTS, topology.ORCHESTRATOR, 5):
        js.ack(delivery)
    await floor_is(js, EVENTS, topology.ORCHESTRATOR, 5)
    sweeper = Sweeper(js, clock=Clock())
    await sweeper.sweep()
    await js.reset_consumer(EVENTS, topology.ORCHESTRATOR, 3)
    await sweeper.sweep()
    assert await sequences(js, EVENTS, "workflow.>") == [3, 4, 5]


async def test_pending_schedules_are_never_swept(js: JetStream) -> None:
    waiting = Outgoing(
        subjects.timer_scheduled("order-1", "1"),
        b"{}",
        headers={
            "Nats-Schedule": "@at 2099-01-01T00:00:00Z",
            "Nats-Schedule-Target": subjects.timer_fired("order-1", "1"),
        },
    )
    await js.publish(TIMERS, [waiting, Outgoing(subjects.timer_fired("order-1", "2"), b"{}")])
    for delivery in await take(js, TIMERS, topology.TIMERS, 1):
        js.ack(delivery)
    await floor_is(js, TIMERS, topology.TIMERS, 2)
    sweeper = Sweeper(js, clock=Clock())
    await sweeper.sweep()
    assert await sweeper.sweep() == 1
    assert await js.subjects(TIMERS, "workflow.timer.>") == {
        subjects.timer_scheduled("order-1", "1"): 1
    }


async def test_a_message_past_max_deliver_stays_until_its_advisory_is_handled(
    js: JetStream,
) -> None:
    await js.ensure_task_consumer("work", ack_wait_s=0.5, max_deliver=2, max_ack_pending=100)
    await put(js, 3)
    pull = await js.pull(TASKS, CONSUMER, window=10)

    async def work() -> None:
        while True:
            for delivery in await pull.next(10):
                if delivery.sequence != 2:
                    js.ack(delivery)

    working = asyncio.create_task(work())
    reader = AdvisoryReader(js)
    async with asyncio.timeout(10):
        ((advisory, taken),) = await reader.next()
    assert advisory == Advisory(TASKS, CONSUMER, 2, 2)
    await put(js, 1)
    await floor_is(js, TASKS, CONSUMER, 4)  # the floor has passed message 2
    working.cancel()
    await pull.stop()

    sweeper = Sweeper(js, clock=Clock())
    for _ in range(3):
        await sweeper.sweep()
    assert await sequences(js, TASKS, "activity.tasks.>") == [2, 3, 4]

    reader.handled(taken)
    await floor_is(js, topology.ADVISORIES, topology.ADVISORY_READER, 1)
    await sweeper.sweep()
    assert await sequences(js, TASKS, "activity.tasks.>") == []
    await reader.stop()


async def test_an_advisory_that_was_missed_is_read_later(
    js: JetStream, nats_server: RealServer
) -> None:
    await js.ensure_task_consumer("work", ack_wait_s=0.5, max_deliver=1, max_ack_pending=100)
    await put(js, 1)
    await take(js, TASKS, CONSUMER, 1)

    async def stored() -> bool:
        # the server notices when somebody pulls
        pull = await js.pull(TASKS, CONSUMER, window=1)
        await js.flush()
        await pull.stop()
        return await js.last_sequence(topology.ADVISORIES) == 1

    await eventually(stored)
    late = await nats_server.connect()
    reader = AdvisoryReader(late)
    async with asyncio.timeout(10):
        ((advisory, _),) = await reader.next()
    assert advisory.stream_seq == 1
    await reader.stop()
    await late.close()


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"stream":"S","consumer":"c"}'])
def test_what_is_no_advisory_says_so(data: bytes) -> None:
    with pytest.raises(MessageError, match="advisory"):
        parse_advisory(data)
