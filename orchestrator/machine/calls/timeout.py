"""Deadlines that a definition states: timers that make the frame fail which is still there then."""

from __future__ import annotations

from orchestrator.definition.compiler.nodes import Task, Try
from orchestrator.machine.kernel.errors import TIMEOUT, Fault, error_object
from orchestrator.machine.kernel.step import Step

DEADLINE = "deadline"  # the key of a frame for its timer


def expired(step: Step, frame: str) -> None:
    """The deadline of this frame has fired, and is gone. Fails the frame, with what is below."""
    node = step.node(frame)
    if isinstance(node, Task):
        detail = "the task was not done within its timeout"
        place = node.pointer
    elif step.frames[frame]["parent"]:
        detail = "the attempt was not done within limit.attempt.duration"
        place = node.pointer.rpartition("/")[0]  # of the task that tries
    else:
        detail, place = "the workflow was not done within its timeout", "/"
    raise Fault(error_object(TIMEOUT, 408, "Timed out", detail, place))


def set_anew(step: Step, frame: str) -> None:
    """A frame that its deadline has failed is open again (`retry`): it gets the whole time once
    more, if that is a fixed one."""
    node = step.node(frame)
    timeout = None
    if isinstance(node, Task):
        timeout = node.timeout
    elif not step.frames[frame]["parent"]:
        timeout = step.definition.workflow.timeout if step.definition is not None else None
    else:
        around = step.node(step.frames[frame]["parent"])
        if isinstance(around, Task) and isinstance(around.body, Try) and around.body.retry:
            timeout = around.body.retry.attempt_duration
    if timeout is not None and timeout.template is None:
        step.set_timer(frame, timeout.ms, DEADLINE)
