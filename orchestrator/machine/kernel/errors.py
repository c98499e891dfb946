"""RFC 7807 error objects of the DSL: made, mended and matched."""

from __future__ import annotations

import re
from typing import Any

JsonObject = dict[str, Any]

PREFIX = "https://open-workflow-specification.org/spec/1.0.0/errors/"
# The forms that the specification used before it was renamed, its examples' variants included.
_OLD = re.compile(
    r"https?://(?:www\.)?(?:serverlessworkflow\.io(?:\.io)?|open-workflow-specification\.org)"
    r"/(?:spec/[0-9.]+|dsl)/errors/(?:types/)?([a-z]+)/?\Z"
)

CONFIGURATION = f"{PREFIX}configuration"
VALIDATION = f"{PREFIX}validation"
EXPRESSION = f"{PREFIX}expression"
TIMEOUT = f"{PREFIX}timeout"
RUNTIME = f"{PREFIX}runtime"


class Fault(Exception):
    """A task fails with `error`. `retryable` is False when another attempt cannot mend it.

    On its way out it collects in `kept` what it closes (orchestrator/machine/control/retry.py);
    `raw` is there, in a list,
    when the task failed while it was entered with that.
    """

    def __init__(self, error: JsonObject, retryable: bool = True, *, forget: bool = False) -> None:
        """`forget`: what fails is too large to be kept for a retry."""
        super().__init__(error.get("detail") or error.get("title"))
        self.error = error
        self.retryable = retryable
        self.forget = forget
        self.raw: list[Any] | None = None
        self.kept: JsonObject | None = None


def error_object(type_: str, status: int, title: str, detail: str, instance: str) -> JsonObject:
    return {
        "type": type_,
        "status": status,
        "title": title,
        "detail": detail,
        "instance": instance,
    }


def expression_error(detail: str, instance: str) -> JsonObject:
    return error_object(EXPRESSION, 400, "Expression failed", detail, instance)


def validation_error(what: str, problem: str, instance: str) -> JsonObject:
    """`what` names the section: input, output or export."""
    return error_object(VALIDATION, 400, "Validation failed", f"{what}.schema: {problem}", instance)


def runtime_error(title: str, detail: str, instance: str) -> JsonObject:
    return error_object(RUNTIME, 500, title, detail, instance)


def mended(error: Any, place: str, **overrides: Any) -> JsonObject:
    """`error` as an error object, whatever it is: type, status, title and instance always there.

    `instance` is `place`, the pointer of the task that failed.
    """
    given: JsonObject = dict(error) if type(error) is dict else {"detail": f"{error!s:.1000}"}
    given.update(overrides)
    type_, status, title = given.get("type"), given.get("status"), given.get("title")
    return {
        **given,
        "type": type_ if type(type_) is str and type_ else RUNTIME,
        "status": status if type(status) is int else 500,
        "title": title if type(title) is str else "Activity failed",
        "instance": place,
    }


def brief(error: JsonObject) -> JsonObject:
    """What history keeps of an error on its way; the whole of it is in the event or at the end."""
    detail = error.get("detail")
    kept: JsonObject = {
        key: error[key] for key in ("type", "status", "title", "instance") if key in error
    }
    if type(detail) is str:
        kept["detail"] = detail[:200]
    return kept


def canonical_type(type_: Any) -> Any:
    """The current form of a standard error type; anything else as it is."""
    if type(type_) is not str:
        return type_
    match = _OLD.match(type_)
    return PREFIX + match.group(1) if match else type_


def matches(wanted: JsonObject, error: JsonObject) -> bool:
    """True when the error has every wanted property; old and new type names are equal."""
    for key, value in wanted.items():
        found = error.get(key)
        if key == "type":
            if canonical_type(found) != canonical_type(value):
                return False
        elif type(found) is not type(value) or found != value:
            return False
    return True
