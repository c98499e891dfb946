"""What the tests of the JetStream port share."""

from __future__ import annotations

import asyncio

from tests.support.waiting import eventually
from wf.jetstream import topology
from wf.jetstream.port import Accepted, Delivery, Outcome, Outgoing, Port, Pull, Rejected

EVENTS = topology.WORKFLOW_EVENTS
STATES = topology.WORKFLOW_STATES
TASKS = topology.ACTIVITY_TASKS
TIMERS = topology.WORKFLOW_TIMERS
BODY = b'{"v":1}'


def state(key: str, *, expected: int | None = None, message_id: str | None = None) -> Outgoing:
    return Outgoing(f"$KV.WORKFLOW_STATES.{key}", BODY, message_id, expected)


def signal(instance: str, name: str = "s", message_id: str | None = None) -> Outgoing:
    return Outgoing(f"workflow.signal.received.{instance}.{name}", BODY, message_id)


async def task_consumer(port: Port, activity: str = "work", **changes: float) -> None:
    settings = {"ack_wait_s": 30.0, "max_deliver": 5, "max_ack_pending": 100, **changes}
    await port.ensure_task_consumer(activity, **settings)


async def put_tasks(port: Port, count: int, activity: str = "work") -> None:
    outcomes = await port.publish(
        TASKS, [Outgoing(f"activity.tasks.{activity}", b"%d" % n) for n in range(count)]
    )
    assert all(isinstance(outcome, Accepted) for outcome in outcomes)


async def take(pull: Pull, count: int) -> list[Delivery]:
    """Exactly `count` deliveries, within a limit."""
    taken: list[Delivery] = []
    async with asyncio.timeout(10):
        while len(taken) < count:
            taken += await pull.next(count - len(taken))
    return taken


async def eventually_floor(port: Port, consumer: str, floor: int, stream: str = TASKS) -> None:
    async def reached() -> bool:
        return await port.ack_floor(stream, consumer) == floor

    await eventually(reached, what=f"ack floor {floor} of {consumer}")


def refused(outcome: Outcome) -> int:
    """The code of a refusal."""
    assert isinstance(outcome, Rejected), outcome
    return outcome.code
