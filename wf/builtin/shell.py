"""The activity behind `run: shell`."""

from __future__ import annotations

from typing import Any

from wf.activity import activity
from wf.builtin import configuration, programs
from wf.builtin.command_line import ANY, Refused, program, texts
from wf.builtin.deferred import Request, guarded
from wf.context import Context

JsonObject = dict[str, Any]


@activity(name="wf-shell")
async def shell(request: JsonObject, context: Context, deferred: JsonObject | None = None) -> Any:
    """One command of those that this host allows."""
    call = Request(request, deferred)
    return await guarded(call, _run(call, context))


async def _run(call: Request, context: Context) -> Any:
    call.fill()
    settings = configuration.settings().builtin.shell
    allowed = settings.commands
    try:
        command = program(call.data["command"], texts(call.data.get("arguments") or []), allowed)
        names = None if ANY in allowed else settings.environment
        return await programs.outcome(call, command, context, settings.max_output, names=names)
    except Refused as refusal:
        raise programs.refused(refusal) from None
