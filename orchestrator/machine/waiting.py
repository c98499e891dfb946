"""wait: a durable timer. Also: how long a duration is."""

from __future__ import annotations

from typing import Any

from orchestrator.definition import duration as durations
from orchestrator.definition.nodes import Duration, Wait
from orchestrator.machine import tasks
from orchestrator.machine.errors import Fault, expression_error
from orchestrator.machine.handler import Handler
from orchestrator.machine.scope import Scope
from orchestrator.machine.step import Step


class WaitHandler(Handler):
    """Frame: `timer`, and `data`, which is passed on."""

    def enter(self, step: Step, frame: str, input: Any) -> None:
        task = step.task(frame)
        body: Wait = task.body
        scope = tasks.scope_inside(step, frame, input)
        delay_ms = duration_ms(step, body.duration, input, scope, task.pointer)
        if delay_ms == 0:
            tasks.complete(step, frame, input)
            return
        step.edit(frame)["data"] = input
        step.set_timer(frame, delay_ms)

    def timer_fired(self, step: Step, frame: str) -> None:
        tasks.complete(step, frame, step.frames[frame]["data"])


def duration_ms(step: Step, duration: Duration, value: Any, scope: Scope, place: str) -> int:
    """Milliseconds; an expression that gives no duration is a Fault at `place`."""
    if duration.template is None:
        return duration.ms
    try:
        return durations.from_value(step.build(duration.template, value, scope, place))
    except durations.DurationError as error:
        raise Fault(expression_error(str(error), place)) from None
