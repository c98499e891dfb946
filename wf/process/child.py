"""What a forked child is given by the supervisor, and how it answers.

Entry points (`wf.worker.main:run`, `orchestrator.main:run`) have the shape
`run(child: Child) -> int` (the exit status) and are called in the forked process after its hygiene
is done. The same entry points run without a supervisor (`wf worker`) with `report_fd = None`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field

import orjson

from wf.settings import Settings


@dataclass(slots=True)
class Child:
    """One process of the tree, seen from inside."""

    name: str  # "orchestrator", "worker charge_card #2"
    role: str  # broker, orchestrator, monitor, worker
    pool: str | None  # worker: name of its pool, else None
    index: int  # 0…processes-1 within its pool
    settings: Settings
    activities: tuple[str, ...] = ()  # worker: the activity types it pulls
    modules: tuple[str, ...] = ()  # worker: paths of the modules that provide them
    report_fd: int | None = None  # write end of the report pipe; None without a supervisor
    slot_fd: int | None = None  # its slot (wf/process/status_page.py); None without a supervisor
    generation: int = 0  # how often this place has been filled before
    supervisor_pid: int = 0  # 0 without a supervisor
    orphan_grace: float = 4.0  # seconds that a drain may take when the supervisor is gone
    _done: int = field(default=0)

    def orphaned(self) -> bool:
        """Whether the supervisor is gone. Ask on SIGTERM, and about once a second besides.

        The kernel sends SIGTERM at the supervisor's death; an orphan drains for no longer than
        `grace()`, so that nothing outlives the supervisor by more than ten seconds.
        """
        return self.supervisor_pid != 0 and os.getppid() != self.supervisor_pid

    def grace(self) -> float:
        """Seconds that a drain which begins now may take.

        None for an orphan whose broker was the supervisor's as well: that one is gone, nobody would
        take the results, and what the orphan held is delivered again after the restart.
        """
        grace = self.settings.supervisor.grace
        if not self.orphaned():
            return grace
        return 0.0 if self.settings.nats.embedded else min(grace, self.orphan_grace)

    def ready(self) -> None:
        """Connected and able to work. The supervisor counts the child as up from here on."""
        self._report({"event": "ready"})

    def progress(self, done: int) -> None:
        """`done` tasks finished so far; resets the restart backoff. Call at most once a second."""
        self._report({"event": "progress", "done": done})

    def wants_recycle(self, reason: str) -> bool:
        """Ask to be replaced when it suits, one of the pool at a time, by SIGTERM. False: there is
        nobody to ask."""
        if self.supervisor_pid == 0:
            return False
        self._report({"event": "recycle", "reason": reason})
        return True

    def outdated(self, packages: Sequence[str]) -> None:
        """These packages have changed since they were imported; status says so."""
        self._report({"event": "outdated", "packages": packages[:20]})

    def troubled(self, problems: Sequence[str], unable: bool) -> None:
        """What is wrong just now, each with the remedy; none: all is well again. `unable`: no work
        can come meanwhile."""
        self._report(trouble_report(problems, unable))

    def lost(self, what: str) -> None:
        """The broker has lost data: what is gone, in a sentence."""
        self._report({"event": "lost", "what": what[:3000]})

    def failed(self, cause: str, error: str) -> None:
        """About to exit because of `cause` ("import", "config", "start" or "broker"); status shows
        it."""
        self._report({"event": "failed", "cause": cause, "error": error[-3000:]})

    def _report(self, message: dict[str, object]) -> None:
        if self.report_fd is None:
            return
        try:
            os.write(self.report_fd, orjson.dumps(message) + b"\n")  # < PIPE_BUF: atomic
        except OSError:
            return  # the supervisor is gone or busy, or an activity closed it: not worth dying for


def trouble_report(problems: Sequence[str], unable: bool) -> dict[str, object]:
    """The line of a child's report; short enough to be written at once."""
    told = [text[:600] for text in problems[:5]]
    return {"event": "trouble", "problems": told, "unable": unable}


# Exit statuses of children (and of the supervisor) that mean something.
EXIT_OK = 0
EXIT_CONFIG = 78  # EX_CONFIG: settings or modules are wrong; restarting will not help
EXIT_BROKER = 69  # EX_UNAVAILABLE: the broker cannot be reached or used
EXIT_RECYCLE = 75  # EX_TEMPFAIL: max_tasks, max_memory or an unkillable thread: start me again
