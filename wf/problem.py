"""Exceptions as RFC 7807 error objects, of the types that the workflow specification names."""

from __future__ import annotations

import traceback
from types import FrameType, TracebackType

from wf.errors import ActivityError
from wf.messages import JsonObject

BASE = "https://open-workflow-specification.org/spec/1.0.0/errors/"
VALIDATION = BASE + "validation"
RUNTIME = BASE + "runtime"
TIMEOUT = BASE + "timeout"
COMMUNICATION = BASE + "communication"
CONFIGURATION = BASE + "configuration"
EXPRESSION = BASE + "expression"
AUTHENTICATION = BASE + "authentication"

TRACEBACK_LIMIT = 4_000  # characters
DETAIL_LIMIT = 4_000


def problem(*, type: str, status: int, title: str, detail: str) -> JsonObject:
    """An error object with a bounded detail."""
    if len(detail) > DETAIL_LIMIT:
        detail = detail[: DETAIL_LIMIT - 1] + "…"
    return {"type": type, "status": status, "title": title, "detail": detail}


def of_exception(error: BaseException, *, inside: str | None = None) -> JsonObject:
    """The error object of what an activity raised, with its traceback.

    An ActivityError chooses type, title and status; anything else is a `runtime` error of status
    500 with its class name as title. `inside`: path of the file whose frames open the traceback;
    the framework's own frames before it are left out.
    """
    name = type(error).__name__
    if isinstance(error, ActivityError):
        body = problem(
            type=error.type or RUNTIME,
            status=error.status,
            title=error.title or name,
            detail=error.detail,
        )
    else:
        body = problem(type=RUNTIME, status=500, title=name, detail=_text(error))
    body["traceback"] = trimmed_traceback(error, inside)
    return body


def trimmed_traceback(error: BaseException, inside: str | None) -> str:
    """The formatted traceback from the first frame in `inside` on, its end kept when too long."""
    start = error.__traceback__
    for link in _links(start):
        if inside is not None and link.tb_frame.f_code.co_filename == inside:
            start = link
            break
    lines = traceback.format_exception(type(error), error, start)
    text = "".join(lines).rstrip("\n")
    if len(text) > TRACEBACK_LIMIT:
        text = "…" + text[-(TRACEBACK_LIMIT - 1) :]
    return text


def waiting_at(frame: FrameType | None) -> str:
    """Where a frame stands, as a traceback text: what a thread was doing when its time was up."""
    if frame is None:
        return ""
    return "".join(traceback.format_stack(frame)).rstrip("\n")[-TRACEBACK_LIMIT:]


def _links(start: TracebackType | None) -> list[TracebackType]:
    links = []
    while start is not None:
        links.append(start)
        start = start.tb_next
    return links


def _text(error: BaseException) -> str:
    """`str(error)`, even of an exception whose own __str__ raises."""
    try:
        return str(error) or type(error).__name__
    except Exception as fault:  # noqa: BLE001 - user code; the outcome must be reported anyway
        return f"{type(error).__name__} (its __str__ raised {type(fault).__name__})"
