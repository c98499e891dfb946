"""CloudEvents 1.0 as they travel on `cloudevents.>`: structured JSON. Pure.

The subject is the type, encoded by `wf.protocol.subjects.cloud_event`; a body whose type differs
from its
subject breaks the protocol.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from wf.errors import MessageError
from wf.protocol import gate, subjects

JsonObject = dict[str, Any]

KNOWN = (
    "id", "source", "type", "subject", "time", "datacontenttype", "dataschema", "specversion",
    "data",
)  # fmt: skip
REQUIRED = ("specversion", "id", "source", "type")
SPEC_VERSION = "1.0"
EVENT_DEPTH = gate.VALUE_DEPTH + 2  # its data is a value, and it is one itself to who listens
CONTENT_TYPE = "application/cloudevents+json"

NAME_RULE = "use 1 to 20 characters of a-z 0-9"

_NAME = re.compile(r"[a-z0-9]{1,20}\Z")
_TIME = re.compile(
    r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.\d+)?(?:[Zz]|[+-]\d\d:\d\d)\Z", re.ASCII
)  # RFC 3339


def is_attribute(name: str) -> bool:
    """True for the standard attributes, `data`, and names that an extension may have."""
    return _NAME.match(name) is not None


def wrong_with(name: str, value: Any) -> str | None:
    """What is wrong with an attribute's value; None when nothing is. `data` may be anything."""
    if name == "data":
        return None
    if name not in KNOWN:
        if type(value) in (str, bool) or (type(value) is int and -(2**31) <= value < 2**31):
            return None
        return "an extension attribute must be a string, true, false or an integer of 32 bits"
    if type(value) is not str or not value:
        return f"`{name}` must be a non-empty string"
    if name == "specversion" and value != SPEC_VERSION:
        return f"`specversion` must be '{SPEC_VERSION}'"
    if name == "type" and len(value) > subjects.MAX_TEXT:
        return f"`type` must have {subjects.MAX_TEXT} characters at most"
    if name == "time" and _TIME.match(value) is None:
        return "`time` must be a time such as 2026-01-31T12:00:00Z (RFC 3339)"
    return None


def check(event: JsonObject) -> JsonObject:
    """Return the event, or raise MessageError that says everything that is wrong with it."""
    wrong = [f"needs `{name}`" for name in REQUIRED if name not in event]
    for name, value in event.items():
        if name == "data_base64":
            continue
        if not is_attribute(name):
            wrong.append(f'"{name}" cannot name an attribute: {NAME_RULE}')
        elif (problem := wrong_with(name, value)) is not None:
            wrong.append(problem)
    if wrong:
        raise MessageError(f"not a CloudEvent: {'; '.join(wrong)}")
    return event


def read(subject: str, data: bytes, headers: Mapping[str, str] | None) -> JsonObject:
    """The event of a stored message: structured JSON, or the binary mode of the CloudEvents NATS
    binding (attributes as `ce-` headers, the data as the body). Raises MessageError."""
    binary = _binary(headers)
    if binary is not None:
        event = binary
        if data:
            event["data"] = _json(data)
    else:
        event = _json(data)
        if type(event) is not dict:
            raise MessageError("not a CloudEvent: the body must be a JSON object")
    check(event)
    type_ = subjects.cloud_event_type(subject)
    if event["type"] != type_:
        proper = subjects.cloud_event(event["type"])
        raise MessageError(f"an event of type {event['type']!r} belongs to the subject {proper}")
    return event


def _binary(headers: Mapping[str, str] | None) -> JsonObject | None:
    names = {name.lower(): value for name, value in (headers or {}).items()}
    if "ce-specversion" not in names:
        return None
    event: JsonObject = {
        name.removeprefix("ce-"): value for name, value in names.items() if name.startswith("ce-")
    }
    if "content-type" in names:
        event["datacontenttype"] = names["content-type"]
    return event


def _json(data: bytes) -> Any:
    return gate.decode(data, "not a CloudEvent", depth=EVENT_DEPTH)
