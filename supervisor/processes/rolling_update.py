"""Replacing processes one at a time: the new one ready and proved, then the old one drains.

A new one that fails ends the roll of its pool, and the old ones go on.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from loguru import logger

from supervisor.policy.backlog import Backlog
from supervisor.policy.restart import Cause
from supervisor.policy.spec import ChildSpec
from supervisor.processes.process import READY, Process, describe
from supervisor.processes.seat import LastExit, Place, Pool


class Seats(Protocol):
    """What is needed of the tree."""

    places: dict[str, Place]
    pools: dict[str, Pool]
    closing: bool
    backlog: Backlog

    def start(self, place: Place, now: float) -> Process | None: ...

    def grace_s(self, spec: ChildSpec) -> float: ...


class Rolling:
    """The part of the tree that brings its processes up to what their places want."""

    def __init__(self, tree: Seats, proof_s: float, blind_s: float) -> None:
        """`proof_s`: a new worker that has got no task to finish by then is trusted all the same;
        `blind_s`: the same where nobody knows whether there are tasks."""
        self._tree = tree
        self._proof_s = proof_s
        self._blind_s = blind_s

    def is_under_way(self) -> bool:
        return any(place.successor for place in self._tree.places.values()) or any(self._stale())

    def advance(self, now: float) -> None:
        """Replace at most one process that runs something else than its place wants."""
        self.succeed(now)
        if self._tree.closing or any(place.successor for place in self._tree.places.values()):
            return
        for place in self._stale():
            process = place.process
            assert process is not None  # or it would not be stale
            if process.state == READY and not place.spec.is_engine:
                if place.next_start <= now:
                    logger.bind(child=place.spec.name, child_pid=process.pid).info(
                        "process.replacing"
                    )
                    place.successor = self._tree.start(place, now)
                return
            # Nothing to keep, or no second one may run beside it: end the old one first.
            process.terminate(now + self._tree.grace_s(place.spec), Cause.OPERATOR)

    def _stale(self) -> Iterator[Place]:
        for place in self._tree.places.values():
            pool = self._tree.pools[place.spec.pool]
            if place.is_stale() and not pool.paused and pool.halted != place.spec.fingerprint:
                yield place

    def succeed(self, now: float) -> None:
        """Successors that have proved themselves take over, and the old processes drain."""
        for place in self._tree.places.values():
            process = place.successor
            if process is None or process.state != READY or not self._is_proved(process, now):
                continue
            old, place.process, place.successor = place.process, process, None
            if old is not None:
                old.terminate(now + self._tree.grace_s(old.spec), Cause.OPERATOR)

    def _is_proved(self, process: Process, now: float) -> bool:
        """A finished task proves it; or that there is none to be had."""
        header = process.header()
        if process.done > 0 or (header is not None and header.done > 0):
            return True
        if process.ready_at is None:
            return False
        waiting = self._tree.backlog.of_pool(process.spec.activities, now)
        if waiting is not None and waiting.is_idle:
            return True
        limit_s = self._blind_s if waiting is None else self._proof_s
        return now - process.ready_at >= limit_s

    def ended(self, place: Place, process: Process, status: int, now: float) -> None:
        """The successor at `place` has ended. Unless it was told to, that ends the roll."""
        place.successor = None
        if process.ended_by_us is Cause.OPERATOR:
            return
        error = process.failure[1] if process.failure else describe(status)
        pool = self._tree.pools[place.spec.pool]
        place.last_exit = LastExit("reload", describe(status), now, error)
        pool.halted = process.spec.fingerprint
        pool.roll_error = error
        logger.bind(child=place.spec.name, child_pid=process.pid, error=error).error(
            "reload.stopped"
        )
