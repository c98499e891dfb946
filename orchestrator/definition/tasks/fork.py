"""The body of fork: branches that run side by side."""

from __future__ import annotations

from typing import Any

from orchestrator.definition.compiler.compiler import NOTHING, Compiler, Scope
from orchestrator.definition.compiler.nodes import Fork
from orchestrator.definition.compiler.problems import kind_of


def fork(
    compiler: Compiler, pointer: str, source: dict[str, Any], scope: Scope
) -> tuple[Fork, frozenset[str]] | None:
    """`fork.branches`, a list of named tasks, and `fork.compete`."""
    problems, place = compiler.problems, f"{pointer}/fork"
    value = problems.mapping(place, source["fork"], "`fork`")
    if value is None:
        return None
    problems.keys(place, value, ("branches", "compete"))
    compete = value.get("compete", False)
    if type(compete) is not bool:
        problems.add(f"{place}/compete", f"must be true or false, found {kind_of(compete)}")
    if "branches" not in value:
        problems.add(place, "needs `branches`: the list of tasks to run side by side")
        return None
    block = compiler.block(f"{place}/branches", value["branches"], scope, in_order=False)
    return Fork(block.tasks, compete is True), NOTHING
