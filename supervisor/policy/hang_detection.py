"""Stuck processes: which kinds there are, and how each is told from its slot. Pure.

Three kinds, told apart because their causes differ: a loop that stopped turning (blocking code in
an `async def`, a stopped process), a task past its deadline that nothing ended, and a worker that
takes nothing although tasks wait.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from wf.process.status_page import Header, Phase, SlotTask

LOOK_S = 1.0  # how often the slots are looked at
DEADLINE_MARGIN_S = 10.0  # a worker that still works has ended or reported the task by then
BLOCKED_MARGIN_S = 3.0  # the same when its loop has not turned since the deadline either


class Kind(StrEnum):
    """The names that logs, status and metrics use."""

    LOOP = "loop-stopped"
    OVERDUE = "task-overdue"
    IDLE = "pulls-nothing"


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with a process, and in words."""

    kind: Kind
    text: str


@dataclass(slots=True)
class Seen:
    """What was last seen of a process. Time in which we did not look ourselves does not count:
    a host that slept, or a supervisor that was stopped, must not condemn everybody."""

    looked_at: float | None = None
    tick_s: float = 0.0
    still_s: float = 0.0  # how long the loop has been seen not to turn
    starved_s: float = 0.0  # how long it has been seen to take nothing, though tasks wait


def look(
    seen: Seen,
    header: Header,
    tasks: Sequence[SlotTask],
    now: float,
    *,
    hang_s: float,
    starving: bool = False,
    starved_limit_s: float = 0.0,
) -> Finding | None:
    """Take in what the slot says now, and say what is wrong; `seen` is brought up to date.

    `starving`: tasks wait that this worker could take, and it has room. `starved_limit_s`: how long
    that may be; 0.0 for ever.
    """
    passed_s = 0.0 if seen.looked_at is None else min(now - seen.looked_at, 2 * LOOK_S)
    seen.looked_at = now
    turned = header.tick_s != seen.tick_s
    seen.tick_s = header.tick_s
    seen.still_s = 0.0 if turned else seen.still_s + passed_s
    idle = starving and header.held == 0 and header.taken_s < now - passed_s - LOOK_S
    seen.starved_s = seen.starved_s + passed_s if idle else 0.0
    if header.phase is not Phase.RUNNING:
        return None
    if (overdue := _overdue(seen, tasks, now)) is not None:
        return overdue
    if seen.still_s >= hang_s:
        return Finding(Kind.LOOP, f"its event loop has not turned for {seen.still_s:.1f} s")
    if starved_limit_s and seen.starved_s >= starved_limit_s:
        return Finding(
            Kind.IDLE, f"it has taken nothing for {seen.starved_s:.0f} s although tasks wait"
        )
    return None


def _overdue(seen: Seen, tasks: Sequence[SlotTask], now: float) -> Finding | None:
    margin_s = BLOCKED_MARGIN_S if seen.still_s >= BLOCKED_MARGIN_S else DEADLINE_MARGIN_S
    for task in tasks:
        if task.runs and now > task.deadline_s + margin_s:
            return Finding(
                Kind.OVERDUE,
                f"its task {task.sequence} is {now - task.deadline_s:.1f} s past its deadline",
            )
    return None
