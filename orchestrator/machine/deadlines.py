"""Deadlines that a definition states: timers that make the frame fail which is still there then."""

from __future__ import annotations

from orchestrator.definition.nodes import Task
from orchestrator.machine.errors import TIMEOUT, Fault, error_object
from orchestrator.machine.step import Step

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
