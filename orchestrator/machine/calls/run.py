"""run: which handler serves which process."""

from __future__ import annotations

from typing import Any

from orchestrator.definition.compiler.nodes import Call, RunWorkflow
from orchestrator.machine.calls.call import CallHandler
from orchestrator.machine.calls.child_workflow import ChildHandler
from orchestrator.machine.kernel.errors import Fault
from orchestrator.machine.kernel.handler import Handler
from orchestrator.machine.kernel.step import Step

_HANDLERS: dict[type, Handler] = {Call: CallHandler(), RunWorkflow: ChildHandler()}


class RunHandler(Handler):
    """Passes everything on to the handler of the process that the task's body is."""

    def enter(self, step: Step, frame: str, input: Any) -> None:
        _of(step, frame).enter(step, frame, input)

    def timer_fired(self, step: Step, frame: str) -> None:
        _of(step, frame).timer_fired(step, frame)

    def run_succeeded(self, step: Step, frame: str, output: Any) -> None:
        _of(step, frame).run_succeeded(step, frame, output)

    def run_failed(self, step: Step, frame: str, fault: Fault) -> None:
        _of(step, frame).run_failed(step, frame, fault)

    def run_abandoned(self, step: Step, frame: str) -> None:
        _of(step, frame).run_abandoned(step, frame)

    def reopen(self, step: Step, frame: str, left_ms: int | None) -> None:
        _of(step, frame).reopen(step, frame, left_ms)


def _of(step: Step, frame: str) -> Handler:
    return _HANDLERS[type(step.task(frame).body)]
