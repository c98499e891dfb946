"""What `run: shell` and `run: script` have in common: a request, a process, its outcome."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from wf.authoring.context import Context
from wf.builtin.common.deferred_expressions import Request
from wf.builtin.programs import process
from wf.builtin.programs.command_line import Program, Refused, environment
from wf.builtin.programs.process import Ended, Missing, TooMuch
from wf.errors import ActivityError, NonRetryable
from wf.protocol import problem_details

JsonObject = dict[str, Any]

SHOWN = 1000  # characters of stderr in an error


async def outcome(
    request: Request,
    program: Program,
    context: Context,
    max_bytes: int,
    *,
    names: Sequence[str] | None,
    file: tuple[str, str] | None = None,
) -> Any:
    """Run the program; what `return` asks for. `names`: of the environment, that
    the definition may set; None: any.

    Raises ActivityError: for an exit status other than 0 too, unless `return` asks for that.
    """
    data = request.data
    variables = environment(data.get("environment") or {}, names)
    variables["WF_IDEMPOTENCY_KEY"] = context.idempotency_key
    try:
        ended = await process.run(
            program,
            stdin=_stdin(data.get("stdin")),
            variables=variables,
            max_bytes=max_bytes,
            file=file,
        )
    except TooMuch:
        raise NonRetryable(
            f"it wrote more than {max_bytes:,} bytes: have it write less, or raise max_output in"
            " pool.toml",
            type=problem_details.RUNTIME,
            title="Output too large",
            status=413,
        ) from None
    except Missing as error:
        raise not_possible(str(error)) from None
    return _returned(ended, data["return"])


def not_possible(detail: str) -> NonRetryable:
    """The definition, or this host's settings, ask for what cannot be."""
    return NonRetryable(
        detail, type=problem_details.CONFIGURATION, title="Run not possible", status=400
    )


def refused(refusal: Refused) -> NonRetryable:
    return not_possible(str(refusal))


def _stdin(value: Any) -> bytes:
    if value is None:
        return b""
    return value.encode() if isinstance(value, str) else orjson.dumps(value)


def _returned(ended: Ended, wanted: str) -> Any:
    if wanted == "code":
        return ended.code
    if wanted == "all":
        out, err = _text(ended.stdout, "stdout"), _text(ended.stderr, "stderr")
        return {"code": ended.code, "stdout": out, "stderr": err}
    if ended.code != 0:
        how = f"signal {-ended.code}" if ended.code < 0 else f"status {ended.code}"
        said = ended.stderr.decode(errors="replace").strip()[-SHOWN:]
        detail = f"it ended with {how}" + (f": {said}" if said else " and said nothing")
        raise ActivityError(detail, type=problem_details.RUNTIME, title=f"Exit {how}", status=500)
    if wanted == "none":
        return None
    return _text(getattr(ended, wanted), wanted)


def _text(written: bytes, what: str) -> str:
    try:
        return written.decode()
    except UnicodeDecodeError:
        raise NonRetryable(
            f"its {what} is no UTF-8 text: have it write base64",
            type=problem_details.RUNTIME,
            title="Output unusable",
        ) from None
