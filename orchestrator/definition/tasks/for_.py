"""The body of for: what it runs over, what it calls the items, how many at once."""

from __future__ import annotations

from typing import Any

from orchestrator.definition.compiler.compiler import (
    INSIDE,
    NOTHING,
    RESERVED,
    Compiler,
    Scope,
)
from orchestrator.definition.compiler.metadata import count
from orchestrator.definition.compiler.nodes import For
from orchestrator.definition.compiler.problems import kind_of

JsonObject = dict[str, Any]


def for_(
    compiler: Compiler, pointer: str, source: JsonObject, scope: Scope
) -> tuple[For, frozenset[str]] | None:
    """`for.each`, `in` and `at`, `while`, `do`, and `metadata.wf.concurrency`."""
    problems, place = compiler.problems, f"{pointer}/for"
    value = problems.mapping(place, source["for"], "`for`")
    if value is None:
        return None
    problems.keys(place, value, ("each", "in", "at"))
    each = variable(compiler, f"{place}/each", value.get("each", "item"))
    at = variable(compiler, f"{place}/at", value.get("at", "index"))
    if each == at:
        problems.add(place, f"`each` and `at` are both `{each}`: rename one")
    inner = scope.defining((each, at))
    condition = None
    if "while" in source:
        condition = compiler.condition(f"{pointer}/while", source["while"], INSIDE, inner)
    late = NOTHING if condition is None else frozenset(condition.variables)
    if "do" not in source:
        problems.add(pointer, "needs `do`: the list of tasks to run for each item")
        return None
    block = compiler.block(f"{pointer}/do", source["do"], inner)
    items = value.get("in")
    if "in" not in value:
        problems.add(place, "needs `in`: an expression that gives an array, such as `.items`")
        return None
    if type(items) is list:
        found = compiler.template(f"{place}/in", items, INSIDE, scope)
    elif type(items) is str and items:
        found = compiler.of_expression(f"{place}/in", items, INSIDE, scope)
    else:
        problems.add(f"{place}/in", f"must be an expression or an array, found {kind_of(items)}")
        return None
    body = For(found, each, at, condition, block, _concurrency(compiler, pointer, source))
    return body, (late & {"task", "input"}) | (found.variables & {"task"})


def _concurrency(compiler: Compiler, pointer: str, source: JsonObject) -> int | None:
    metadata = source.get("metadata")
    found = metadata.get("wf") if type(metadata) is dict else None
    if type(found) is not dict or "concurrency" not in found:
        return None
    place = f"{pointer}/metadata/wf/concurrency"
    return count(compiler.problems, place, found["concurrency"] or 0, "`concurrency`")


def variable(compiler: Compiler, pointer: str, name: Any, such_as: str = "item") -> str:
    """The name of a variable that a task defines, without `$`."""
    if type(name) is str and name.isidentifier() and name.isascii() and name not in RESERVED:
        return name
    compiler.problems.add(
        pointer,
        f"must be a variable name that is not taken, such as `{such_as}`, found {kind_of(name)}",
    )
    return such_as
