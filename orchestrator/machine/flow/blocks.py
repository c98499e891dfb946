"""Task lists: one task after the other, and the scope of `then`."""

from __future__ import annotations

from typing import Any

from orchestrator.machine.flow import tasks
from orchestrator.machine.kernel import ending
from orchestrator.machine.kernel.errors import runtime_error
from orchestrator.machine.kernel.handler import Handler, handler_of
from orchestrator.machine.kernel.step import Child, Step


class BlockHandler(Handler):
    """Frame: `at` (index of the task that runs) and `child` (its frame)."""

    def enter(self, step: Step, frame: str, input: Any) -> None:
        _go(step, frame, 0, input)

    def child_completed(self, step: Step, frame: str, child: Child, output: Any, then: str) -> None:
        block = step.block(frame)
        at: int = step.frames[frame]["at"]
        if then == "continue":
            target = at + 1
        elif then == "end":
            ending.complete(step, output)
            return
        else:
            target = block.positions.get(then, len(block.tasks))  # not there: `exit`
            if target <= at and not _may_jump(step, block.tasks[at].pointer):
                return
        if target < len(block.tasks):
            _go(step, frame, target, output)
        else:
            leave(step, frame, output)


def begin_at(step: Step, frame: str, at: int, data: Any) -> None:
    """Begin the task at index `at` of a list at which nothing is at work."""
    _go(step, frame, at, data)


def open_block(step: Step, parent: str, block: Any, input: Any) -> str:
    """Begin a block inside of a task's frame; its own frame."""
    frame = step.open(block, parent)
    step.edit(parent)["child"] = frame
    step.later(frame, handler_of(step, block).enter, input)
    return frame


def leave(step: Step, frame: str, output: Any) -> None:
    """End a block: its task goes on, or the workflow completes."""
    child = step.close(frame)
    parent: str = child.state["parent"]
    if not parent:
        ending.complete(step, output)
        return
    step.edit(parent).pop("child", None)
    step.later(
        parent, handler_of(step, step.node(parent)).child_completed, child, output, "continue"
    )


def _go(step: Step, frame: str, at: int, data: Any) -> None:
    task = step.block(frame).tasks[at]
    child = step.open(task, frame)
    state = step.edit(frame)
    state["at"] = at
    state["child"] = child
    step.later(child, tasks.enter, data)


def _may_jump(step: Step, place: str) -> bool:
    """Count a jump backwards; past the limit the instance faults, so that no `try` goes on."""
    if step.count("jumps") <= step.limits.max_jumps:
        return True
    detail = f"more than {step.limits.max_jumps} jumps backwards: look for an endless loop"
    ending.fault(step, runtime_error("Too many jumps", detail, place))
    return False
