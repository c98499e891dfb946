"""How an instance begins: its input, its deadline, its first task."""

from __future__ import annotations

from typing import Any

from orchestrator.definition import Definition
from orchestrator.machine.kernel import ending
from orchestrator.machine.kernel.errors import Fault
from orchestrator.machine.kernel.handler import handler_of
from orchestrator.machine.kernel.scope import Scope
from orchestrator.machine.kernel.step import Step


def check_input(step: Step, definition: Definition) -> None:
    """Raises Fault when the input does not fit `input.schema`."""
    raw = step.snapshot["input"]
    step.validate(definition.workflow.input_schema, raw, "input", "/input/schema")


def begin(step: Step, definition: Definition, *, checked: bool = False) -> None:
    """Queue the first task; or fault. `checked`: `check_input` has been called."""
    step.snapshot["status"] = "running"
    step.history.append({"type": "instance.started", "status": "running"})
    root = definition.workflow.block
    try:
        if not checked:
            check_input(step, definition)
        input = _input(step, definition)
        frame = step.open(root, "")
        _set_deadline(step, definition, frame)
    except Fault as fault:
        ending.fault(step, fault.error)
        return
    step.later(frame, handler_of(step, root).enter, input)


def _input(step: Step, definition: Definition) -> Any:
    raw = step.snapshot["input"]
    transform = definition.workflow.input_from
    if transform is None:
        return raw
    return step.build(transform, raw, Scope(step, ""), "/input/from")


def _set_deadline(step: Step, definition: Definition, frame: str) -> None:
    """The workflow's timeout; its root frame is what fails then."""
    timeout = definition.workflow.timeout
    if timeout is not None:
        raw = step.snapshot["input"]
        limit_ms = step.duration_ms(timeout, raw, Scope(step, ""), "/timeout/after")
        step.set_timer(frame, limit_ms, "deadline")
