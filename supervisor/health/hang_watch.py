"""The vigil: once a second, look at every slot, and replace what is stuck."""

from __future__ import annotations

from loguru import logger

from supervisor.policy.hang_detection import LOOK_S, look
from supervisor.policy.restart import Cause
from supervisor.processes.process import READY, Process
from supervisor.processes.tree import Tree
from wf.process.status_page import Phase

DRAIN_MARGIN_S = 5.0
RECYCLE_WAIT_S = 60.0


class Vigil:
    """Watches the processes of one tree."""

    def __init__(self, tree: Tree, starved_s: float) -> None:
        self._tree = tree
        self._starved_s = starved_s
        self._next_look = 0.0

    def look(self, now: float) -> None:
        """Every process that works, if it is time."""
        if now < self._next_look:
            return
        self._next_look = now + LOOK_S
        self._tree.memory_killer.look(now)
        for process in list(self._tree.processes.values()):
            if process.state == READY:
                self._look_at(process, now)
        for process in list(self._tree.processes.values()):
            if process.state == READY and process.recycle is not None:
                self._consider_recycling(process, process.recycle, now)

    def _consider_recycling(self, process: Process, wish: tuple[str, float], now: float) -> None:
        """One of a pool at a time; one that is never complete may not keep them all waiting."""
        reason, since = wish
        others = [p for p in self._tree.in_pool(process.spec.pool) if p.process is not process]
        if now - since < RECYCLE_WAIT_S and any(other.state() != READY for other in others):
            return
        logger.bind(child=process.spec.name, child_pid=process.pid, reason=reason).info(
            "process.recycling"
        )
        process.terminate(now + self._tree.grace_s(process.spec), Cause.RECYCLE)

    def _look_at(self, process: Process, now: float) -> None:
        header = process.header()
        if header is None:
            return
        if header.phase is Phase.DRAINING:  # by its own wish; bounded all the same
            grace_s = self._tree.grace_s(process.spec)
            process.leave_by(now + grace_s + DRAIN_MARGIN_S)
            return
        tasks = process.tasks() if header.running else []
        starving = process.spec.is_worker and self._tree.backlog.waits(process.spec.activities, now)
        finding = look(
            process.seen,
            header,
            tasks,
            now,
            hang_s=process.spec.hang_s,
            starving=starving,
            starved_limit_s=self._starved_s,
        )
        if finding is None:
            return
        logger.bind(
            child=process.spec.name,
            child_pid=process.pid,
            kind=finding.kind.value,
            reason=finding.text,
        ).error("process.stuck")
        place = self._tree.places.get(process.spec.name)
        if place is not None:
            place.stuck[finding.kind.value] += 1
        process.failure = (finding.kind.value, finding.text)
        process.condemn(Cause.HANG, now)
