"""The process tree: which places there are, what fills them, and what happens at each event.

Decisions are in `restart` and `spec`; here they are carried out. Nothing here waits.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

from loguru import logger

from supervisor.policy.backlog import Backlog
from supervisor.policy.restart import (
    Breaker,
    Cause,
    Exit,
    Policy,
    after_exit,
    after_failure,
    exceeds_budget,
    is_proof,
)
from supervisor.policy.spec import BROKER, MONITOR, STAGES, ChildSpec
from supervisor.processes.death_reports import Deaths
from supervisor.processes.loop import Loop
from supervisor.processes.oom_kills import MemoryKiller
from supervisor.processes.orphans import Orphans
from supervisor.processes.process import READY, STARTING, Process, describe
from supervisor.processes.rolling_update import Rolling
from supervisor.processes.seat import LastExit, Place, Pool
from supervisor.processes.spawn import Spawned
from supervisor.processes.timing import Timing
from wf.process.child import EXIT_BROKER, EXIT_CONFIG

LOGGED_DUMP = 8000  # characters of a stack dump, its end
EXIT_ENGINE = 71  # the broker or the orchestrator failed past its budget

Protect = Callable[[Spawned], None]
Launch = Callable[[ChildSpec, int], Spawned]


@dataclass(frozen=True, slots=True)
class Fatal:
    """Why the supervisor cannot go on."""

    status: int
    message: str


class Tree:
    """All places, all processes. One owner, one thread."""

    def __init__(
        self,
        launch: Launch,
        protect: Protect,
        loop: Loop,
        timing: Timing,
        worker_grace_s: float,
        draw: Callable[[], float],
    ) -> None:
        self._launch = launch
        self._protect = protect
        self._loop = loop
        self._timing = timing
        self._draw = draw
        self.places: dict[str, Place] = {}
        self.pools: dict[str, Pool] = {}
        self.processes: dict[int, Process] = {}
        self._orphans = Orphans()
        self.helpers: dict[int, Callable[[int], None]] = {}  # pid → what to do with its status
        self.closing = False  # the supervisor ends: nothing is started any more
        self.fatal: Fatal | None = None
        self._open_stages: set[int] = set()
        self._speaking: list[Process] = []  # have written something
        self.deaths = Deaths()
        self.backlog = Backlog()
        self.data_lost: tuple[str, float] | None = None  # what the broker has lost, and when
        self.memory_killer = MemoryKiller()
        self._worker_grace_s = worker_grace_s
        self.rolling = Rolling(self, timing.roll_proof_s, timing.roll_blind_s)
        self.paused: frozenset[str] = frozenset()  # pools that the operator has paused

    # What is wanted

    def add(self, spec: ChildSpec) -> None:
        """Make a place; it is filled when its stage and its pool allow."""
        self.places[spec.name] = Place(spec)
        pool = self.pools.setdefault(spec.pool, Pool(spec.pool, spec.role))
        pool.paused = spec.pool in self.paused

    def remove(self, name: str, now: float) -> None:
        """Take a place away; its processes drain."""
        place = self.places.pop(name)
        self.vacate(place, now)
        if not any(other.spec.pool == place.spec.pool for other in self.places.values()):
            del self.pools[place.spec.pool]

    def change(self, spec: ChildSpec) -> None:
        """The place is to run something else; `roll` brings it about. The pool starts afresh."""
        self.places[spec.name].spec = spec
        self.forgive(spec.pool)

    def forgive(self, pool: str) -> None:
        """Forget the failures of a pool: what caused them may have been mended."""
        self.pools[pool].breaker = Breaker()
        self.pools[pool].error = None
        self.pools[pool].halted = self.pools[pool].roll_error = None
        for place in self.in_pool(pool):
            place.failures, place.next_start = 0, 0.0

    def pause(self, paused: frozenset[str], now: float) -> None:
        """These pools, and no others, are paused: what runs in them drains."""
        self.paused = paused
        for name, pool in self.pools.items():
            pool.paused = name in paused
            for place in self.in_pool(name) if pool.paused else ():
                self.vacate(place, now)

    def vacate(self, place: Place, now: float) -> None:
        """Let the processes of a place drain and leave. Who fills it again is another matter."""
        for process in (place.process, place.successor):
            if process is not None:
                process.terminate(now + self.grace_s(place.spec), Cause.OPERATOR)

    def condemn(self, pool: str, error: str, now: float) -> None:
        """A pool whose modules are known to be broken: hold it back, as if a child had failed."""
        failure = Exit(now, Cause.CONFIG, was_ready=False, made_progress=False)
        self.pools[pool].error = error
        self.pools[pool].breaker = after_failure(
            self.pools[pool].breaker, failure, len(self.in_pool(pool)), self._timing.worker
        )

    def in_pool(self, pool: str) -> list[Place]:
        return [place for place in self.places.values() if place.spec.pool == pool]

    def by_pool(self) -> dict[str, list[Place]]:
        """Every pool's places, in one pass."""
        pools: dict[str, list[Place]] = {}
        for place in self.places.values():
            pools.setdefault(place.spec.pool, []).append(place)
        return pools

    def load(self) -> dict[str, int]:
        """Place → tasks that run there; −1 where nothing is ready to take any."""
        return {
            name: self.running_tasks(place.process)
            if place.process is not None and place.process.state == READY
            else -1
            for name, place in self.places.items()
        }

    def running_tasks(self, process: Process) -> int:
        """How many tasks it has begun and not ended, as its slot says."""
        header = process.header()
        return header.running if header is not None else 0

    def engine_places(self, now: float) -> list[Place]:
        """Places of the engine that are to be filled: their stage is open, nothing holds them."""
        stage = self._current_stage()
        return [
            place
            for place in self.places.values()
            if place.spec.is_engine
            and place.spec.stage <= stage
            and self.pools[place.spec.pool].breaker.state(now) == "closed"
        ]

    def in_stage(self, stage: int) -> list[Process]:
        """Processes of a stage that have not ended, those without a place included."""
        return [process for process in self.processes.values() if process.spec.stage == stage]

    # Start

    def fill(self, now: float) -> None:
        """Start whatever is due: its stage is open, its pool lets it, its delay is over."""
        if self.closing:
            return
        stage = self._current_stage()
        for name, places in self.by_pool().items():
            pool = self.pools[name]
            if places[0].spec.stage > stage or pool.paused:
                continue
            allowed = pool.breaker.places(now, sum(_unproved(place) for place in places))
            due = [p for p in places if p.state() == "waiting" and p.next_start <= now]
            for place in due[:allowed]:
                place.process = self.start(place, now)
                if place.process is not None:
                    place.process.half_open = allowed is not None

    def _current_stage(self) -> int:
        """The last stage that may start. Opened once, a stage stays open: later crashes of an
        earlier one are for the others to sit out."""
        for stage in range(len(STAGES)):
            if stage in self._open_stages:
                continue
            mine = [place for place in self.places.values() if place.spec.stage == stage]
            busy = any(place.state() not in (READY, "held") for place in mine)
            if busy and STAGES[stage] != MONITOR:
                return stage
            self._open_stages.add(stage)
        return len(STAGES)

    def start(self, place: Place, now: float) -> Process | None:
        """Fork a process for the place; None when the host cannot at this moment."""
        generation = place.generation
        place.generation += 1
        try:
            spawned = self._launch(place.spec, generation)
        except OSError as error:  # no process, memory or descriptor to be had at this moment
            place.next_start = now + 1.0
            place.trouble = f"no process could be started: {error}"
            logger.bind(child=place.spec.name, error=str(error)).error("process.start.failed")
            return None
        place.trouble = None
        boot_s = self._timing.boot_timeout_s or place.spec.boot_s
        process = Process(place.spec, generation, spawned, now, boot_deadline=now + boot_s)
        self.processes[spawned.pid] = process
        self._protect(spawned)
        # Readable at its end. Reaping finds it; all that is needed here is to wake up.
        self._loop.watch(spawned.pidfd, lambda: None)
        if spawned.report_fd is not None:
            self._loop.watch(spawned.report_fd, partial(self._speaking.append, process))
        _log(process).info("process.started")
        return process

    # Reports

    def listen(self, now: float) -> None:
        """Take in what the children have to say."""
        for process in self._speaking:
            if self.processes.get(process.pid) is process:
                self._listen_to(process, now)
        self._speaking.clear()

    def _listen_to(self, process: Process, now: float) -> None:
        for report in process.reports():
            match report.get("event"):
                case "ready":
                    self.became_ready(process, now)
                case "settled":
                    self.deaths.settled(report.get("death"))
                case "backlog" if "error" in report:
                    self.backlog.unread(str(report["error"]))
                case "backlog":
                    self.backlog.take(
                        report.get("activities"), now, report.get("missing"), report.get("workers")
                    )
                case "lost":
                    self.data_lost = (str(report.get("what")), now)
                case _:
                    process.heard(report, now)

    def became_ready(self, process: Process, now: float) -> None:
        """The child works. A successor has yet to prove itself before the old process drains."""
        if process.ready_at is not None:
            return
        process.ready_at = now
        _log(process).bind(after_s=round(now - process.started_at, 3)).info("process.ready")
        pool = self.pools.get(process.spec.pool)
        if pool is not None:
            pool.error = None

    # Exits

    def reap(self, now: float) -> None:
        """Collect every child that has ended, adopted orphans too."""
        self._orphans.look(self.processes, self.helpers, self._reap_all(now), now)

    def _reap_all(self, now: float) -> set[int]:
        """The pids of all that have ended."""
        died: set[int] = set()
        while True:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return died
            if ended is None:
                return died
            process = self.processes.get(ended.si_pid)
            if process is not None:
                process.kill()  # what it has started and left behind; before its pid is free
            died.add(ended.si_pid)
            _, raw, usage = os.wait4(ended.si_pid, 0)
            status = os.waitstatus_to_exitcode(raw)
            if process is not None:
                self._ended(process, status, usage.ru_maxrss * 1024, now)
            elif ended.si_pid in self.helpers:
                self.helpers.pop(ended.si_pid)(status)
            else:
                logger.bind(orphan_pid=ended.si_pid).debug("orphan.reaped")

    def _ended(self, process: Process, status: int, peak_bytes: int, now: float) -> None:
        self._listen_to(process, now)  # its last words
        killed = status == -signal.SIGKILL and process.ended_by_us is None
        process.oom_killed = killed and self.memory_killer.claim(now)
        self._loop.forget(process.spawned.pidfd)
        if process.spawned.report_fd is not None:
            self._loop.forget(process.spawned.report_fd)
        del self.processes[process.pid]
        exit_ = process.ended(status, now)
        self.deaths.record(process, exit_.cause, status, peak_bytes, now)
        wanted = exit_.cause is Cause.OPERATOR or exit_.cause is Cause.RECYCLE
        log = _log(process).bind(cause=exit_.cause.value, status=describe(status))
        if process.failure is not None:
            log = log.bind(error=process.failure[1])
        if not wanted and (dump := process.dump()):
            log = log.bind(dump=dump[-LOGGED_DUMP:])
        log.log("INFO" if wanted else "ERROR", "process.exited")
        process.close()
        place = self.places.get(process.spec.name)
        if place is None:
            return
        if place.successor is process:
            self.rolling.ended(place, process, status, now)
        elif place.process is process and self.closing:
            place.process = None
        elif place.process is process:
            self._vacated(place, process, exit_, status, now)

    def _vacated(
        self, place: Place, process: Process, exit_: Exit, status: int, now: float
    ) -> None:
        error = process.failure[1] if process.failure else None
        pool = self.pools[place.spec.pool]
        policy = self._policy(place.spec)
        # With a successor on its way there is no more to replace: it is the process now.
        place.process, place.successor = place.successor, None
        place.restarts += 1
        place.last_exit = LastExit(exit_.cause.value, describe(status), now, error)
        decision = after_exit(place.failures, exit_, policy, self._draw())
        place.failures = decision.failures
        place.next_start = now + decision.delay_s
        before = pool.breaker
        pool.breaker = after_failure(before, exit_, len(self.in_pool(pool.name)), policy)
        if exit_.cause is Cause.CONFIG:
            pool.error = error or f"{place.spec.name} ended with {describe(status)}"
        _log(process).bind(
            delay_s=round(decision.delay_s, 3), reason=decision.reason, restarts=place.restarts
        ).info("process.restart.scheduled")
        if pool.breaker.openings > before.openings:
            logger.bind(
                pool=pool.name, cause=exit_.cause.value, until_s=_until(pool.breaker, now)
            ).error("pool.degraded")
        if place.spec.is_engine:
            self._judge_engine(place, exit_, error, now)

    def _judge_engine(self, place: Place, exit_: Exit, error: str | None, now: float) -> None:
        """Without the engine nothing works: past its budget the supervisor ends, and says why."""
        pool = self.pools[place.spec.pool]
        first_boot = place.spec.stage not in self._open_stages and not exit_.was_ready
        what = f"{place.spec.name} ended ({exit_.cause.value})"
        if first_boot and exit_.cause is not Cause.OPERATOR and place.spec.role == BROKER:
            self.fatal = Fatal(EXIT_BROKER, f"{what} before it was ready")
        elif first_boot and exit_.cause is Cause.CONFIG:
            self.fatal = Fatal(EXIT_CONFIG, f"{what}: {error}")
        elif exit_.cause is not Cause.BROKER and exceeds_budget(
            place.failures, exit_, pool.breaker, self._timing.engine
        ):
            self.fatal = Fatal(EXIT_ENGINE, f"{what}; {len(pool.breaker.failures)} times of late")

    def monitor(self) -> Process | None:
        """The one that is ready."""
        for process in self.in_stage(STAGES.index(MONITOR)):
            if process.state == READY:
                return process
        return None

    # Time

    def tick(self, now: float) -> None:
        """What is due by the clock alone: boot timeouts, the end of grace, proofs."""
        for process in self.processes.values():
            if process.stop_deadline is not None and now >= process.stop_deadline:
                _log(process).warning("process.killed")
                process.ended_by_us = process.ended_by_us or Cause.RECYCLE  # it wished to leave
                process.kill()
                process.stop_deadline = now + 1.0
            elif process.state == STARTING and now >= process.boot_deadline:
                boot_s = process.boot_deadline - process.started_at
                process.failure = ("boot", f"not ready after {boot_s:g} s")
                process.condemn(Cause.BOOT, now)
                _log(process).error("process.boot.timeout")
            elif process.half_open and process.ready_at is not None:
                self._consider_proof(process, now)

    def _consider_proof(self, process: Process, now: float) -> None:
        pool = self.pools.get(process.spec.pool)
        if pool is None or process.ready_at is None:
            return
        policy = self._policy(process.spec)
        if is_proof(now - process.ready_at, process.done, policy):
            process.half_open = False
            pool.breaker = Breaker()
            logger.bind(pool=pool.name).info("pool.recovered")

    def next_event_s(self, now: float) -> float:
        """Seconds until something is due by the clock; at most one second."""
        times = [now + 1.0]
        for process in self.processes.values():
            if process.stop_deadline is not None:
                times.append(process.stop_deadline)
            elif process.state == STARTING:
                times.append(process.boot_deadline)
                if process.spec.role == BROKER:
                    times.append(now + 0.02)  # it cannot tell us; we have to ask
            if process.has_unsent:
                times.append(now + 0.02)
        times += [place.next_start for place in self.places.values() if place.process is None]
        times += [pool.breaker.open_until or times[0] for pool in self.pools.values()]
        return max(0.01, min(times_ for times_ in times if times_ > now) - now)

    # Ends

    def kill_all(self, processes: Iterable[Process] | None = None) -> None:
        for process in list(processes if processes is not None else self.processes.values()):
            process.ended_by_us = Cause.OPERATOR
            process.kill()

    def grace_s(self, spec: ChildSpec) -> float:
        return self._worker_grace_s if spec.is_worker else self._timing.engine_grace_s

    def _policy(self, spec: ChildSpec) -> Policy:
        return self._timing.worker if spec.is_worker else self._timing.engine


def _unproved(place: Place) -> bool:
    return place.process is not None and place.process.half_open


def _until(breaker: Breaker, now: float) -> float:
    return round((breaker.open_until or now) - now, 3)


def _log(process: Process) -> Any:
    return logger.bind(
        child=process.spec.name, child_pid=process.pid, generation=process.generation
    )
