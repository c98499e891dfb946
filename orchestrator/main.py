"""The orchestrator process: connect, recover, then `Service.run` until told to stop.

Read top-down: `run` is the child's entry point, `_serve` its life.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import secrets
import signal
import time
from collections.abc import Awaitable, Callable
from typing import Any

import uvloop
from loguru import logger

from orchestrator.cloudevents.correlator import Correlator
from orchestrator.cloudevents.event_triggers import Triggers
from orchestrator.concurrency.admission import Admission
from orchestrator.dispatch.backpressure import Parking
from orchestrator.dispatch.lost_tasks import Searching, period_s
from orchestrator.dispatch.outbox_relay import Publisher
from orchestrator.dispatch.timer_limit import TimerCap
from orchestrator.engine.apply import Limits
from orchestrator.engine.broker_upkeep import Upkeep
from orchestrator.engine.group_commit import Engine, Retention
from orchestrator.engine.loop import Service
from orchestrator.engine.recovery import Recovery
from orchestrator.expressions.address_space import address_space
from orchestrator.ingest.ack_renewal import Leases
from orchestrator.ingest.instance_queues import Lanes
from orchestrator.ingest.poison_guard import GUARDED, Guard, named
from orchestrator.ingest.poison_journal import Journal
from orchestrator.ingest.poison_trial import Trial, fork
from orchestrator.ingest.undelivered_tasks import Advisories
from orchestrator.registry.activity_consumers import Catalog
from orchestrator.registry.definitions import Definitions
from orchestrator.registry.deployment import Deployment, deploy_directory
from orchestrator.registry.limits import machine_limits
from orchestrator.registry.schedules import Schedules
from orchestrator.state.snapshot_cache import Cache
from orchestrator.state.snapshot_store import Store
from wf.errors import BrokerError
from wf.jetstream import client
from wf.jetstream.assets import Api
from wf.jetstream.assurance import Assurance
from wf.jetstream.connection import from_settings
from wf.jetstream.own_subjects import own_from
from wf.jetstream.port import Port
from wf.jetstream.sweeper import Sweeper
from wf.jetstream.troubles import Troubles
from wf.process import log, paths
from wf.process.child import EXIT_BROKER, EXIT_OK, Child
from wf.process.status_page import Phase, open_writer
from wf.settings import Settings

EVENT_ACK_WAIT_S = 30.0  # of the consumers `orchestrator` and `timers`
RENEW_AFTER_S = EVENT_ACK_WAIT_S / 3
TICK_S = 2.0
FOLLOW_S = 5.0  # a notice of a new definition or activity may be lost
ANNOUNCE_GRACE_S = 30.0  # after a deployment, before activities without workers are warned about
SCHEDULES_S = 1.0  # that a definition has changed is seen within this
AUDIT_S = 10.0  # a place is taken back in two of these from an instance that cannot give it up
SWEEP_S = 2.0  # what is acked lives for two periods, and counts against tasks_per_activity
# Snapshots are trees without cycles, freed by reference counts; walking all that are cached, as the
# default thresholds do, took a fifth of the engine's time.
COLLECT_AFTER = (200_000, 50, 1000)
MESSAGE_MARGIN_BYTES = 65536  # headers and the frame around a task's input


def run(child: Child) -> int:
    """Entry point of the child process; returns its exit status."""
    log.configure_child(child)
    gc.set_threshold(*COLLECT_AFTER)
    address_space.bound(child.settings.orchestrator.limits.memory)
    try:
        return uvloop.run(_serve(child))
    except BrokerError as error:
        child.failed("broker", str(error))
        logger.bind(error=str(error)).error("orchestrator.broker")
        return EXIT_BROKER


async def _serve(child: Child) -> int:
    settings = child.settings
    port = await client.connect(
        from_settings(settings, "orchestrator"), role="orchestrator", name=child.name
    )
    try:
        orchestrator = Orchestrator(child, port, port)
        await orchestrator.start()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, orchestrator.stop)
        loop.add_signal_handler(signal.SIGHUP, orchestrator.redeploy)
        child.ready()
        logger.info("orchestrator.ready")
        await orchestrator.run()
    finally:
        await port.close()
    return EXIT_OK


class Orchestrator:
    """The parts of one orchestrator process, wired together."""

    def __init__(
        self,
        child: Child,
        port: Port,
        api: Api,
        *,
        clock_ms: Callable[[], int] | None = None,
        new_token: Callable[[], str] | None = None,
        trial: Trial = fork,
    ) -> None:
        """`api` is asked for the streams, buckets and consumers. `clock_ms` gives milliseconds
        since the epoch, `new_token` commit tokens. `trial` does work to see whether it kills. The
        rest goes by the loop's time.
        """
        settings = child.settings
        self._child = child
        self._settings = settings
        self._port = port
        self._api = api
        self._lanes = Lanes()
        self._leases = Leases(port, RENEW_AFTER_S)
        self._journal = Journal(paths.journal_file(settings, child.index), GUARDED)
        self._guard = Guard(self._journal, trial)
        batch = settings.orchestrator.batch
        self._service = Service(port, self._lanes, self._leases, batch=batch, guard=self._guard)
        self._definitions = Definitions(port, self._guard)
        self._catalog = Catalog(port)
        self._schedules = Schedules(port, self._definitions, now_ms)
        self._sweeper = Sweeper(port)
        self._advisories = Advisories(port)
        self._correlator = Correlator(
            port, Triggers(self._definitions), batch=batch, guard=self._guard
        )
        self._admission = Admission(port, self._definitions, batch=batch, guard=self._guard)
        self._recovery = Recovery(port)
        self._store = Store(port, Cache(settings.orchestrator.cache), self._guard)
        self._timer_cap = TimerCap(port, settings.orchestrator.limits.pending_timers)
        publisher = Publisher(port, self._timer_cap, self._guard)
        new_token = new_token or token_maker()
        clock_ms = clock_ms or now_ms
        self._parking = self._make_parking(publisher, new_token, clock_ms)
        self._engine = Engine(
            port,
            self._store,
            self._definitions,
            self._guard,
            publisher,
            self._parking,
            limits=_limits(settings, port),
            retention=_retention(settings),
            new_token=new_token,
            done=self._service.done,
            release=self._service.release,
            stale=self._correlator.clear,
            vacant=self._admission.vacate,
        )
        self._upkeep = self._make_upkeep(api)
        self._troubles = Troubles(port, child.troubled, lambda: self._upkeep.problems)
        self._deployed = Deployment()
        self._searching = Searching(
            port, self._store, settings.orchestrator.lost_task_age, clock_ms
        )
        self._background: list[asyncio.Task[None]] = []
        self._slot = open_writer(child.slot_fd, 0, child.generation, time.monotonic())

    def _make_parking(
        self, publisher: Publisher, new_token: Callable[[], str], clock_ms: Callable[[], int]
    ) -> Parking:
        return Parking(
            self._port,
            self._store,
            publisher,
            new_token=new_token,
            now_ms=clock_ms,
            ack=self._ack,
            release=self._service.release,
            on_hold=self._service.hold,
            on_error=self._service.fail,
        )

    def _make_upkeep(self, api: Api) -> Upkeep:
        return Upkeep(
            self._port,
            Assurance(api, self._settings, self._child.index),
            self._catalog,
            renewed=self._streams_renewed,
            redeploy=self._deploy_missing,
            lost=self._child.lost,
        )

    async def start(self) -> None:
        """Take over from a predecessor: deliver again what it held, know what it knew."""
        await self._upkeep.look(strict=True)
        self._service.own_from = await own_from(self._api)
        await self._recovery.reset_consumers()
        self._deployed = await deploy_directory(self._port, self._settings.workflows_dir)
        await self._definitions.entries.start()
        await self._catalog.entries.start()
        await self._correlator.entries.refresh()
        await self._admission.entries.refresh()
        await self._schedules.refresh()
        await self._timer_cap.look()
        self._port.on_reconnect(self._recovery.wanted.set)

    async def run(self) -> None:
        """Until stopped; then everything that is under way is finished or handed back."""
        self._slot.enter(Phase.RUNNING)
        self._spawn(self._every(TICK_S, self._tick))
        self._spawn(self._every(FOLLOW_S, self._catalog.entries.refresh))
        self._spawn(self._every(FOLLOW_S, self._definitions.entries.refresh))
        self._spawn(self._every(FOLLOW_S, self._correlator.entries.refresh))
        self._spawn(self._every(TICK_S, self._correlator.clear_stale))
        self._spawn(self._every(FOLLOW_S, self._correlator.collector.clean))
        self._spawn(self._every(FOLLOW_S, self._admission.refresh))
        self._spawn(self._every(TICK_S, self._admission.clear_vacant))
        self._spawn(self._every(AUDIT_S, self._admission.audit))
        self._spawn(self._every(SCHEDULES_S, self._schedules.refresh))
        self._spawn(self._every(SWEEP_S, self._sweep))
        if self._searching.after_s:
            self._spawn(self._every(period_s(self._searching.after_s), self._searching.look))
        self._spawn(self._correlator.match())
        self._spawn(self._correlator.look_back())
        self._spawn(self._admission.admit())
        self._spawn(self._advisories.run())
        self._spawn(self._recovery.run(self._recover))
        self._spawn(self._upkeep.run())
        self._spawn(self._tell_unannounced(self._deployed))
        try:
            await self._service.run(self._engine)
        finally:
            self._slot.enter(Phase.LEAVING)
            for task in self._background:
                task.cancel()
            await asyncio.gather(*self._background, return_exceptions=True)
            await self._parking.close()
            self._journal.close()
            logger.bind(**dict(self._engine.counts)).info("orchestrator.stopped")

    def _spawn(self, work: Awaitable[None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(work)
        task.add_done_callback(self._background_ended)
        self._background.append(task)
        return task

    def _background_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._service.fail(error)

    async def _every(self, period_s: float, work: Callable[[], Awaitable[Any]]) -> None:
        """Call `work` again and again; while the broker is away it is simply late."""
        while True:
            try:
                await work()
            except BrokerError as error:
                logger.bind(error=str(error)).warning("background.late")
            except Exception as error:  # noqa: BLE001 — what somebody stored must not end this
                logger.opt(exception=error).error("background.failed")
            await asyncio.sleep(period_s)

    async def _tick(self) -> None:
        self._slot.tick(time.monotonic())
        self._leases.renew(asyncio.get_running_loop().time())
        self._child.progress(self._engine.counts["applied"])
        self._troubles.look()
        if self._child.orphaned():
            logger.warning("orchestrator.orphaned")
            self._service.stop()

    async def _sweep(self) -> None:
        await self._sweeper.sweep()
        await self._timer_cap.look()

    async def _recover(self) -> None:
        """After a reconnect: the broker may have forgotten acks, or be another one."""
        await self._upkeep.look()
        await self._take_anew()

    async def _take_anew(self) -> None:
        """As at the start: what is remembered of the broker may be of another one."""
        self._store.cache.clear()
        self._searching.again()
        await self._recovery.reset_consumers()
        await self._catalog.entries.again()
        await self._definitions.again()
        await self._correlator.entries.again()
        await self._admission.entries.again()

    def stop(self) -> None:
        """Drain: `run` returns when the groups under way are through."""
        self._service.stop()

    def redeploy(self) -> None:
        """Register what is new in `workflows_dir`."""
        self._spawn(self._deploy())

    async def _deploy(self) -> None:
        try:
            await self._register()
        except BrokerError as error:
            logger.bind(error=str(error)).error("redeploy.failed")
            return
        await self._tell_unannounced(self._deployed)

    async def _register(self) -> None:
        self._deployed = await deploy_directory(self._port, self._settings.workflows_dir)
        await self._definitions.entries.refresh()

    async def _streams_renewed(self) -> None:
        """The files come first: no start is to find a moment without its definition."""
        self._deployed = await deploy_directory(self._port, self._settings.workflows_dir)
        await self._take_anew()

    async def _deploy_missing(self) -> None:
        """What lies in files and was registered is there: not after a loss, or a delete by hand."""
        if not self._definitions.holds(self._deployed.titles):
            logger.warning("definitions.missing")
            await self._register()

    async def _tell_unannounced(self, deployment: Deployment) -> None:
        """Warn of activities that no worker has, when those that start now have had the time."""
        await asyncio.sleep(ANNOUNCE_GRACE_S)
        deployment.warn(self._catalog.activities)

    def _ack(self, item: Any) -> None:
        self._guard.acquit(named(item.delivery))
        self._port.ack(item.delivery)
        self._service.done(item)


def _limits(settings: Settings, port: Port) -> Limits:
    limits = settings.orchestrator.limits
    message = port.max_payload - MESSAGE_MARGIN_BYTES
    return Limits(
        snapshot=min(limits.snapshot, message),
        message=message,
        lifecycle=settings.orchestrator.lifecycle_events,
        machine=machine_limits(settings),
    )


def _retention(settings: Settings) -> Retention:
    orchestrator = settings.orchestrator
    return Retention(int(orchestrator.completed_ttl), int(orchestrator.faulted_ttl))


def token_maker() -> Callable[[], str]:
    """Commit tokens: no other process makes the same one, and none comes twice."""
    process = secrets.token_hex(8)
    numbers = itertools.count()
    return lambda: f"{process}-{next(numbers)}"


def now_ms() -> int:
    return time.time_ns() // 1_000_000
