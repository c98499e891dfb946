"""A place of the tree (it outlives its processes) and a pool of places."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from supervisor.policy.restart import Breaker
from supervisor.policy.spec import ChildSpec
from supervisor.processes.process import READY, STARTING, Process


@dataclass(frozen=True, slots=True)
class LastExit:
    """The end of the latest process of a place, for status."""

    cause: str
    how: str  # "exit 1", "SIGKILL"
    at: float  # monotonic seconds
    error: str | None = None  # what the child said before it left


@dataclass(slots=True)
class Place:
    """One name of the tree: the process that fills it, and when it may be filled again."""

    spec: ChildSpec
    process: Process | None = None
    successor: Process | None = None  # becomes `process` when it is ready (a roll)
    generation: int = 0  # processes started here so far
    restarts: int = 0
    failures: int = 0  # in a row, without progress in between
    next_start: float = 0.0  # monotonic seconds; in the past: as soon as may be
    last_exit: LastExit | None = None
    stuck: Counter[str] = field(default_factory=Counter)  # how often its processes were, by kind
    trouble: str | None = None  # why no process could be started
    held: bool = False  # the operator has drained it: it stays empty
    renew_below: int = 0  # processes of an earlier generation are to be replaced

    def state(self) -> str:
        """starting, ready, stopping; without a process held, or waiting (for its next start)."""
        if self.process is None:
            return "held" if self.held else "waiting"
        return self.process.state

    def is_stale(self) -> bool:
        """Whether its process is to be replaced: it runs something else, or was told to."""
        process = self.process
        return (
            process is not None
            and process.stop_deadline is None
            and (
                process.spec.fingerprint != self.spec.fingerprint
                or process.generation < self.renew_below
            )
        )


@dataclass(slots=True)
class Pool:
    """Places that share a breaker. Engine roles are pools of their own."""

    name: str
    role: str
    breaker: Breaker = field(default_factory=Breaker)
    error: str | None = None  # why it cannot run, as its child or the check of its modules said
    halted: str | None = None  # fingerprint that a roll gave up on: not tried again
    roll_error: str | None = None  # why it did

    paused: bool = False  # by the operator: nothing is started

    def state(self, now: float, places: list[Place]) -> str:
        """paused, failed (nothing runs, and says why), degraded, starting or ready."""
        if self.paused:
            return "paused"
        ready = sum(1 for place in places if place.process and place.process.state == READY)
        if self.error and not ready:
            return "failed"
        if self.breaker.state(now) != "closed":
            return "degraded"
        if any(place.state() in ("waiting", STARTING) for place in places):
            return "starting"
        return "ready"
