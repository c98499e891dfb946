"""The activity behind `run: script`."""

from __future__ import annotations

from typing import Any

from wf.authoring.activity import activity
from wf.authoring.context import Context
from wf.builtin.common import settings as configuration
from wf.builtin.common.deferred_expressions import Request, guarded
from wf.builtin.programs import run
from wf.builtin.programs.command_line import Program, Refused, texts

JsonObject = dict[str, Any]

FILES = {"js": "script.js", "python": "script.py"}


@activity(name="wf-script")
async def script(request: JsonObject, context: Context, deferred: JsonObject | None = None) -> Any:
    """One script, by the interpreter that this host has for its language."""
    call = Request(request, deferred)
    return await guarded(call, _run(call, context))


async def _run(call: Request, context: Context) -> Any:
    call.fill()
    settings = configuration.settings().builtin.script
    language, code = call.data["language"], call.data["code"]
    interpreter: str | None = getattr(settings, language)
    if interpreter is None:
        raise run.not_possible(
            f"no interpreter for {language} is allowed on this host: name its path in"
            f" [builtin.script] {language} in pool.toml"
        )
    if not isinstance(code, str):
        raise run.not_possible("`code` must give a text")
    try:
        command = Program(interpreter, texts(call.data.get("arguments") or []))
        return await run.outcome(
            call, command, context, settings.max_output, names=None, file=(FILES[language], code)
        )
    except Refused as refusal:
        raise run.refused(refusal) from None
