"""emit: a CloudEvent, published through the outbox; its output is the event."""

from __future__ import annotations

from typing import Any

from orchestrator.definition.compiler.nodes import Emit
from orchestrator.machine.flow import tasks
from orchestrator.machine.kernel.errors import VALIDATION, Fault, error_object
from orchestrator.machine.kernel.handler import Handler
from orchestrator.machine.kernel.scope import moment
from orchestrator.machine.kernel.step import Step
from wf.protocol import cloudevents

JsonObject = dict[str, Any]

EMIT = "emit"  # the kind of what is sent; its body is {"event": …}


class EmitHandler(Handler):
    """What the definition leaves out is filled in without a clock or chance: `id` is the
    instance's id and how many events it has emitted, `source` the workflow, `time` now."""

    def enter(self, step: Step, frame: str, input: Any) -> None:
        task = step.task(frame)
        body: Emit = task.body
        given = {
            name: tasks.build_inside(step, frame, template, input)
            for name, template in body.properties
        }
        for name, value in given.items():
            wrong = cloudevents.wrong_with(name, value)
            if wrong is not None:
                raise Fault(error_object(VALIDATION, 400, "Event refused", wrong, task.pointer))
        snapshot = step.snapshot
        number = step.count("last_event")
        event: JsonObject = {
            "specversion": cloudevents.SPEC_VERSION,
            "id": f"{snapshot['id']}:{number}",
            "source": source_of(snapshot),
            "time": moment(step.now_ms)["iso8601"],
            **given,
        }
        step.composed(event, task.pointer)
        step.send(EMIT, {"event": event})
        step.note("event.emitted", task, event=event["id"], event_type=event["type"])
        tasks.complete(step, frame, event)


def source_of(snapshot: JsonObject) -> str:
    """The `source` of events that the definition gives none: a URI reference of the workflow."""
    return f"/workflows/{snapshot['namespace']}/{snapshot['workflow']}"
