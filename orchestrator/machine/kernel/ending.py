"""How tasks and the instance end: the work of a step is run, and what fails or completes
decides.
"""

from __future__ import annotations

from typing import Any

from orchestrator.definition.compiler.nodes import Task
from orchestrator.machine.kernel import compensate, concurrency_slot, failed_frames
from orchestrator.machine.kernel.commands import (
    CancelTimer,
    Command,
    Dispatch,
    SetTimer,
    Transition,
)
from orchestrator.machine.kernel.errors import Fault, brief, runtime_error
from orchestrator.machine.kernel.finish import finish
from orchestrator.machine.kernel.handler import handler_of
from orchestrator.machine.kernel.scope import Scope
from orchestrator.machine.kernel.step import TERMINAL, JsonObject, Step


def run(step: Step) -> None:
    """Work until nothing is left to do before the next event."""
    left = step.limits.max_steps
    while (work := step.next_work()) is not None:
        left -= 1
        if left < 0:
            detail = (
                f"more than {step.limits.max_steps} steps without waiting for anything: "
                "look for a loop that has no call and no wait"
            )
            fault(step, runtime_error("Too many steps", detail, "/"), whole=True)
            left = step.limits.max_steps  # for what undoes the rest, if there is something
            continue
        frame, function, arguments = work
        if frame and frame not in step.frames:
            step.skip(frame)  # cancelled meanwhile
            continue
        try:
            function(step, frame, *arguments)
        except Fault as raised:
            failed(step, frame, raised)


def failed(step: Step, frame: str, raised: Fault) -> None:
    """A frame fails: it is closed, and what contains it decides."""
    if not frame:
        fault(step, raised.error, raised)
        return
    node = step.node(frame)
    step.faulted(frame, raised.error)
    if isinstance(node, Task):
        step.note("task.faulted", node, error=brief(raised.error))
    if compensate.settled(step, frame):
        return
    step.abandon(frame)
    child = step.close(frame, failed_frames.begin(raised, frame))
    parent: str = child.state["parent"]
    if not parent:
        fault(step, raised.error, raised)
    else:
        step.later(parent, handler_of(step, step.node(parent)).child_faulted, child, raised)


def fault(
    step: Step, error: JsonObject, raised: Fault | None = None, *, whole: bool = False
) -> None:
    """Fault the instance; `raised` is what came out of its tasks, if it did. What has been done
    is undone first, where the definition says how (compensate.py); of what undoes it only
    the part that fails is given up, unless the fault concerns the instance as a `whole`.
    Otherwise what is needed to go on after a `retry` stays, under `failed`."""
    if compensate.under_way(step.snapshot):
        (compensate.abort if whole else compensate.failed)(step, error)
        return
    if compensate.is_due(step, raised):
        compensate.begin(step, "faulted", {"error": error}, raised)
        return
    step.snapshot["error"] = error
    failed_frames.store(step, raised, step.interrupted())
    finish(step, "faulted", error=error)


def complete(step: Step, output: Any) -> None:
    """Complete the instance with the output of its last task."""
    if compensate.under_way(step.snapshot):
        compensate.completed(step)
        return
    if step.definition is not None:
        workflow = step.definition.workflow
        try:
            if workflow.output_as is not None:
                output = step.build(workflow.output_as, output, Scope(step, ""), "/output/as")
            step.validate(workflow.output_schema, output, "output", "/output/schema")
        except Fault as raised:
            fault(step, raised.error)
            return
    step.snapshot["output"] = output
    finish(step, "completed")


def transition(step: Step) -> Transition:
    """The outcome. A dispatch or a timer that was taken back within the step is left out."""
    status = step.snapshot["status"]
    if status not in TERMINAL and status != "suspended":
        _settle(step, active_status(step), status)
    set_here = {command.timer for command in step.commands if type(command) is SetTimer}
    kept = [command for command in step.commands if _stands(step, command, set_here)]
    return Transition(step.snapshot, kept, step.history)


def active_status(step: Step) -> str:
    """The status while it has not ended and is not suspended."""
    if compensate.under_way(step.snapshot):
        return compensate.COMPENSATING
    if concurrency_slot.is_waiting(step.snapshot):
        return "pending"
    return "running" if step.runs else "waiting"


def _settle(step: Step, status: str, before: str) -> None:
    step.snapshot["status"] = status
    if status != before:
        step.history.append({"type": f"instance.{status}", "status": status})


def _stands(step: Step, command: Command, set_here: set[int]) -> bool:
    if type(command) is Dispatch:
        return str(command.run) in step.runs
    if type(command) is SetTimer:
        return str(command.timer) in step.timers
    if type(command) is CancelTimer:
        return command.timer not in set_here
    return True
