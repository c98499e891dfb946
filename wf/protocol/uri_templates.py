"""URI templates (RFC 6570): what is one, and where its variables stand. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

OPERATORS = "+#./;?&"
_RESERVED = "=,!@|"  # operators that the RFC keeps for later
_VARIABLE = re.compile(
    r"(?:[A-Za-z0-9_]|%[0-9A-Fa-f]{2})(?:\.?(?:[A-Za-z0-9_]|%[0-9A-Fa-f]{2}))*"
    r"(?::[1-9][0-9]{0,3}|\*)?"
)
_MODIFIER = re.compile(r"(?::[0-9]+|\*)\Z")
_PART = re.compile(r"\{[^{}]*\}|[{}]|[^{}]+")
# What may not stand in a URI as it is; beyond ASCII the RFC lets texts be.
_NO_LITERAL = re.compile(r"[\x00-\x20\x7f\"<>\\^`|]|%(?![0-9A-Fa-f]{2})")
_REMEDY = "write `{name}` for a property of the task's input, or make the whole address ${ … }"


class Variable(NamedTuple):
    """One variable of an expression. `in_path`: it stands before the query and the fragment, so
    that without its value the URI would name something else."""

    name: str
    operator: str  # one of OPERATORS; empty for {name}
    in_path: bool


def problem(template: str) -> str | None:
    """Why the text is no URI template, with the remedy; None when it is one."""
    for part in _PART.findall(template):
        if part in ("{", "}"):
            return (
                f"a brace of the URI template has no partner: {_REMEDY}, and %7B or %7D for {part}"
            )
        if part[0] != "{":
            found = _NO_LITERAL.search(part)
            if found is not None:
                code = "".join(f"%{byte:02X}" for byte in found[0].encode())
                return f"{found[0]!r} cannot stand in a URI: write {code}"
        elif (why := _unusable(part[1:-1])) is not None:
            return f"`{part:.80}` is no expression of a URI template (RFC 6570): {why}"
    return None


def variables(template: str) -> Iterator[Variable]:
    """Those of a template without a problem, in order."""
    in_path = True
    for part in _PART.findall(template):
        if part[0] != "{":
            in_path = in_path and "?" not in part and "#" not in part
            continue
        operator = part[1] if part[1] in OPERATORS else ""
        in_path = in_path and operator not in ("?", "&", "#")
        for name in part[1 + len(operator) : -1].split(","):
            yield Variable(_MODIFIER.sub("", name), operator, in_path)


def _unusable(expression: str) -> str | None:
    if expression[:1] in OPERATORS and expression:
        expression = expression[1:]
    elif expression[:1] in _RESERVED and expression:
        return f"no operator `{expression[0]}` is defined: {_REMEDY}"
    if not expression:
        return f"it names no variable: {_REMEDY}"
    for name in expression.split(","):
        if not _VARIABLE.fullmatch(name):
            return f"`{name:.60}` is no name of a variable: {_REMEDY}"
    return None
