"""One lane with a runner, without a broker: tasks in, result bodies out."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import orjson

from wf.authoring.activity import ActivityDefinition
from wf.jetstream.port import Accepted, Delivery, Outcome, Outgoing
from wf.protocol import messages
from wf.settings import PoolSettings, Settings
from wf.worker.activity_queue import Lane
from wf.worker.policy import effective
from wf.worker.prefetch import Prefetch
from wf.worker.results import Results
from wf.worker.runner import Runner
from wf.worker.task import Held, parse


def settings(**pools: PoolSettings) -> Settings:
    here = Path("/")
    return Settings(path=here, activities_dir=here, workflows_dir=here, pools=pools)


def make_lane(definition: ActivityDefinition, **pool: Any) -> Lane:
    policy = effective(settings(pool=PoolSettings(**pool)), "pool", definition.options)
    results = Results(definition.name, policy.retry, 1_000_000, definition.path, "host/worker")
    return Lane(definition, policy, results, Prefetch(policy.concurrency, policy.prefetch))


def delivery(sequence: int = 1, input: Any = None, **changed: Any) -> Delivery:
    body = messages.task_body(
        instance=f"order-{sequence}", workflow="order", version="1", run=1, attempt=1,
        pointer="/do/0/a", input=input,
    )  # fmt: skip
    body.update(changed)
    return Delivery(
        "ACTIVITY_TASKS", "c", "activity.tasks.echo", orjson.dumps(body), None, sequence, 1, 0, 0,
        f"reply.{sequence}",
    )  # fmt: skip


def hold(lane: Lane, *deliveries: Delivery) -> list[Held]:
    made = [parse(one) for one in deliveries]
    for held in made:
        lane.held[held.delivery.sequence] = held
        lane.waiting.append(held)
    return made


class Answers:
    """A port whose stream answers as told: one entry of `script` per call, then acceptance."""

    max_payload = 1_000_000

    def __init__(self, script: Sequence[Callable[[Outgoing], Outcome]] = ()) -> None:
        self.script = deque(script)
        self.calls: list[tuple[str, int]] = []
        self.log: list[str] = []
        self.gate: asyncio.Event | None = None

    async def _answer(self, kind: str, sent: Sequence[Outgoing]) -> Callable[[Outgoing], Outcome]:
        self.calls.append((kind, len(sent)))
        if self.gate is not None:
            await self.gate.wait()
        return self.script.popleft() if self.script else lambda message: Accepted(1)

    async def publish(self, stream: str, sent: Sequence[Outgoing], **_: Any) -> list[Outcome]:
        answer = await self._answer("singles", sent)
        outcomes = [answer(message) for message in sent]
        self.log += [f"stored {m.subject.split('.')[3]}" for m in sent]
        return outcomes

    async def publish_batch(self, stream: str, sent: Sequence[Outgoing], **_: Any) -> Outcome:
        answer = await self._answer("batch", sent)
        return answer(sent[-1])

    def ack(self, one: Delivery) -> None:
        self.log.append(f"acked order-{one.sequence}")

    def in_progress(self, one: Delivery) -> None:
        self.log.append(f"renewed {one.sequence}")


def fail_the_test(error: BaseException) -> None:
    raise error


async def run_all(lane: Lane, *deliveries: Delivery, port: Any = None) -> dict[int, dict[str, Any]]:
    """Run tasks to their end; result bodies by stream sequence."""
    bodies: dict[int, dict[str, Any]] = {}

    def report(lane: Lane, held: Held, outgoing: Outgoing) -> None:
        assert held.delivery.sequence not in bodies, "reported twice"
        bodies[held.delivery.sequence] = orjson.loads(outgoing.data)

    runner = Runner(lane, report, fail_the_test, port or Answers())
    hold(lane, *deliveries)
    runner.offer()
    async with asyncio.timeout(10):
        while len(bodies) < len(deliveries):
            await asyncio.sleep(0.001)
    await runner.close()
    return bodies
