"""A worker that pulls tasks, gives results, and is at times late, doubled or forgetful."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import orjson

from tests.simulation import flows
from wf.jetstream import topology
from wf.jetstream.port import Accepted, Delivery, Outgoing
from wf.protocol import messages, subjects

if TYPE_CHECKING:
    from tests.simulation.loop import Life
    from tests.simulation.world import World
    from tests.support.memory import MemoryPort

ACK_WAIT_S = 10.0
WINDOW = 4
KEEP_S = ACK_WAIT_S / 3
CRASH_LIMIT = 100


class Worker:
    def __init__(self, world: World, life: Life, port: MemoryPort) -> None:
        self._world = world
        self._life = life
        self._port = port
        self._random = world.random
        self.running: dict[tuple[str, int, int], tuple[str, Delivery]] = {}  # what monitor may tell

    async def run(self) -> None:
        """Announce the activities, then serve them."""
        for activity in flows.ACTIVITIES:
            await self._announce(activity)
        await asyncio.gather(*(self._serve(activity) for activity in flows.ACTIVITIES))

    async def _announce(self, activity: str) -> None:
        consumer = {
            "ack_wait_s": ACK_WAIT_S,
            "max_deliver": self._world.plan.max_deliver,
            "max_ack_pending": 100,
        }
        body = messages.encode({"v": messages.VERSION, "consumer": consumer})
        await self._store(topology.ACTIVITY_CATALOG, Outgoing(subjects.catalog(activity), body))

    async def _serve(self, activity: str) -> None:
        name = topology.consumer_name(activity)
        pull = await self._port.pull(topology.ACTIVITY_TASKS, name, window=WINDOW)
        while True:
            for delivery in await pull.next(WINDOW):
                asyncio.get_running_loop().create_task(self._work(activity, delivery))

    async def _work(self, activity: str, delivery: Delivery) -> None:
        task = orjson.loads(delivery.data)
        if delivery.delivered >= self._world.plan.max_deliver:
            outcome = self._undeliverable(task)
        elif (refused := await self._begin(activity, task, delivery)) is not None:
            outcome = refused
        else:
            key = (task["instance"], task["run"], task["attempt"])
            self.running[key] = (activity, delivery)
            await self._take_time(delivery, activity, task)
            outcome = self._outcome(activity, task)
            self.running.pop(key, None)
        await self._publish(activity, task, outcome)
        if self._random.random() < self._world.mishap:
            return  # it forgets the ack
        self._port.ack(delivery)

    async def _begin(
        self, activity: str, task: dict[str, Any], delivery: Delivery
    ) -> dict[str, Any] | None:
        """Of a task that is watched: tell that it begins, or what it gets in place of a result."""
        if "liveness" not in task:
            return None
        said = {"run": task["run"], "attempt": task["attempt"]}
        late_ms = self._world.wall_ms() - task["liveness"]["start_by_ms"]
        if late_ms > 0:
            return messages.sign_body(outcome=messages.EXPIRED, **said)
        if delivery.delivered > 1:
            return messages.sign_body(outcome=messages.REDELIVERED, **said)
        await self._publish(activity, task, messages.sign_body(outcome=messages.STARTED, **said))
        return None

    async def _beat(self, activity: str, task: dict[str, Any]) -> None:
        """At times it goes on and the engine hears nothing of it."""
        if "liveness" in task and self._random.random() >= self._world.mishap:
            said = {"run": task["run"], "attempt": task["attempt"], "details": task["attempt"]}
            sign = messages.sign_body(outcome=messages.HEARTBEAT, **said)
            subject = subjects.completed(task["instance"], activity)
            await self._store(topology.WORKFLOW_EVENTS, Outgoing(subject, messages.encode(sign)))

    async def _take_time(self, delivery: Delivery, activity: str, task: dict[str, Any]) -> None:
        """Mostly short; at times longer than the lease, which is kept or not."""
        luck = self._random.random()
        if luck >= self._world.mishap:
            await asyncio.sleep(self._random.expovariate(20))
            await self._beat(activity, task)
            return
        keeps = self._random.random() < 0.5
        for _ in range(4):
            if keeps:
                self._port.in_progress(delivery)
            await asyncio.sleep(KEEP_S)
            await self._beat(activity, task)

    def _outcome(self, activity: str, task: dict[str, Any]) -> dict[str, Any]:
        run, attempt = task["run"], task["attempt"]
        self._world.worked(task["instance"], run, attempt)
        try:
            output = flows.ACTIVITIES[activity](task["input"], attempt)
        except flows.Down as down:
            return messages.failed_body(
                run=run,
                attempt=attempt,
                outcome=messages.FAILED,
                error=down.error,
                retryable=down.retryable,
                retry=flows.POLICIES.get(activity),
            )
        return messages.completed_body(run=run, attempt=attempt, output=output)

    def _undeliverable(self, task: dict[str, Any]) -> dict[str, Any]:
        error = {"type": flows.GIVEN_UP, "status": 500, "title": "Undeliverable", "detail": ""}
        return messages.failed_body(
            run=task["run"],
            attempt=task["attempt"],
            outcome=messages.UNDELIVERABLE,
            error=error,
            retryable=False,
        )

    async def _publish(self, activity: str, task: dict[str, Any], outcome: dict[str, Any]) -> None:
        instance, run, attempt = task["instance"], task["run"], task["attempt"]
        key = messages.result_message_id(instance, run, attempt, outcome["outcome"])
        subject = subjects.completed(instance, activity)
        body = messages.encode(outcome)
        await self._store(topology.WORKFLOW_EVENTS, Outgoing(subject, body, key))
        if self._random.random() < self._world.mishap:  # as after the window, or from another
            await self._store(topology.WORKFLOW_EVENTS, Outgoing(subject, body))

    async def _store(self, stream: str, message: Outgoing) -> None:
        while True:
            (outcome,) = await self._port.publish(stream, [message])
            if isinstance(outcome, Accepted):
                return
            await asyncio.sleep(0.2)


async def report(
    port: MemoryPort, running: dict[tuple[str, int, int], tuple[str, Delivery]]
) -> None:
    """What the monitor says of the tasks that a worker ran when it died; then it acks them."""
    error = {"type": flows.GIVEN_UP, "status": 500, "title": "Worker crashed", "detail": ""}
    for (instance, run, attempt), (activity, delivery) in running.items():
        body = messages.failed_body(
            run=run,
            attempt=attempt,
            outcome=messages.CRASHED,
            error=error,
            crash_limit=CRASH_LIMIT,
            suspects=len(running),
        )
        key = messages.result_message_id(instance, run, attempt, messages.CRASHED)
        subject = subjects.completed(instance, activity)
        message = Outgoing(subject, messages.encode(body), key)
        while True:
            (outcome,) = await port.publish(topology.WORKFLOW_EVENTS, [message])
            if isinstance(outcome, Accepted):
                break
            await asyncio.sleep(0.2)
        port.ack(delivery)
