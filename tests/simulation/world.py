"""One seed, from a broker with empty streams to the verdict."""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import random as chance
import tempfile
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

from loguru import logger

from orchestrator import main as orchestrating
from orchestrator.definition import canonical_bytes
from orchestrator.engine import apply as applying
from orchestrator.ingest.poison_trial import Fall, Piece
from orchestrator.machine import TERMINAL
from orchestrator.main import Orchestrator
from orchestrator.registry import definitions as defining
from orchestrator.state import commit as records
from orchestrator.state import snapshot_store
from tests.simulation import adversary, bad, beside, flows, spoiling, verdict
from tests.simulation.client import Client
from tests.simulation.ledger import Ledger
from tests.simulation.litter import Scattered
from tests.simulation.loop import LIFE, Life, Stuck, VirtualLoop
from tests.simulation.network import SimulatedBroker, Unkind
from tests.simulation.plan import Plan, draw
from tests.simulation.worker import Worker, report
from tests.support.memory import MemoryPort, connect
from tests.support.memory.consumer import MemoryConsumer
from tests.support.memory.link import Link
from tests.support.memory.stream import MemoryStream, Message
from tests.support.server import make_settings
from wf.client.definitions import EVENTS_BEFORE
from wf.errors import BrokerError
from wf.jetstream import publish_batched, topology
from wf.jetstream.own_subjects import OWN_FROM
from wf.jetstream.port import Outgoing
from wf.process.child import Child
from wf.protocol import subjects
from wf.settings import Settings

EPOCH_MS = 1_800_000_000_000
REST_S = 1200.0  # how long after the last trouble everything must have come to rest
EVENT_BUFFER_S = 86_400.0  # clocks jump by an hour, and an event older than this is too late
CONNECT_S = 10.0
MISHAP = 0.1  # how often a worker is late, doubled or forgetful in a harsh world
SHORT = Path("/dev/shm") if Path("/dev/shm").is_dir() else None


class Killed(BaseException):
    """The code that runs kills its own process."""


@dataclass
class Report:
    """What became of a seed."""

    seed: int
    plan: Plan
    problems: list[str] = field(default_factory=list)
    trace: list[str] = field(default_factory=list)
    steps: int = 0
    seconds: float = 0.0  # of virtual time
    commits: int = 0
    lives: int = 0
    worked: int = 0
    counts: Counter[str] = field(default_factory=Counter)  # what the engines counted


Main = Callable[["Process"], Awaitable[None]]


class Process:
    """A place in the tree: as long as the world lasts, somebody lives in it."""

    def __init__(self, world: World, name: str, index: int, main: Main) -> None:
        self.name = name
        self.index = index
        self.life = Life(name)
        self.life.alive = False
        self.ports: list[MemoryPort] = []
        self.orchestrator: Orchestrator | None = None
        self.worker: Worker | None = None
        self._world = world
        self._main = main

    def start(self) -> None:
        if self.life.alive:
            return
        self.life = Life(self.name)
        self.ports = []
        self._world.report.lives += 1
        context = self._world.neutral.copy()
        context.run(LIFE.set, self.life)
        self._world.note(self.name, "starts")
        work = self._main(self)
        task = self._world.loop.create_task(work, context=context)  # type: ignore[arg-type]
        task.add_done_callback(self._ended, context=self._world.neutral)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """It ended by itself; the supervisor starts it again."""
        if task.cancelled():
            self._world.problem(f"{self.name} was cancelled")
        elif isinstance(error := task.exception(), BrokerError):
            self._world.note(self.name, f"ends: {error}")
        elif error is not None:
            self._world.problem(f"{self.name} ends with {error!r}", error)
        self._world.bury(self)


class World:
    def __init__(self, seed: int, *, traced: bool, directory: Path) -> None:
        self.random = Random(seed)
        self.plan = draw(self.random)
        self.report = Report(seed, self.plan)
        self.loop = VirtualLoop(self.random, self._died)
        self.neutral = contextvars.copy_context()
        self.clock_offset_ms = 0
        self.mishap = MISHAP if self.plan.troubles else 0.0
        self.processes: list[Process] = []
        self.broker: SimulatedBroker
        self.client: Client
        self._network = Unkind(
            self.random, delay_s=self.plan.delay_s, slow=self.plan.slow, lost=self.plan.lost
        )
        self._tokens = itertools.count()
        self._traced = traced
        self._directory = directory
        self._settings = _settings(directory, self.plan)
        self._victim: Life | None = None
        self._trying = False
        self._convicted: set[str] = set()
        self.poisoned: Counter[tuple[str, str]] = Counter()  # deaths of a process of an instance
        self.litter = Scattered()

    # Telling

    def note(self, who: str, what: str) -> None:
        if self._traced:
            self.report.trace.append(f"{self.loop.time():10.4f}  {who:16} {what}")

    def problem(self, text: str, error: BaseException | None = None) -> None:
        self.note("PROBLEM", text)
        if error is not None and self._traced:
            self.report.trace += traceback.format_exception(error)
        if text not in self.report.problems:
            self.report.problems.append(text)

    def worked(self, instance: str, run: int, attempt: int) -> None:
        self.report.worked += 1
        self.note("worker", f"runs {instance} run {run} attempt {attempt}")

    def wall_ms(self) -> int:
        return EPOCH_MS + self.clock_offset_ms + int(self.loop.time() * 1000)

    # The run

    async def run(self) -> None:
        self.broker = SimulatedBroker(self._network, self.wall_ms, self.random, self.plan.stale_s)
        await self._furnish()
        ledger = Ledger(self.problem)
        self.broker.watchers += [ledger, self.litter]
        if self._traced:
            self.broker.watchers.append(Tracer(self))
        self._populate()
        self.client = Client(await connect(self.broker))
        for process in self.processes:
            process.start()
        asking = asyncio.gather(
            self.client.run(self.plan.wishes),
            *([self.litter.scatter(self)] if self.plan.litter else ()),
            *([spoiling.spoil(self, ledger)] if self.plan.spoiled else ()),
        )
        await adversary.haunt(self)
        self._end_of_troubles()
        await asking
        await self.client.finish(self.plan.wishes)
        await self._rest()
        self.report.commits = ledger.commits
        for process in self.processes:
            self._count(process)
        for text in verdict.problems(self):
            self.problem(text)

    async def _furnish(self) -> None:
        """Streams and definitions, made while everything is calm."""
        for stream in topology.assets(self._settings):
            marked = {**stream.config, "metadata": {OWN_FROM: "1"}}
            self.broker.api(f"STREAM.CREATE.{stream.name}", marked)
            for consumer in stream.consumers:
                body = {"stream_name": stream.name, "config": consumer.config}
                self.broker.api(f"CONSUMER.CREATE.{stream.name}.{consumer.name}", body)
        for name, definition in flows.DEFINITIONS.items():
            subject = subjects.definition("default", name, definition.version)
            headers = {EVENTS_BEFORE: "0"}
            self.broker.publish(Outgoing(subject, canonical_bytes(definition), headers=headers))

    def _populate(self) -> None:
        for number in range(self.plan.orchestrators):
            name = f"orchestrator-{number}"
            self.processes.append(Process(self, name, number, self._orchestrate))
        for number in range(self.plan.workers):
            self.processes.append(Process(self, f"worker-{number}", number, self._work))

    def _end_of_troubles(self) -> None:
        self.note("adversary", "has had enough")
        self._network.calm()
        self.broker.stale_s = 0.0
        self.mishap = 0.0
        for process in self.processes:
            process.life.die_at = None
            if process.life.stopped:
                self.loop.wake(process.life)
        for link in list(self.broker.links):
            self.reconnect(link)

    async def _rest(self) -> None:
        """Wait until nothing is left to be done. Deliveries of the worst kind take a minute."""
        until_s = self.loop.time() + REST_S
        while unrest := verdict.unrest(self):
            if self.loop.time() > until_s:
                for text in unrest:
                    self.problem(f"no rest: {text}")
                return
            await asyncio.sleep(0.5)

    # The processes

    async def connect(self, process: Process) -> MemoryPort:
        port = await connect(self.broker)
        process.ports.append(port)
        try:
            async with asyncio.timeout(CONNECT_S):
                await port.link.whole.wait()
        except TimeoutError:
            raise BrokerError("no broker answered") from None
        return port

    async def _orchestrate(self, process: Process) -> None:
        port = await self.connect(process)
        child = Child("orchestrator", "orchestrator", None, process.index, self._settings)
        process.orchestrator = Orchestrator(
            child,
            port,
            port,
            clock_ms=self.wall_ms,
            new_token=lambda: f"t{next(self._tokens)}",
            trial=self._try,
        )
        await process.orchestrator.start()
        await process.orchestrator.run()

    async def _work(self, process: Process) -> None:
        process.worker = Worker(self, process.life, await self.connect(process))
        await process.worker.run()

    async def _try(self, pieces: Sequence[Piece]) -> Fall | None:
        """In place of a forked child, which would run on another clock."""
        await asyncio.sleep(0.005)
        self._trying = True
        try:
            for number, piece in enumerate(pieces):
                try:
                    piece()
                except Killed:
                    return Fall(number, "SIGKILL")
        finally:
            self._trying = False
        return None

    # Death

    def _died(self, life: Life) -> None:
        for process in self.processes:
            if process.life is life:
                self.kill(process)

    def kill(self, process: Process) -> None:
        """SIGKILL: of what it sent, some still arrives; of what it was to get, nothing."""
        if not process.life.alive:
            return
        self.note(process.name, f"is killed at its step {process.life.steps}")
        for port in process.ports:
            port.link.lose(self.random.randint(0, port.link.under_way()))
        self.bury(process)

    def bury(self, process: Process) -> None:
        """Its life is over; another begins a little later."""
        process.life.alive = False
        self._count(process)
        process.orchestrator = None
        if process.worker is not None and process.worker.running and self.random.random() < 0.5:
            running, process.worker = process.worker.running, None
            self.note("monitor", f"reports {list(running)}")
            work = report(self.client.port, running)
            self.loop.create_task(work, context=self.neutral.copy())
        for port in process.ports:
            port.cut()
        delay_s = self.random.choice((0.05, 0.5, 3.0))
        self.loop.call_later(delay_s, process.start, context=self.neutral)

    def _count(self, process: Process) -> None:
        if process.orchestrator is not None:
            self.report.counts.update(process.orchestrator._engine.counts)

    def terminate(self, process: Process) -> None:
        """SIGTERM; a worker has no manners."""
        if process.orchestrator is None:
            self.kill(process)
        elif process.life.alive:
            self.note(process.name, "is told to stop")
            context = self.neutral.copy()
            context.run(LIFE.set, process.life)
            self.loop.call_soon(process.orchestrator.stop, context=context)

    def start_broker(self, *, forget_s: float, keeps_id: Callable[[], bool]) -> None:
        self.note("broker", f"is back, may have forgotten {forget_s:g} s")
        self.broker.start(forget_s=forget_s, keeps_id=keeps_id)
        for link in list(self.broker.links):
            self.loop.call_later(self.random.uniform(0.02, 0.3), self.reconnect, link)

    def reconnect(self, link: Link) -> None:
        """Unless the broker has died again."""
        if self.broker.running:
            link.back()

    def advance(self, *arguments: Any, **options: Any) -> Any:
        """The machine; what is poisoned kills the process that applies it. What takes its place
        does not: but for its first time the process dies soon after, before or after the commit."""
        before, event = arguments[1:3]
        if (instance := bad.event(bad.POISON, before, event)) is not None:
            self._die_of(instance)
        elif event.get("evidence") is not None:
            self._die_soon(before["id"] if before else event["id"])
        instance = bad.event(bad.RAISES, before, event)
        if instance is not None and (before is None or event["kind"] != "start"):
            raise RuntimeError(f"{instance} raises")
        return _ADVANCE(*arguments, **options)

    def seal(self, snapshot: Any, *arguments: Any, **options: Any) -> Any:
        """Encodes a state; a poisoned one kills the process that does it, another raises."""
        if (instance := bad.state(bad.POISON, snapshot)) is not None:
            self._die_of(instance)
        instance = bad.state(bad.RAISES, snapshot)
        if instance is not None and snapshot["status"] not in TERMINAL:
            raise RuntimeError(f"the state of {instance} cannot be encoded: \ud83d")
        return _SEAL(snapshot, *arguments, **options)

    def _die_soon(self, instance: str) -> None:
        life = LIFE.get()
        if life is not None and not self._trying and instance not in self._convicted:
            self._convicted.add(instance)
            life.die_at = life.steps + self.random.randint(1, 20)

    def _die_of(self, instance: str) -> None:
        if self._trying:
            raise Killed
        life = LIFE.get()
        for process in self.processes:
            if life is not None and process.life is life:
                self.poisoned[process.name, instance] += 1
                self.kill(process)
                raise Killed


_ADVANCE = applying.advance
_SEAL = records.seal


class Tracer:
    """What the broker does, for the trace."""

    def __init__(self, world: World) -> None:
        self._world = world

    def stored(self, stream: MemoryStream, message: Message) -> None:
        text = message.data[:160].decode("utf-8", "replace")
        self._world.note("broker", f"{stream.name} {message.sequence} {message.subject} {text}")

    def acked(self, consumer: MemoryConsumer, sequence: int) -> None:
        self._world.note("broker", f"{consumer.stream.name} {sequence} is acked")

    def purged(self, stream: MemoryStream, pattern: str | None, up_to: int | None) -> None:
        self._world.note("broker", f"{stream.name} is purged: {pattern} up to {up_to}")


def _settings(directory: Path, plan: Plan) -> Settings:
    settings = make_settings(directory)
    limits = settings.orchestrator.limits.model_copy(
        update={
            "tasks_per_activity": plan.tasks_per_activity,
            "pending_timers": plan.pending_timers,
        }
    )
    changed = {"batch": plan.batch, "limits": limits, "event_buffer": EVENT_BUFFER_S}
    orchestrator = settings.orchestrator.model_copy(update=changed)
    return settings.model_copy(update={"orchestrator": orchestrator})


def run(seed: int, *, traced: bool = False) -> Report:
    """Run one seed. The same seed takes the same steps (with PYTHONHASHSEED=0)."""
    chance.seed(seed)
    with tempfile.TemporaryDirectory(dir=SHORT, prefix="wf-simulation-") as name:
        directory = Path(name)
        (directory / "state").mkdir()
        world = World(seed, traced=traced, directory=directory)
        with _substitutes(world):
            _carry_out(world)
    world.report.steps = world.loop.steps
    world.report.seconds = world.loop.time()
    return world.report


def _carry_out(world: World) -> None:
    loop = world.loop

    def unhandled(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if not isinstance(error, Killed):
            world.problem(f"unhandled: {context['message']}: {error!r}", error)

    loop.set_exception_handler(unhandled)
    main = loop.create_task(world.run())
    try:
        loop.run_until_complete(main)
    except Stuck as stuck:
        world.problem(f"stuck: {stuck}; {verdict.unrest(world)}")
    finally:
        loop.set_exception_handler(lambda *_: None)  # what ends with the world is nobody's fault
        loop.bury()
        loop.close()


@contextmanager
def _substitutes(world: World) -> Iterator[None]:
    """Definitions are compiled once, not at each start of each orchestrator; the size from which
    batches are used is the plan's."""
    by_subject = {
        subjects.definition("default", name, definition.version): definition
        for name, definition in flows.DEFINITIONS.items()
    }
    minimum = world.plan.batch_minimum
    logger.remove()
    if world._traced:
        logger.add(lambda text: world.note("log", str(text).strip()), format=_log_line, level=0)
    with (
        patch.object(defining, "parse", lambda document, subject, **_: by_subject[subject]),
        patch.object(publish_batched, "BATCH_MINIMUM", minimum),
        patch.object(snapshot_store, "BATCH_MINIMUM", minimum),
        patch.object(applying, "advance", world.advance),
        patch.object(records, "seal", world.seal),
        patch.object(orchestrating, "_limits", beside.eager),
    ):
        yield


def _log_line(record: Any) -> str:
    life = LIFE.get()
    who = life.name if life is not None else "-"
    extra = " ".join(f"{key}={value}" for key, value in record["extra"].items())
    return (
        f"{who}: {record['message']} {extra}".replace("{", "{{")
        .replace("}", "}}")
        .replace("<", r"\<")
    )
