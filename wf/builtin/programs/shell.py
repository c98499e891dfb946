"""The activity behind `run: shell`."""

from __future__ import annotations

from typing import Any

from wf.authoring.activity import activity
from wf.authoring.context import Context
from wf.builtin.common import settings as configuration
from wf.builtin.common.deferred_expressions import Request, guarded
from wf.builtin.programs import run
from wf.builtin.programs.command_line import ANY, Refused, program, texts

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
        return await run.outcome(call, command, context, settings.max_output, names=names)
    except Refused as refusal:
        raise run.refused(refusal) from None
