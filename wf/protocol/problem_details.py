"""Exceptions as RFC 7807 error objects, of the types that the workflow specification names."""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

from wf.errors import ActivityError
from wf.protocol import gate
from wf.protocol.messages import JsonObject

BASE = "https://open-workflow-specification.org/spec/1.0.0/errors/"
VALIDATION = BASE + "validation"
RUNTIME = BASE + "runtime"
TIMEOUT = BASE + "timeout"
COMMUNICATION = BASE + "communication"
CONFIGURATION = BASE + "configuration"
EXPRESSION = BASE + "expression"
AUTHENTICATION = BASE + "authentication"
AUTHORIZATION = BASE + "authorization"

TRACEBACK_LIMIT = 4_000  # characters
DETAIL_LIMIT = 4_000
NAME_LIMIT = 500  # of a type and a title


def problem(*, type: str, status: int, title: str, detail: str) -> JsonObject:
    """An error object of texts that can be stored and shown, with a bounded detail."""
    return {
        "type": gate.text(type, NAME_LIMIT),
        "status": status,
        "title": gate.text(title, NAME_LIMIT),
        "detail": gate.text(detail, DETAIL_LIMIT),
    }


def of_exception(error: BaseException, *, inside: str | None = None) -> JsonObject:
    """The error object of what an activity raised, with its traceback. Never raises.

    An ActivityError chooses type, title and status; anything else is a `runtime` error of status
    500 with its class name as title. `inside`: path of the file whose frames open the traceback;
    the framework's own frames before it are left out.
    """
    name = _said(lambda: type(error).__name__) or "Exception"
    body = problem(type=RUNTIME, status=500, title=name, detail=gate.text(error) or name)
    if isinstance(error, ActivityError):
        body |= _chosen(error)
    body["traceback"] = _said(lambda: trimmed_traceback(error, inside))
    return body


def _chosen(error: ActivityError) -> JsonObject:
    """What an ActivityError says of itself; a subclass may have left any of it out."""
    chosen = {
        "type": _said(lambda: gate.text(error.type or "", NAME_LIMIT)),
        "title": _said(lambda: gate.text(error.title or "", NAME_LIMIT)),
        "detail": _said(lambda: gate.text(error.detail, DETAIL_LIMIT)),
    }
    body: JsonObject = {key: said for key, said in chosen.items() if said}
    status = _said(lambda: error.status)
    if type(status) is int and 100 <= status <= 599:
        body["status"] = status
    after_s = _said(lambda: error.retry_after_s)
    if type(after_s) in (int, float) and 0 <= after_s < math.inf:
        body["retry_after_s"] = after_s
    return body


def _said(ask: Callable[[], Any]) -> Any:
    """The answer of user code; "" when it fails itself: the outcome is reported anyway."""
    try:
        return ask()
    except Exception:  # noqa: BLE001 - attributes and texts of an exception may be code of others
        return ""


def trimmed_traceback(error: BaseException, inside: str | None) -> str:
    """The formatted traceback from the first frame in `inside` on, its end kept when too long."""
    start = error.__traceback__
    for link in _links(start):
        if inside is not None and link.tb_frame.f_code.co_filename == inside:
            start = link
            break
    lines = traceback.format_exception(type(error), error, start)
    return _end_of("".join(lines).rstrip("\n"))


def _end_of(text: str) -> str:
    if len(text) > TRACEBACK_LIMIT:
        text = "…" + text[-(TRACEBACK_LIMIT - 1) :]
    return gate.text(text, 2 * TRACEBACK_LIMIT)


def waiting_at(frame: FrameType | None) -> str:
    """Where a frame stands, as a traceback text: what a thread was doing when its time was up."""
    if frame is None:
        return ""
    return _end_of("".join(traceback.format_stack(frame)).rstrip("\n"))


def _links(start: TracebackType | None) -> list[TracebackType]:
    links = []
    while start is not None:
        links.append(start)
        start = start.tb_next
    return links
