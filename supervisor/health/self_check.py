"""What systemd may count on: whether we still do our work, and how long it may take yet. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from supervisor.processes.process import STARTING, Process
from supervisor.processes.seat import Place

OVERDUE_S = 10.0  # the loop turns at least once a second
SPARE_S = 10.0  # for reaping and for the next step, beyond what a process may take


def overdue(processes: Iterable[Process], engine: Collection[Place], now: float) -> str | None:
    """What we should have done long ago and have not; None while we are healthy.

    Trouble of our children is none of it: that is handled here, within its own time limits, and
    a restart of everything would only add to it. `engine`: the places that may be filled now.
    """
    for process in processes:
        name = process.spec.name
        if process.stop_deadline is not None and now > process.stop_deadline + OVERDUE_S:
            return f"{name} is past its grace and was not killed"
        if process.state == STARTING and now > process.boot_deadline + OVERDUE_S:
            return f"{name} is past its boot timeout and was not killed"
    for place in engine:
        if place.state() == "waiting" and now > place.next_start + OVERDUE_S:
            return f"{place.spec.name} is to be started and was not"
    return None


def busy_until(processes: Iterable[Process]) -> float:
    """When what starts and what drains is over at the latest, in monotonic seconds; 0: nothing is.

    It moves only with what happens: a process was started, or told to leave. One that was killed
    and does not end is nothing to wait for.
    """
    limits = (
        process.boot_deadline if process.state == STARTING else process.stop_deadline
        for process in processes
        if not process.killed
    )
    return max((limit for limit in limits if limit is not None), default=0.0)
