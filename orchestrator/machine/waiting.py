"""wait: a durable timer."""

from __future__ import annotations

from typing import Any

from orchestrator.definition.nodes import Wait
from orchestrator.machine import tasks
from orchestrator.machine.handler import Handler
from orchestrator.machine.step import Step


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
