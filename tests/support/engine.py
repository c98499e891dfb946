"""A whole orchestrator inside a test, and a worker that does as it is told."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import orjson

from orchestrator.definition import canonical_bytes, parse
from orchestrator.main import Orchestrator
from tests.support.mortal import Died, Mortal
from tests.support.server import RealServer
from tests.support.waiting import eventually
from wf.client.definitions import RegisteredDefinition, register
from wf.jetstream import topology
from wf.jetstream.client import JetStream
from wf.jetstream.port import Accepted, Delivery, Outgoing
from wf.jetstream.publish_until_stored import store_one
from wf.process.child import Child
from wf.protocol import messages, subjects
from wf.settings import Settings

JsonObject = dict[str, Any]
Answer = Callable[[JsonObject], JsonObject]  # task body → result body

TERMINAL = {"completed", "faulted", "cancelled"}


class Engine:
    """One orchestrator process's worth of parts, on a connection of its own."""

    def __init__(self, js: JetStream, port: Mortal, settings: Settings) -> None:
        self.port = port
        self.js = js
        settings.supervisor.state_dir.mkdir(parents=True, exist_ok=True)
        child = Child("orchestrator", "orchestrator", None, 0, settings)
        self.orchestrator = Orchestrator(child, port, js)
        self.task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await self.orchestrator.start()
        self.task = asyncio.create_task(self.orchestrator.run())

    async def died(self) -> None:
        """Wait until its crash point is reached."""
        if self.task is not None:  # else it died while it started
            await asyncio.wait([self.task], timeout=20)
        assert self.port.dead, "it lives"

    async def kill(self) -> None:
        """As SIGKILL: nothing is finished, nothing handed back."""
        self.port.dead = True
        if self.task is not None:
            self.task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Died, Exception):
                await self.task
        await self.js.close()


@contextlib.asynccontextmanager
async def engine(
    server: RealServer,
    die_at: int | None = None,
    prepare: Callable[[Engine], None] | None = None,
    settings: Settings | None = None,
) -> AsyncIterator[Engine]:
    """A running orchestrator; killed at the end. `prepare` may change it before it starts."""
    js = await server.connect()
    made = Engine(js, Mortal(js, die_at), settings or server.settings())
    if prepare is not None:
        prepare(made)
    try:
        with contextlib.suppress(Died):
            await made.start()
        yield made
    finally:
        await made.kill()


class FakeWorker:
    """Runs the tasks of some activities in one loop: answers, stores the result, acks."""

    def __init__(self, js: JetStream, answers: dict[str, Answer]) -> None:
        self._js = js
        self._answers = answers
        self.ran: list[tuple[str, int, int]] = []  # instance, run, attempt
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> FakeWorker:
        for activity in self._answers:
            await self._js.ensure_task_consumer(
                activity, ack_wait_s=5, max_deliver=20, max_ack_pending=1000
            )
            self._tasks.append(asyncio.create_task(self._pull(activity)))
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _pull(self, activity: str) -> None:
        name = topology.consumer_name(activity)
        pull = await self._js.pull(topology.ACTIVITY_TASKS, name, window=10)
        try:
            while True:
                for delivery in await pull.next(10):
                    await self._run(activity, delivery)
        finally:
            await pull.stop()

    async def _run(self, activity: str, delivery: Delivery) -> None:
        body = messages.decode(delivery.data)
        self.ran.append((body["instance"], body["run"], body["attempt"]))
        await publish_result(self._js, activity, body, self._answers[activity](body))
        self._js.ack(delivery)


async def publish_result(
    js: JetStream, activity: str, task: JsonObject, result: JsonObject
) -> None:
    message = Outgoing(
        subjects.completed(task["instance"], activity),
        messages.encode(result),
        message_id=messages.result_message_id(
            task["instance"], task["run"], task["attempt"], result["outcome"]
        ),
    )
    await store_one(js, topology.WORKFLOW_EVENTS, message)


def succeed(output: Any = None) -> Answer:
    return lambda task: messages.completed_body(
        run=task["run"],
        attempt=task["attempt"],
        output=task["input"] if output is None else output,
    )


def fail_first(times: int = 1, retry: JsonObject | None = None) -> Answer:
    """Fails the first attempts of each run, then gives its input back."""

    def answer(task: JsonObject) -> JsonObject:
        if task["attempt"] > times:
            return succeed()(task)
        return messages.failed_body(
            run=task["run"],
            attempt=task["attempt"],
            outcome=messages.FAILED,
            error={"type": "about:blank", "status": 500, "title": "Boom", "detail": "boom"},
            retry=retry,
        )

    return answer


async def deploy(js: JetStream, document: str | JsonObject) -> None:
    definition = parse(document)
    await register(
        js,
        RegisteredDefinition(
            definition.namespace, definition.name, definition.version, canonical_bytes(definition)
        ),
    )


async def start(js: JetStream, workflow: str, instance: str, input: Any = None) -> int:
    """Publish a start; its stream sequence."""
    message = Outgoing(
        subjects.start("default", workflow),
        messages.encode(messages.start_body(instance=instance, input=input)),
    )
    outcome = await store_one(js, topology.WORKFLOW_EVENTS, message)
    assert isinstance(outcome, Accepted), outcome
    return outcome.sequence


async def send(js: JetStream, subject: str, body: JsonObject) -> int:
    (outcome,) = await js.publish(
        topology.WORKFLOW_EVENTS, [Outgoing(subject, messages.encode(body))]
    )
    assert isinstance(outcome, Accepted), outcome
    return outcome.sequence


async def snapshot(js: JetStream, instance: str) -> JsonObject | None:
    stored = await js.last(topology.WORKFLOW_STATES, subjects.state(instance), leader=True)
    return None if stored is None or not stored.data else orjson.loads(stored.data)


async def ended(js: JetStream, instance: str, *, limit_s: float = 15.0) -> JsonObject:
    """The snapshot, once it is terminal."""

    async def look() -> JsonObject | None:
        found = await snapshot(js, instance)
        return found if found and found["status"] in TERMINAL else None

    found = await eventually(look, limit_s=limit_s, what=f"the end of {instance}")
    assert found is not None
    return found


async def in_status(js: JetStream, instance: str, status: str) -> JsonObject:
    async def look() -> JsonObject | None:
        found = await snapshot(js, instance)
        return found if found and found["status"] == status else None

    found = await eventually(look, what=f"{instance} {status}")
    assert found is not None
    return found


async def history(js: JetStream, instance: str) -> list[JsonObject]:
    """Decoded history messages as stored, duplicates included."""
    stored = await js.scan(topology.WORKFLOW_HISTORY, subjects.history(instance))
    return [orjson.loads(one.data) for one in stored]


async def last_event(js: JetStream) -> int:
    return await js.last_sequence(topology.WORKFLOW_EVENTS)


async def settled(js: JetStream) -> None:
    """Wait until every event is acknowledged."""

    async def look() -> bool:
        events = await js.api(f"CONSUMER.INFO.{topology.WORKFLOW_EVENTS}.{topology.ORCHESTRATOR}")
        timers = await js.api(f"CONSUMER.INFO.{topology.WORKFLOW_TIMERS}.{topology.TIMERS}")
        if any(one["num_ack_pending"] or one["num_pending"] for one in (events, timers)):
            return False
        # the consumer learns of a stored message a moment after its publisher does
        return int(events["ack_floor"]["stream_seq"]) >= await last_event(js)

    await eventually(look, what="all events acknowledged")
