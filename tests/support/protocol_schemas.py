"""docs/schemas/protocol-v1.json against what is really said: which body a subject has, and whether
it is one."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema_rs
import orjson

PATH = Path(__file__).resolve().parents[2] / "docs" / "schemas" / "protocol-v1.json"
DOCUMENT: dict[str, Any] = orjson.loads(PATH.read_bytes())
BODIES = (
    (r"workflow\.start\..+", "start"),
    (r"activity\.tasks\..+", "task"),
    (r"workflow\.activity\.completed\..+", "result"),
    (r"workflow\.command\.requested\..+", "command"),
    (r"workflow\.signal\.received\..+", "matched"),
    (r"workflow\.child\.completed\..+", "child"),
    (r"workflow\.timer\.(scheduled|fired)\.start\..+\..+", "schedule"),
    (r"workflow\.timer\.(scheduled|fired)\..+", "timer"),
    (r"workflow\.history\..+", "history"),
    (r"cloudevents\..+", "cloud_event"),
    (r"dead\..+", "dead_letter"),
    (r"\$KV\.WORKFLOW_STATES\.[^.]+", "state"),
    (r"\$KV\.WORKFLOW_LISTENERS\..+", "listener"),
    (r"\$KV\.WORKFLOW_PLACES\..+", "place"),
    (r"\$KV\.WORKFLOW_COLLECTIONS\..+", "collection"),
    (r"\$KV\.ACTIVITY_CATALOG\..+", "catalog"),
    (r"\$KV\.POOL_STATUS\.worker\..+", "worker"),
    (r"\$KV\.POOL_STATUS\..+", "pool_status"),
)


@cache
def validator(name: str) -> Any:
    schema = {"$ref": f"#/$defs/{name}", "$defs": DOCUMENT["$defs"]}
    return jsonschema_rs.validator_for(schema)


def body_of(subject: str, body: Any) -> str | None:
    """The name of the body that the subject has; None for a value of its own or a definition."""
    name = next((name for pattern, name in BODIES if re.fullmatch(pattern, subject)), None)
    if name == "matched" and isinstance(body, dict) and "cloud_event" not in body:
        return "signal"
    return name


def problem(subject: str, data: bytes) -> str | None:
    """What is wrong with a message, or None. A marker of a bucket, with no data, is none."""
    if not data:
        return None
    try:
        body = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        return f"{subject}: no JSON: {error}"
    name = body_of(subject, body)
    if name is None:
        return None
    if name == "state" and isinstance(body, dict) and "apart" in (body.get("commit") or ()):
        return None  # a snapshot is whole only with what is stored beside it
    try:
        wrong = next(iter(validator(name).iter_errors(body)), None)
    except ValueError as error:  # too many levels for the validator
        return f"{subject}: {name}: {error}"
    return None if wrong is None else f"{subject}: {name}: {wrong.message} at {wrong.instance_path}"
