"""An orchestrator on a broker in memory that gets what nobody should send, beside good work."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path
from random import Random
from typing import Any

from rich.console import Console, RenderableType

from orchestrator.definition import canonical_bytes, parse
from orchestrator.main import Orchestrator
from tests.support import fuzz
from tests.support.memory import MemoryBroker, MemoryPort, connect
from tests.support.memory.consumer import MemoryConsumer
from tests.support.server import make_settings
from wf.cli import dead_letters as letters
from wf.cli import hosts_view, json_documents, output, render
from wf.client import dead_letters, instances
from wf.client.client import Client
from wf.client.definitions import EVENTS_BEFORE
from wf.jetstream import topology
from wf.jetstream.port import Accepted, Delivery, Outgoing
from wf.monitor.status import of_all_hosts
from wf.process.child import Child
from wf.protocol import messages, subjects

GOOD_EVERY = 200  # messages
LIMIT_S = 60.0


def _document(name: str, *tasks: dict[str, Any], **more: Any) -> dict[str, Any]:
    head = {"dsl": "1.0.3", "namespace": "default", "name": name, "version": "1.0.0"}
    return {"document": head, "do": list(tasks), **more}


_LISTEN = {"hear": {"listen": {"to": {"any": [{"with": {"type": "paid"}}]}}}}
DEFINITIONS = (
    _document("good", {"a": {"call": "good"}}, {"b": {"set": {"n": "${ .n + 1 }"}}}),
    _document(
        "flow",
        {
            "f": {
                "fork": {
                    "branches": [
                        {"call": {"call": fuzz.ACTIVITY, "with": {"x": "${ . }"}}},
                        {"hear": _LISTEN["hear"]},
                        {"rest": {"wait": "PT1H"}},
                        {
                            "again": {
                                "try": [{"c": {"call": fuzz.ACTIVITY}}],
                                "catch": {"as": "e", "retry": {"delay": "PT1S"}},
                            }
                        },
                    ]
                }
            }
        },
        {"out": {"set": {"all": "${ . }"}, "export": {"as": "${ {x: .} }"}}},
        {"tell": {"emit": {"event": {"with": {"type": "told", "data": "${ . }"}}}}},
    ),
    _document("hourly", {"a": {"set": {"x": 1}}}, schedule={"every": "PT1H"}),
    _document(
        "both",
        {"a": {"set": {"x": "${ . }"}}},
        schedule={"on": {"all": [{"with": {"type": "paid"}}, {"with": {"type": "x"}}]}},
    ),
)


def _print(shown: RenderableType) -> None:
    """To a terminal that takes UTF-8 only."""
    with io.TextIOWrapper(io.BytesIO(), encoding="utf-8") as stream:
        Console(file=stream, width=120).print(shown)


class Fuzzed:
    """`await begin(…)`, then `feed` messages; `check` says whether all is well."""

    def __init__(self, broker: MemoryBroker, port: MemoryPort, orchestrator: Orchestrator) -> None:
        self.broker = broker
        self.port = port
        self._orchestrator = orchestrator
        self._good = 0
        self._running = asyncio.create_task(orchestrator.run())
        self._working = asyncio.create_task(self._work())

    @classmethod
    async def begin(cls, directory: Path) -> Fuzzed:
        broker = MemoryBroker()
        port = await connect(broker)
        settings = make_settings(directory)
        settings.supervisor.state_dir.mkdir(parents=True, exist_ok=True)
        await topology.ensure(port, settings)
        for document in DEFINITIONS:
            one = parse(document)
            subject = subjects.definition("default", one.name, one.version)
            message = Outgoing(subject, canonical_bytes(one), headers={EVENTS_BEFORE: "0"})
            await port.publish(topology.WORKFLOW_DEFINITIONS, [message])
        for activity in ("good", fuzz.ACTIVITY):
            await port.ensure_task_consumer(
                activity, ack_wait_s=30, max_deliver=20, max_ack_pending=1000
            )
        child = Child("orchestrator", "orchestrator", None, 0, settings)
        engine = await connect(broker)
        orchestrator = Orchestrator(child, engine, engine)
        await orchestrator.start()
        return cls(broker, port, orchestrator)

    async def _work(self) -> None:
        """The worker of the good instances."""
        consumer = topology.consumer_name("good")
        pull = await self.port.pull(topology.ACTIVITY_TASKS, consumer, window=50)
        while True:
            for delivery in await pull.next(50):
                await self._answer(delivery)

    async def _answer(self, delivery: Delivery) -> None:
        task = messages.decode(delivery.data)
        run, attempt = task["run"], task["attempt"]
        body = messages.completed_body(run=run, attempt=attempt, output={"n": 41})
        subject = subjects.completed(task["instance"], "good")
        await self.send(Outgoing(subject, messages.encode(body)))
        self.port.ack(delivery)

    async def send(self, message: Outgoing) -> None:
        (outcome,) = await self.port.publish(topology.WORKFLOW_EVENTS, [message])
        assert isinstance(outcome, Accepted), outcome

    async def start(self, workflow: str, instance: str) -> None:
        body = messages.start_body(instance=instance, input={"n": 1})
        await self.send(Outgoing(subjects.start("default", workflow), messages.encode(body)))

    async def feed(self, random: Random, count: int) -> None:
        """So many messages; every now and then a good instance must get through beside them."""
        for number in range(count):
            if number % GOOD_EVERY == 0:
                await self._victims(random)
                await self.check()
            await self.port.publish("", [fuzz.message(random)])
        await self.check()

    async def _victims(self, random: Random) -> None:
        """New instances under the ids that the messages are for, where the old ones have ended."""
        for instance in fuzz.INSTANCES:
            if random.random() < 0.5:
                marker = Outgoing(subjects.state(instance), b"", headers={"KV-Operation": "PURGE"})
                await self.port.publish(topology.WORKFLOW_STATES, [marker])
                await self.port.purge(topology.WORKFLOW_HISTORY, subject=subjects.history(instance))
            await self.start("flow", instance)

    async def check(self) -> None:
        """The engine lives, and does good work."""
        self._good += 1
        instance = f"good-{self._good}"
        await self.start("good", instance)
        async with asyncio.timeout(LIMIT_S):
            while not (found := await instances.find(self.port, instance)) or not found.is_terminal:
                if self._running.done():
                    self._running.result()
                    raise AssertionError("the engine has ended")
                await asyncio.sleep(0.005)
        assert found.output == {"n": 42}, found.snapshot

    async def look(self) -> None:
        """What people look at can be shown, whatever lies there."""
        client = Client(self.port)
        for one in (await client.recent(limit=100)).instances:
            assert output.json_text(json_documents.listed(one))
        for instance in fuzz.INSTANCES:
            found = await instances.find(self.port, instance)
            entries = await client.history(instance)
            if found is not None:
                found = await client.get(instance)
                _print(render.instance_view(found, entries, 0))
                assert output.json_text(json_documents.shown(found, raw=True))
            _print(render.timeline(entries))
        _print(hosts_view.view(await of_all_hosts(self.port), 0))
        for letter in await dead_letters.newest(self.port, limit=5000):
            assert output.json_text(letter.public())
        _print(letters.table(await dead_letters.newest(self.port)))

    async def settled(self) -> None:
        """Every event is dealt with."""
        async with asyncio.timeout(LIMIT_S):
            while any(self._open(one) for one in self.broker.consumers.values()):
                await asyncio.sleep(0.02)

    @staticmethod
    def _open(consumer: MemoryConsumer) -> int:
        if consumer.name.startswith("activity-"):
            return 0
        return consumer.unacknowledged + consumer.waiting

    async def end(self) -> None:
        self._orchestrator.stop()
        self._working.cancel()
        await self._running
