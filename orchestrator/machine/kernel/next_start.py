"""When a workflow starts by itself the next time. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from orchestrator.definition.compiler.nodes import Schedule

if TYPE_CHECKING:
    from orchestrator.machine.kernel.step import Step

JsonObject = dict[str, Any]

START_LATER = "start-later"  # the kind of send (orchestrator/dispatch/effects.py)


def next_due_ms(schedule: Schedule, after_ms: int) -> int | None:
    """The first time after `after_ms`; None for one that does not repeat by itself.

    Only the schedule and the time count: whoever asks, the times are the same.
    """
    if schedule.every_ms is not None:
        return (after_ms // schedule.every_ms + 1) * schedule.every_ms
    if schedule.cron is None:
        return None
    moment = datetime.fromtimestamp(after_ms / 1000, UTC)
    found = schedule.cron.next_after(moment, ZoneInfo(schedule.zone))
    return None if found is None else round(found.timestamp() * 1000)


def started(step: Step, event: JsonObject) -> None:
    """A start that its schedule made sees to the next one. What was missed meanwhile is not made up
    for: the next one is after now."""
    schedule, due = _schedule(step), event.get("scheduled")
    if schedule is None or type(due) is not dict or type(due.get("due_ms")) is not int:
        return
    following = next_due_ms(schedule, max(due["due_ms"], step.now_ms))
    if following is not None:
        _send(step, schedule, following)


def ended(step: Step, status: str) -> None:
    """With `after`, an instance that ends sees to the next one; a cancelled one ends the row. One
    that was retried has done so when it faulted."""
    if "retries" in step.snapshot:
        return
    schedule = _schedule(step)
    if schedule is not None and schedule.after_ms is not None and status != "cancelled":
        _send(step, schedule, step.now_ms + schedule.after_ms)


def _schedule(step: Step) -> Schedule | None:
    return None if step.definition is None else step.definition.workflow.schedule


def _send(step: Step, schedule: Schedule, due_ms: int) -> None:
    names = {"namespace": step.snapshot["namespace"], "workflow": step.snapshot["workflow"]}
    step.send(START_LATER, {**names, "schedule": schedule.text, "due_ms": due_ms})
