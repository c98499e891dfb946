"""What every task goes through: raw input → if → input.schema → input.from → its kind → output.as →
output.schema → export.as → export.schema."""

from __future__ import annotations

from typing import Any

from orchestrator.definition.compiler.nodes import Duration, Task
from orchestrator.machine.kernel import compensate
from orchestrator.machine.kernel.errors import Fault
from orchestrator.machine.kernel.handler import handler_of
from orchestrator.machine.kernel.scope import Scope
from orchestrator.machine.kernel.step import Step


def enter(step: Step, frame: str, raw: Any) -> None:
    """Begin the task of a new frame, or skip it."""
    step.entered(frame, raw)
    try:
        _enter(step, frame, raw)
    except Fault as fault:
        fault.raw = [raw]  # a retry begins with it
        raise


def _enter(step: Step, frame: str, raw: Any) -> None:
    task = step.task(frame)
    if task.condition is not None:
        scope = Scope(step, frame, task, raw=raw)
        met = step.evaluate(task.condition, raw, scope, task.pointer)
        if met is None or met is False:
            step.note("task.skipped", task)
            step.edit(frame)["skipped"] = True
            _leave(step, frame, raw, "continue")
            return
    step.note("task.started", task)
    if task.input_schema is not None:
        step.validate(task.input_schema, raw, "input", task.pointer)
    input = raw
    if task.input_from is not None:
        scope = Scope(step, frame, task, raw=raw)
        input = step.build(task.input_from, raw, scope, task.pointer)
    if task.keeps_raw:
        state = step.edit(frame)
        state["raw"] = raw
        state["started_ms"] = step.now_ms
    if task.keeps_input:
        step.edit(frame)["input"] = input
    if task.timeout is not None:
        _set_deadline(step, frame, task.timeout, raw)
    step.began(frame, input)
    handler_of(step, task).enter(step, frame, input)


def _set_deadline(step: Step, frame: str, timeout: Duration, raw: Any) -> None:
    task = step.task(frame)
    scope = Scope(step, frame, task, raw=raw)
    step.set_timer(frame, step.duration_ms(timeout, raw, scope, task.pointer), "deadline")


def scope_inside(step: Step, frame: str, input: Any, **more: Any) -> Scope:
    """What the expressions of a task's body see once it is entered."""
    state = step.frames[frame]
    return Scope(
        step,
        frame,
        step.task(frame),
        raw=state.get("raw"),
        input=input,
        started_ms=state.get("started_ms"),
        **more,
    )


def build_inside(step: Step, frame: str, template: Any, input: Any) -> Any:
    """A template of the body, while entering; the raw input is only kept when needed later."""
    task = step.task(frame)
    return step.build(template, input, scope_inside(step, frame, input), task.pointer)


def complete(step: Step, frame: str, output: Any, then: str | None = None) -> None:
    """End a task with its raw output. `then` overrides the task's own directive."""
    task = step.task(frame)
    if task.changes_output:
        output = _transform(step, frame, task, output)
    if task.compensate is not None:
        compensate.remember(step, frame, task, output)
    step.note("task.completed", task)
    _leave(step, frame, output, task.then if then is None else then)


def _transform(step: Step, frame: str, task: Task, output: Any) -> Any:
    scope = scope_inside(step, frame, step.frames[frame].get("input"), output=output)
    if task.output_as is not None:
        output = step.build(task.output_as, output, scope, task.pointer)
    step.validate(task.output_schema, output, "output", task.pointer)
    if task.export_as is not None:
        # $output is the transformed output, $task.output stays the raw one.
        scope.transformed = output
        exported = step.build(task.export_as, output, scope, task.pointer)
        step.validate(task.export_schema, exported, "export", task.pointer)
        step.set_context(frame, exported)
    elif task.export_schema is not None:  # without `as` the context stays what it is
        step.validate(task.export_schema, step.context(frame), "export", task.pointer)
    return output


def _leave(step: Step, frame: str, output: Any, then: str) -> None:
    if compensate.settled(step, frame):
        return
    child = step.close(frame)
    parent: str = child.state["parent"]
    step.left(frame, parent, output)
    step.later(parent, handler_of(step, step.node(parent)).child_completed, child, output, then)
