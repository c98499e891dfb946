"""fork: branches side by side, joined when all have ended, or won by the first."""

from __future__ import annotations

from typing import Any

from orchestrator.definition.compiler.nodes import Fork
from orchestrator.machine.flow import branches, tasks
from orchestrator.machine.kernel import ending
from orchestrator.machine.kernel.errors import Fault
from orchestrator.machine.kernel.handler import Handler
from orchestrator.machine.kernel.step import Child, Step


class ForkHandler(Handler):
    """Frame: `children` (the branches' frames in order of declaration, never changed), `left`
    (how many are open), and when they compete the `error` of the last one that failed."""

    def enter(self, step: Step, frame: str, input: Any) -> None:
        body: Fork = step.task(frame).body
        children = [branches.open_branch(step, task, frame) for task in body.branches]
        step.edit(frame).update(children=children, left=len(children))
        for child in children:
            step.later(child, tasks.enter, input)

    def child_completed(self, step: Step, frame: str, child: Child, output: Any, then: str) -> None:
        body: Fork = step.task(frame).body
        if then == "end":
            ending.complete(step, output)
        elif not body.compete:
            branches.keep(step, child, output)
            if _one_less(step, frame) == 0:
                children = step.frames[frame]["children"]
                output = branches.join(step, frame, children)
                tasks.complete(step, frame, step.composed(output, step.task(frame).pointer))
        elif not child.state.get("skipped"):
            _won(step, frame, child, output)
        elif _one_less(step, frame) == 0:
            _nobody_won(step, frame, output)

    def child_faulted(self, step: Step, frame: str, child: Child, fault: Fault) -> None:
        body: Fork = step.task(frame).body
        if not body.compete:
            raise fault
        step.edit(frame)["error"] = {"error": fault.error, "retryable": fault.retryable}
        if _one_less(step, frame) == 0:
            raise fault

    def reopen(self, step: Step, frame: str, left_ms: int | None) -> None:
        """Of competing branches the last one has failed, and was counted so: it is open again."""
        children = [step.frames.get(child) for child in step.frames[frame]["children"]]
        open_now = [state for state in children if state is not None and "ended" not in state]
        step.edit(frame)["left"] = len(open_now)


def _one_less(step: Step, frame: str) -> int:
    state = step.edit(frame)
    left: int = state["left"] - 1
    state["left"] = left
    return left


def _won(step: Step, frame: str, child: Child, output: Any) -> None:
    """The first to complete: the others are cancelled, and only its exports count."""
    for other in step.frames[frame]["children"]:
        step.cancel(other)
    if "context" in child.state:
        step.set_context(frame, child.state["context"])
    tasks.complete(step, frame, output)


def _nobody_won(step: Step, frame: str, output: Any) -> None:
    """The last branch that was open was skipped: those that ran have failed, or none has run."""
    error = step.frames[frame].get("error")
    if error is not None:
        raise Fault(error["error"], error["retryable"])
    tasks.complete(step, frame, output)
