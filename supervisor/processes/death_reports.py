"""Deaths of workers that had started tasks: kept until the monitor has reported every one.

The supervisor has no connection to the broker, so it copies what the dead worker's slot says and
gives it to the monitor. The copy stays here until the monitor confirms it: when the monitor dies
as well, its successor gets it again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson
from loguru import logger

from supervisor.policy.restart import Cause
from supervisor.processes.process import Process, describe
from wf.process.status_page import SlotTask

LIMIT = 1000  # unreported deaths; the oldest are then left to ack_wait
DUMP_CHARACTERS = 8000
CHUNK = 500  # tasks of one message

# Ends that say nothing against the tasks: we wanted them.
_WANTED = frozenset({Cause.OPERATOR, Cause.RECYCLE, Cause.BOOT})


class Deaths:
    """What the monitor has still to report."""

    def __init__(self) -> None:
        self.pending: dict[int, bytes] = {}
        self._told: dict[int, int] = {}  # death → pid of the monitor that was told
        self._last = 0

    def record(
        self, process: Process, cause: Cause, status: int, peak_bytes: int, now: float
    ) -> None:
        """A process has ended. Its slot must still be readable."""
        tasks = process.tasks() if process.spec.is_worker else []
        if not tasks:
            return
        facts = self._facts(process, cause, status, peak_bytes, now)
        for message in _messages(facts, tasks):
            self._last += 1
            self.pending[self._last] = orjson.dumps({**message, "death": self._last})
        running = [task.sequence for task in tasks if task.runs]
        logger.bind(
            child=process.spec.name, child_pid=process.pid, cause=cause.value, running=running[:20]
        ).warning("worker.died.with.tasks")
        while len(self.pending) > LIMIT:
            oldest = next(iter(self.pending))
            self._forget(oldest)
            logger.bind(death=oldest).error("death.unreported")

    def _facts(
        self, process: Process, cause: Cause, status: int, peak_bytes: int, now: float
    ) -> dict[str, Any]:
        settings = process.spec.settings
        assert settings is not None, "a worker has the settings of its pool"
        header = process.header()
        return {
            "event": "death",
            "child": process.spec.name,
            "pool": process.spec.pool,
            "pid": process.pid,
            "cause": cause.value,
            "wanted": cause in _WANTED,
            "how": describe(status),
            "exit_status": status if status >= 0 else None,
            "signal": describe(status) if status < 0 else None,
            "reason": process.failure[1] if process.failure else None,
            "peak_bytes": peak_bytes,
            "dump": process.dump()[-DUMP_CHARACTERS:],
            "died_s": now,
            "alive_s": now if header is None else header.tick_s,
            "ack_wait_s": settings.ack_wait,
            "crash_limit": settings.crash_limit,
        }

    def deliver(self, monitor: Process) -> None:
        """Tell the monitor what it was not told yet."""
        for death, message in self.pending.items():
            if self._told.get(death) != monitor.pid:
                self._told[death] = monitor.pid
                monitor.send(message)
        monitor.flush()

    def settled(self, death: object) -> None:
        """The monitor has reported it."""
        if isinstance(death, int):
            self._forget(death)

    def _forget(self, death: int) -> None:
        self.pending.pop(death, None)
        self._told.pop(death, None)


def _messages(facts: dict[str, Any], tasks: list[SlotTask]) -> Iterator[dict[str, Any]]:
    """The same facts with some of the tasks each; `running` counts them all."""
    running = sum(1 for task in tasks if task.runs)
    for begin in range(0, len(tasks), CHUNK):
        chunk = [
            {
                "sequence": task.sequence,
                "reply": task.reply,
                "started_s": task.started_s,
                "deadline_s": task.deadline_s,
                "ended": task.ended,
            }
            for task in tasks[begin : begin + CHUNK]
        ]
        yield {**facts, "running": running, "tasks": chunk}
