"""The supervisor itself: wait, reap, listen, decide, act; again."""

from __future__ import annotations

import os
import random
import signal
import time
from typing import Any

import orjson
from loguru import logger

from supervisor.control import status
from supervisor.control.orders import Steering
from supervisor.control.socket import ControlServer
from supervisor.health.autoscaler import Autoscaler
from supervisor.health.hang_watch import Vigil
from supervisor.health.self_check import SPARE_S, busy_until, overdue
from supervisor.launch import Launcher
from supervisor.policy.restart import Cause
from supervisor.policy.spec import MONITOR, ORCHESTRATOR, WORKER
from supervisor.processes.guard import Guard
from supervisor.processes.loop import Loop, SignalPipe
from supervisor.processes.process import READY, STARTING, describe
from supervisor.processes.shutdown import Stopping, sweep_leftovers
from supervisor.processes.spawn import Spawned
from supervisor.processes.timing import Timing
from supervisor.processes.tree import Fatal, Tree
from supervisor.reload.configuration import Configuration, Read
from supervisor.reload.file_watch import Watch
from supervisor.reload.reload import (
    LONGEST_S,
    Validation,
    condemn_broken,
    forgive_failed,
    merged,
    reshape,
)
from supervisor.reload.upgrade_watch import Installed
from supervisor.sd_notify import Notifier
from wf.errors import BrokerError
from wf.process import standard_streams
from wf.process.child import EXIT_BROKER

UPGRADED = "the installed wf-supervisor"  # among what a restart brings into force
SAME_STOP_S = 0.5  # a second SIGTERM within this is the same one
LOG_S = 0.1  # how often a log reader that is slow is tried again
STATUS_S = 5.0  # how often the monitor is told of the whole pool
SIGNALS = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGCHLD,
)
_HOPELESS = ("failed", "degraded", "paused")  # a pool that the rest does not wait for


class Daemon:
    """One run of the supervisor over one state directory."""

    def __init__(
        self,
        configuration: Configuration,
        read: Read,
        launcher: Launcher,
        guard: Guard,
        notifier: Notifier,
        timing: Timing,
    ) -> None:
        self.configuration = configuration
        self.settings = configuration.settings
        self._read = read
        self._launcher = launcher
        self._notifier = notifier
        self._timing = timing
        self._started = time.monotonic()
        self.loop = Loop()
        self._signals = SignalPipe(SIGNALS)
        self.loop.watch(self._signals.fd, lambda: None)
        grace_s = self.settings.supervisor.grace
        self._guard = guard
        self.tree = Tree(launcher.launch, self._protect, self.loop, timing, grace_s, random.random)
        self.tree.helpers[self._guard.pid] = self._guard_died
        self._vigil = Vigil(self.tree, timing.starved_s)
        self._autoscaler = Autoscaler(self.tree, lambda: self.configuration, timing.scaling)
        self._steering = Steering(self.tree, lambda: self.configuration, self._rescale)
        commands = {"status": lambda request: self.status(), **self._steering.commands}
        self._control = ControlServer(self.settings.supervisor.state_dir, self.loop, commands)
        self._watch = self._new_watch()
        self._next_look = self._started + timing.watch_interval_s
        self._next_watchdog = self._started
        self._extended_until = 0.0  # as systemd was told, in monotonic seconds
        self._stopping: Stopping | None = None
        self._same_stop_until = 0.0  # monotonic seconds
        self._validation: Validation | None = None
        self._later_s = list(timing.imports_s[1:])
        self._reloading = False  # somebody asked for what is under way
        self._reload_again = False  # asked for while a validation was under way
        self._reload_error: tuple[str, ...] = ()
        self._restart_needed: tuple[str, ...] = ()
        self._installed = Installed()
        self._upgraded = False
        self._redeploy_too = False  # the reload was asked for by signal: it means everything
        self._up = False
        self._next_telling = 0.0
        self._told = 0  # pid of the monitor that knows how we are

    def _protect(self, spawned: Spawned) -> None:
        self._guard.protect(spawned)

    def _guard_died(self, status: int) -> None:
        logger.bind(status=describe(status)).warning("guard.died")
        self._guard.close()
        children = (process.spawned for process in self.tree.processes.values())
        self._guard = Guard(
            self.settings.supervisor.log_format, children, execute=not self._guard.is_young()
        )
        self.tree.helpers[self._guard.pid] = self._guard_died

    def run(self) -> int:
        """Until a signal or the engine's failure ends it; the exit status."""
        now = self._started
        self._steering.configured()
        self.tree.pause(self._steering.overrides.paused, now)
        self._rescale(now)
        condemn_broken(self.tree, self.configuration, now)
        self._import_late(now)
        while not self._step(now):
            self.loop.wait(self._until_next(now))
            now = time.monotonic()
        left = sweep_leftovers(self._guard.pid)
        self._guard.close()
        logger.bind(leftovers=left).info("supervisor.stopped")
        return self.tree.fatal.status if self.tree.fatal else 0

    def _step(self, now: float) -> bool:
        """Everything that may be due; True when all is over."""
        self.tree.listen(now)
        self.tree.reap(now)
        for number in self._signals.take():
            self._handle(number, now)
        self._vigil.look(now)
        self._tell_monitor(now)
        self.tree.tick(now)
        self._ask_broker(now)
        if self.tree.fatal and self._stopping is None:
            self._give_up(self.tree.fatal)
        if self._stopping is not None:
            over = self._stopping.advance(now)
            self._tell_systemd(now)
            return over
        self._look_at_files(now)
        self._finish_validation(now)
        if self._autoscaler.look(self._steering.counts(), now):
            self._rescale(now)
        self.tree.fill(now)
        self.tree.rolling.advance(now)
        self._tell_systemd(now)
        return False

    def _until_next(self, now: float) -> float:
        wait_s = self.tree.next_event_s(now)
        if self._stopping is None:
            wait_s = min(wait_s, self._next_look - now)
        if self._notifier.watchdog_s is not None:
            wait_s = min(wait_s, self._next_watchdog - now)
        if not standard_streams.flush_held():
            wait_s = min(wait_s, LOG_S)
        return max(0.005, wait_s)

    # Signals

    def _handle(self, number: signal.Signals, now: float) -> None:
        match number:
            case signal.SIGTERM | signal.SIGINT:
                self._stop(number, now)
            case signal.SIGHUP:
                self._begin_reload("SIGHUP", now)
            case signal.SIGUSR1:
                logger.bind(reason="logs go to stderr: nothing to reopen").info("logs.reopen")
            case signal.SIGUSR2:
                logger.bind(state=self.status()).info("supervisor.state")

    def _stop(self, number: signal.Signals, now: float) -> None:
        if self._stopping is not None:
            if number is signal.SIGTERM and now < self._same_stop_until:
                return  # as `timeout` sends it: to us, and to our process group
            logger.bind(signal=number.name).warning("stop.now")
            self.tree.kill_all()
            return
        logger.bind(signal=number.name).info("stop.begun")
        if number is signal.SIGTERM:
            self._same_stop_until = now + SAME_STOP_S
        self._begin_stop()

    def _begin_stop(self) -> None:
        self._extended_until = 0.0  # what was asked for the start does not count for the stop
        self._notifier.stopping()
        self._stopping = Stopping(self.tree)
        if self._validation is not None:
            self._validation.cancel()

    def _give_up(self, fatal: Fatal) -> None:
        log = logger.bind(status=fatal.status, error=fatal.message)
        if fatal.status == EXIT_BROKER and self._launcher.broker is not None:
            log = log.bind(broker_log=self._launcher.broker.log_tail())
        log.critical("supervisor.failed")
        self._begin_stop()

    # The broker cannot report: it has to be asked

    def _ask_broker(self, now: float) -> None:
        broker = self._launcher.broker
        if broker is None:
            return
        for process in self.tree.in_stage(0):
            if process.state == READY and broker.restart_due(process.pid, now):
                logger.bind(broker_pid=process.pid).warning("broker.disk.freed")
                process.terminate(now + self.tree.grace_s(process.spec), Cause.RECYCLE)
            if process.state != STARTING or not broker.is_ready():
                continue
            try:
                broker.announce(process.pid)
            except BrokerError as error:
                self.tree.fatal = Fatal(EXIT_BROKER, str(error))
                return
            self.tree.became_ready(process, now)

    # Reload

    def _new_watch(self) -> Watch:
        settings = self.settings
        read = self.configuration.files()
        return Watch(settings.path, settings.activities_dir, settings.workflows_dir, read)

    def _look_at_files(self, now: float) -> None:
        if now < self._next_look:
            return
        self._next_look = now + self._timing.watch_interval_s
        if not self._upgraded and self._installed.changed(now):
            self._upgraded = True
            logger.info("supervisor.upgraded")
        changes = self._watch.poll()
        if changes.workflows:
            self._redeploy(", ".join(changes.workflows))
        if changes.configuration:
            self._begin_reload(", ".join(changes.configuration), now)

    def _redeploy(self, why: str) -> None:
        """SIGHUP makes it read the workflow files again; one that is starting reads them anyway."""
        logger.bind(why=why).info("reload.workflows")
        for place in self.tree.places.values():
            process = place.process
            if process is not None and place.spec.role == ORCHESTRATOR and process.state == READY:
                process.signal(signal.SIGHUP)

    def _begin_reload(self, why: str, now: float) -> None:
        if self._stopping is not None:
            return
        if self._validation is not None:
            self._reload_again = True
            if not self._reloading:
                self._validation.cancel()  # what it finds is out of date
            return
        logger.bind(why=why).info("reload.begun")
        self._redeploy_too = self._redeploy_too or why == "SIGHUP"
        self._reloading = True
        self._notifier.reloading()
        self._notifier.extend(LONGEST_S)
        self._validate(self._timing.imports_s[-1], now)

    def _validate(self, import_s: float, now: float) -> None:
        before = self.configuration
        self._validation = Validation(
            lambda: self._read(before, import_s), self.loop, self.tree, now
        )

    def _import_late(self, now: float) -> None:
        """Since the start some imports are not done: give them more time, a few times."""
        if self.configuration.late() and self._later_s:
            self._validate(self._later_s.pop(0), now)

    def _finish_validation(self, now: float) -> None:
        validation = self._validation
        if validation is None:
            return
        if validation.outcome is None:
            if now > validation.deadline:
                validation.cancel()
            return
        self._validation = None
        if self._reload_again and not self._reloading:
            logger.debug("imports.given.up")
        elif validation.outcome.configuration is None:
            self._reload_error = validation.outcome.problems
            logger.bind(problems=list(self._reload_error)).error("reload.refused")
        else:
            self._apply(validation.outcome.configuration, now)
        if self._up and self._reloading:
            self._notifier.ready()
        if self._reloading:
            self._later_s.clear()  # all the time there is was given
        self._reloading = False
        if self._reload_again:
            self._reload_again = False
            self._begin_reload("changed again", now)
        else:
            self._import_late(now)

    def _apply(self, configuration: Configuration, now: float) -> None:
        self._reload_error = ()
        configuration, self._restart_needed = merged(self.settings, configuration)
        self.configuration, self.settings = configuration, configuration.settings
        self._launcher.settings = self.settings
        self._steering.configured()
        change = reshape(self.tree, configuration, self._counts(), now)
        condemn_broken(self.tree, configuration, now)
        forgive_failed(self.tree, configuration.broken())
        log = logger.bind(
            started=len(change.start), stopped=len(change.stop), replaced=len(change.replace)
        )
        log.info("reload.applied")
        if self._restart_needed:
            logger.bind(tables=list(self._restart_needed)).warning("reload.restart.needed")
        if self._redeploy_too:
            self._redeploy_too = False
            self._redeploy("SIGHUP")
        known, self._watch = self._watch, self._new_watch()
        if known.paths() == self._watch.paths():
            known.follow(configuration.files())
            self._watch = known  # keeps what changed while we were validating

    def _rescale(self, now: float) -> None:
        reshape(self.tree, self.configuration, self._counts(), now)

    def _counts(self) -> dict[str, int]:
        """By the load; an order of the operator is stronger."""
        return {**self._autoscaler.counts(), **self._steering.counts()}

    # What others see

    def _tell_monitor(self, now: float) -> None:
        """Deaths at once; how the pool is, often enough for a bucket whose entries expire."""
        monitor = self.tree.monitor()
        if monitor is None:
            return
        self.tree.deaths.deliver(monitor)
        if now < self._next_telling and self._told == monitor.pid:
            return
        if monitor.has_unsent:
            return  # it does not read: what waits for it must not grow
        self._next_telling, self._told = now + STATUS_S, monitor.pid
        workers = [place.spec for place in self.tree.places.values() if place.spec.is_worker]
        activities = sorted({activity for spec in workers for activity in spec.activities})
        message = {"event": "status", "activities": activities, "status": self.status()}
        monitor.send(orjson.dumps(message, default=str))

    def status(self) -> dict[str, Any]:
        """The document of `wf-supervisor status --json`."""
        broker = self._launcher.broker
        now = time.monotonic()
        facts = {
            "name": self.settings.supervisor.name,
            "pid": os.getpid(),
            "state": self._state(),
            "uptime_s": round(now - self._started, 3),
            "at": round(now, 3),
            "config": str(self.settings.path),
            "broker": broker.url if broker else ", ".join(self.settings.nats.servers),
            "reload_error": list(self._reload_error),
            "restart_needed": [
                *self._restart_needed,
                *([UPGRADED] if self._upgraded else []),
            ],
        }
        scaling = status.Counts(self._steering.counts(), self._autoscaler.told())
        return status.document(self.tree, self.configuration, scaling, facts, now)

    def _state(self) -> str:
        if self._stopping is not None:
            return "stopping"
        if self._reloading or self.tree.rolling.is_under_way():
            return "reloading"
        return "running" if self._up else "starting"

    def _is_up(self, now: float) -> bool:
        """The minimum: the engine is ready, and one worker of each pool that can run at all."""
        for name, places in self.tree.by_pool().items():
            pool = self.tree.pools[name]
            ready = any(place.state() == READY for place in places)
            hopeless = pool.role in (MONITOR, WORKER) and pool.state(now, places) in _HOPELESS
            if not ready and not hopeless:
                return False
        return True

    def _tell_systemd(self, now: float) -> None:
        notifier = self._notifier
        if not self._up and self._stopping is None and self._is_up(now):
            self._up = True
            self._tell_status()  # first: whoever waits for READY looks at it next
            notifier.ready()
            logger.bind(after_s=round(now - self._started, 3)).info("supervisor.ready")
        interval_s = notifier.watchdog_s
        if now < self._next_watchdog:
            return
        notifier.flush()
        self._next_watchdog = now + (min(1.0, interval_s / 3) if interval_s else 1.0)
        if interval_s:
            self._feed_watchdog(now)
        if not self._up or self._stopping is not None:
            self._extend(now)
        self._tell_status()

    def _feed_watchdog(self, now: float) -> None:
        engine = [] if self.tree.closing else self.tree.engine_places(now)
        trouble = overdue(self.tree.processes.values(), engine, now)
        if trouble is None:
            self._notifier.watchdog()
        else:
            logger.bind(reason=trouble).critical("watchdog.withheld")

    def _extend(self, now: float) -> None:
        """Ask for more time only when there is something new to wait for, and just for that."""
        until = busy_until(self.tree.processes.values())
        if until > self._extended_until:
            self._extended_until = until
            self._notifier.extend(until - now + SPARE_S)

    def _tell_status(self) -> None:
        if self._notifier.is_connected:
            self._notifier.status(status.one_line(self.status()))

    def close(self) -> None:
        """Give back every descriptor; nothing runs any more."""
        self._control.close()
        self.loop.forget(self._signals.fd)
        self._signals.close()
        self.loop.close()
        self._notifier.close()
