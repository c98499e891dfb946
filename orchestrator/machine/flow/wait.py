"""wait: a durable timer."""

from __future__ import annotations

from typing import Any

from orchestrator.definition.compiler.nodes import Wait
from orchestrator.machine.flow import tasks
from orchestrator.machine.kernel.handler import Handler
from orchestrator.machine.kernel.step import Step


class WaitHandler(Handler):
    """Frame: `timer`, and `data`, which is passed on."""

    def enter(self, step: Step, frame: str, input: Any) -> None:
        task = step.task(frame)
        body: Wait = task.body
        scope = tasks.scope_inside(step, frame, input)
        delay_ms = step.duration_ms(body.duration, input, scope, task.pointer)
        if delay_ms == 0:
            tasks.complete(step, frame, input)
            return
        step.edit(frame)["data"] = input
        step.set_timer(frame, delay_ms)

    def timer_fired(self, step: Step, frame: str) -> None:
        tasks.complete(step, frame, step.frames[frame]["data"])
