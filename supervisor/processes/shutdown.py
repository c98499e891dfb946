"""The orderly end: workers drain while the engine still runs, then the engine, the broker last."""

from __future__ import annotations

import os
import signal

from loguru import logger

from supervisor.policy.restart import Cause
from supervisor.policy.spec import MONITOR, STAGES
from supervisor.processes.orphans import children
from supervisor.processes.tree import Tree

REPORT_S = 3.0


class Stopping:
    """Advances stage by stage; each has its own grace, then SIGKILL."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        tree.closing = True
        self._announced: set[int] = set()
        self._report_by: float | None = None

    def advance(self, now: float) -> bool:
        """Ask the last stage that still runs to leave. True when nothing runs any more."""
        for stage in reversed(range(len(STAGES))):
            processes = self._tree.in_stage(stage)
            if not processes:
                continue
            if STAGES[stage] == MONITOR and self._has_to_report(now):
                return False
            if stage not in self._announced:
                self._announced.add(stage)
                logger.bind(role=STAGES[stage], count=len(processes)).info("stop.stage")
                for process in processes:
                    process.terminate(now + self._tree.grace_s(process.spec), Cause.OPERATOR)
            return False
        return True

    def _has_to_report(self, now: float) -> bool:
        """The workers are gone; the monitor may first settle what they left behind."""
        if self._report_by is None:
            self._report_by = now + REPORT_S
        return bool(self._tree.deaths.pending) and now < self._report_by


def sweep_leftovers(guard: int) -> int:
    """Kill and reap what children left behind and we adopted; how many there were.

    The guard goes too, not counted: there is nothing left for it to do.

    Only our own children are listed, and none is reaped in between: no pid can be a stranger's.
    """
    count = 0
    while found := children():
        for pid in found:
            os.kill(pid, signal.SIGKILL)
        for pid in found:
            os.waitpid(pid, 0)
        count += sum(1 for pid in found if pid != guard)
    return count
