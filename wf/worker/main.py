"""The worker process: pull tasks, run activities, store results, acknowledge.

`run` imports the user's modules, connects, and lets a `Worker` work until something asks it to
stop. `Worker.run` is the main loop: announce, be ready, let the parts work side by side, drain.
"""

from __future__ import annotations

import asyncio
import gc
import random
import socket
import sys
import time
import traceback
from collections.abc import Coroutine, Sequence
from typing import Any

import uvloop
from loguru import logger

from wf.authoring import hooks
from wf.authoring.activity import ActivityDefinition
from wf.authoring.signature import read_signature
from wf.builtin.common import settings
from wf.errors import BrokerError, ConfigError
from wf.jetstream import client, connection
from wf.jetstream.port import Port
from wf.jetstream.troubles import Troubles
from wf.process import log, standard_streams
from wf.process.child import EXIT_BROKER, EXIT_CONFIG, Child
from wf.process.status_page import NO_PLACE, Phase, SlotWriter, open_writer
from wf.protocol.consumer_claims import Announcement
from wf.worker import lifespan
from wf.worker.ack_renewal import Leases
from wf.worker.activities import load_definitions
from wf.worker.activity_queue import Lane
from wf.worker.announce import Presence, announce
from wf.worker.client_status import ClientStatus
from wf.worker.drain import Station, drain
from wf.worker.exclusive import Solitude
from wf.worker.hand_back import return_surplus
from wf.worker.imported import Imported
from wf.worker.loop_pulse import beat
from wf.worker.memory import offer_to_the_memory_killer
from wf.worker.policy import catalog_entry, effective
from wf.worker.prefetch import Prefetch
from wf.worker.puller import Puller
from wf.worker.recycling import Watch, task_limit
from wf.worker.result_publisher import Publisher, share_of_batches
from wf.worker.results import HEADROOM, Results
from wf.worker.runner import Runner
from wf.worker.shutdown import Stopping
from wf.worker.task import Held

LEAVE_S = 0.5
_WARM_UP_ROUNDS = 10  # the interpreter specialises a function after eight calls
EXIT_START = 1  # a hook of the start failed: another time it may not
EXIT_BUG = 70  # EX_SOFTWARE: a part of the worker itself failed


def warm_up() -> None:
    """Do once in the supervisor what every worker does first, before its memory is shared.

    Caches are then filled, and bytecode is specialised, in pages that no worker has to copy.
    """

    def sample(a: int, b: str = "", *, c: bytes | None = None) -> dict[str, Any]:
        return {}

    for _ in range(_WARM_UP_ROUNDS):
        read_signature(sample)
    for _ in range(2):
        # No loop of uvloop here: libuv would keep a pipe of its own, and in every later fork close
        # whatever has got those two descriptors by then.
        loop = asyncio.SelectorEventLoop()
        try:
            loop.run_until_complete(asyncio.sleep(0))
        finally:
            loop.close()


def run(child: Child) -> int:
    """Serve the child's activities until asked to stop; the exit status."""
    log.configure_child(child)
    if child.supervisor_pid:
        standard_streams.keep_apart()
        offer_to_the_memory_killer()
    settings.use(child.settings)
    before = frozenset(sys.modules)
    hooks.forget()
    try:
        definitions = load_definitions(child.modules, child.activities)
    except ConfigError as error:
        return _import_failed(child, str(error))
    except BaseException:  # noqa: BLE001 - user code; SystemExit at import is a failure too
        return _import_failed(child, traceback.format_exc())
    imported = Imported(before, child.modules)
    gc.collect()
    gc.freeze()  # modules live as long as the worker: collections need not look at them
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        return loop.run_until_complete(_work(child, definitions, imported))
    finally:
        _leave(loop)


def _leave(loop: asyncio.AbstractEventLoop) -> None:
    """End what activities left behind; what does not end is not waited for (unlike asyncio.run)."""
    left = asyncio.all_tasks(loop)
    for task in left:
        task.cancel()
    if left:
        loop.run_until_complete(asyncio.wait(left, timeout=LEAVE_S))
    if all(task.done() for task in left):
        loop.close()


def _import_failed(child: Child, text: str) -> int:
    logger.bind(pool=child.pool, error=text).error("worker.import_failed")
    child.failed("import", text)
    return EXIT_CONFIG


async def _work(child: Child, definitions: Sequence[ActivityDefinition], imported: Imported) -> int:
    stopping = Stopping()
    stopping.on_signals(asyncio.get_running_loop())
    if (failure := await lifespan.begin(stopping)) is not None:
        logger.bind(pool=child.pool, error=failure).error("worker.start_hook.failed")
        child.failed("start", failure)
        return EXIT_START
    try:
        return await _serve(child, definitions, imported, stopping)
    finally:
        await lifespan.end(child.grace() - stopping.since_s())


async def _serve(
    child: Child,
    definitions: Sequence[ActivityDefinition],
    imported: Imported,
    stopping: Stopping,
) -> int:
    if stopping.requested:  # by a signal, while the hooks ran
        return stopping.status
    try:
        port = await client.connect(
            connection.from_settings(child.settings, "worker"), role="worker", name=child.name
        )
    except BrokerError as error:
        logger.bind(error=str(error)).error("worker.cannot_connect")
        child.failed("broker", str(error))
        return EXIT_BROKER
    try:
        worker = Worker(child, definitions, port, stopping)
        worker.beside(imported.look(child))
        return await worker.run()
    finally:
        await port.close()


class Worker:
    """One worker: a puller and a runner per activity; a publisher, leases and a watch for all."""

    def __init__(
        self,
        child: Child,
        definitions: Sequence[ActivityDefinition],
        port: Port,
        stopping: Stopping,
    ) -> None:
        self._child = child
        self._port = port
        self._stopping = stopping
        self._parts: set[asyncio.Task[None]] = set()
        self._shortages: dict[str, str] = {}  # of threads, by activity; "": over
        workers = sum(pool.most for pool in child.settings.pools.values())
        self._publisher = Publisher(port, self._stored, self._fault, share_of_batches(workers))
        self._stations = [self._station(definition) for definition in definitions]
        self._lanes = [station.lane for station in self._stations]
        self._slot = self._open_slot()
        self._share_solitude()
        self._announcements: dict[str, Announcement] = {}
        self._presence = Presence(port, self._announcements)
        self._leases = Leases(self._lanes, port)
        self._watch = self._make_watch()
        asyncio.get_running_loop().set_exception_handler(self._callback_failed)

    def beside(self, part: Coroutine[Any, Any, None]) -> None:
        """Something else that goes on as long as the worker."""
        self._start(part)

    async def run(self) -> int:
        """The main loop; returns the exit status."""
        pool = self._child.settings.pool(self._child.pool or self._lanes[0].name)
        self._start(beat(self._slot, self._in_hand, pool.hang_s))
        self._start(self._watch.run())
        if await self._announced():
            self._start(self._presence.run())
            self._start(self._publisher.run())
            if not self._child.supervisor_pid:  # else the supervisor tells of it
                self._start(ClientStatus(self._port, self._lanes).run())
            self._start(self._leases.run())
            self._start(return_surplus(self._lanes, self._port))
            for station in self._stations:
                self._start(station.puller.run())
            self._slot.enter(Phase.RUNNING)
            self._child.ready()
            logger.bind(activities=[lane.name for lane in self._lanes]).info("worker.ready")
            await self._stopping.wait()
            self._slot.enter(Phase.DRAINING)
            await drain(
                self._stations,
                self._publisher,
                self._leases,
                self._port,
                grace_s=self._child.grace(),
                hurried=lambda: self._stopping.hurried,
            )
        for part in list(self._parts):
            part.cancel()
        self._watch.tell_progress()
        self._slot.tick(time.monotonic())
        self._slot.enter(Phase.LEAVING)
        return self._stopping.status

    def _open_slot(self) -> SlotWriter:
        """One slot for all lanes, with room for all that can be in hand and not stored."""
        room = sum(lane.most_held for lane in self._lanes)
        child = self._child
        slot = open_writer(child.slot_fd, room, child.generation, time.monotonic())
        for lane in self._lanes:
            lane.slot = slot
        return slot

    def _share_solitude(self) -> None:
        def offer() -> None:
            for station in self._stations:
                station.runner.offer()

        solitude = Solitude(self._lanes, offer)
        for lane in self._lanes:
            lane.solitude = solitude

    def _in_hand(self) -> int:
        return sum(len(lane.held) for lane in self._lanes)

    async def _announced(self) -> bool:
        """Announce all activities and wait for their consumers; False: a stop came first."""
        loop = asyncio.get_running_loop()
        announcing = loop.create_task(self._announce_all())
        stop = loop.create_task(self._stopping.wait())
        await asyncio.wait({announcing, stop}, return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if not announcing.done():
            announcing.cancel()
            return False
        await announcing
        return not self._stopping.requested

    async def _announce_all(self) -> None:
        await asyncio.gather(*(self._announce(lane) for lane in self._lanes))

    async def _announce(self, lane: Lane) -> None:
        owner = f"{socket.gethostname()}/{self._pool_of(lane.definition)}"
        entry = catalog_entry(lane.definition, lane.policy, owner)
        self._announcements[lane.name] = Announcement(entry)
        await announce(self._port, lane.name, self._announcements[lane.name])

    def _pool_of(self, definition: ActivityDefinition) -> str:
        """A worker without a pool of its own (`wf worker`) uses each activity's."""
        return self._child.pool or definition.name

    def _station(self, definition: ActivityDefinition) -> Station:
        policy = effective(self._child.settings, self._pool_of(definition), definition.options)
        results = Results(
            activity=definition.name,
            retry=policy.retry,
            limit=self._port.max_payload - HEADROOM,
            module=definition.path,
            worker=f"{socket.gethostname()}/{self._child.name}",
        )
        lane = Lane(definition, policy, results, Prefetch(policy.concurrency, policy.prefetch))
        runner = Runner(
            lane,
            self._publisher.report,
            self._fault,
            self._port,
            lambda trouble: self._shortages.update({definition.name: trouble}),
        )
        puller = Puller(lane, runner, self._port, self._publisher.report)
        return Station(lane, runner, puller)

    def _make_watch(self) -> Watch:
        pool = self._child.settings.pool(self._child.pool or self._lanes[0].name)
        return Watch(
            self._child,
            self._lanes,
            self._stopping,
            limit=task_limit(pool.max_tasks, random.random()),
            max_memory=pool.max_memory,
            troubles=Troubles(self._port, self._child.troubled, self._problems).look,
        )

    def _problems(self) -> list[str]:
        return [*self._presence.problems(), *filter(None, self._shortages.values())]

    def _stored(self, lane: Lane, held: Held) -> None:
        """A task's result is safe, and the task is acknowledged."""
        lane.held.pop(held.delivery.sequence, None)
        lane.slot.stored(held.place, held.failed)
        held.place = NO_PLACE
        if lane.solitude.closed:
            lane.solitude.gone(held)
        lane.freed()
        self._watch.stored()

    def _start(self, part: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(part)
        self._parts.add(task)
        task.add_done_callback(self._part_ended)

    def _part_ended(self, task: asyncio.Task[None]) -> None:
        self._parts.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fault(error)

    def _fault(self, error: BaseException) -> None:
        """A part of the worker itself failed: go, so that a fresh one takes over."""
        logger.opt(exception=error).error("worker.part_failed")
        self._stopping.request(EXIT_BUG, f"a part of the worker failed: {error!r}")

    def _callback_failed(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """What nobody awaited: an activity's forgotten task, or a bug in here."""
        error = context.get("exception")
        logger.opt(exception=error).bind(about=context.get("message")).error("worker.unhandled")
