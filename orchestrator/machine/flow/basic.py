"""do, set, switch and raise: tasks that wait for nothing of their own."""

from __future__ import annotations

from typing import Any

from orchestrator.definition.compiler.nodes import Do, Raise, Set, Switch
from orchestrator.definition.compiler.problems import kind_of
from orchestrator.machine.flow import blocks, tasks
from orchestrator.machine.kernel.errors import Fault, expression_error, mended
from orchestrator.machine.kernel.handler import Handler
from orchestrator.machine.kernel.step import Child, Step


class DoHandler(Handler):
    """Frame: `child`, the block."""

    def enter(self, step: Step, frame: str, input: Any) -> None:
        body: Do = step.task(frame).body
        blocks.open_block(step, frame, body.block, input)

    def child_completed(self, step: Step, frame: str, child: Child, output: Any, then: str) -> None:
        tasks.complete(step, frame, output)


class SetHandler(Handler):
    """What is set replaces the output."""

    def enter(self, step: Step, frame: str, input: Any) -> None:
        body: Set = step.task(frame).body
        tasks.complete(step, frame, tasks.build_inside(step, frame, body.template, input))


class SwitchHandler(Handler):
    """The first case that matches says where to go; without one, the task's own `then`."""

    def enter(self, step: Step, frame: str, input: Any) -> None:
        task = step.task(frame)
        body: Switch = task.body
        for case in body.cases:
            if case.when is not None:
                scope = tasks.scope_inside(step, frame, input)
                met = step.evaluate(case.when, input, scope, task.pointer)
                if met is None or met is False:
                    continue
            tasks.complete(step, frame, input, case.then)
            return
        tasks.complete(step, frame, input)


class RaiseHandler(Handler):
    def enter(self, step: Step, frame: str, input: Any) -> None:
        task = step.task(frame)
        body: Raise = task.body
        error = tasks.build_inside(step, frame, body.error, input)
        if type(error) is not dict:
            detail = f"`raise.error` must give an error object, found {kind_of(error)}"
            raise Fault(expression_error(detail, task.pointer))
        place = error.get("instance")
        if type(place) is not str:
            place = task.pointer
        raise Fault(mended({"title": "Raised", **error}, place))
