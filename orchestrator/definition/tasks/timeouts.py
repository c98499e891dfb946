"""`timeout` of tasks and of the workflow."""

from __future__ import annotations

from typing import Any

from orchestrator.definition.compiler.compiler import Compiler, Scope
from orchestrator.definition.compiler.nodes import Duration
from orchestrator.definition.compiler.problems import escape, kind_of


def timeout(
    compiler: Compiler, pointer: str, source: dict[str, Any], known: frozenset[str], scope: Scope
) -> Duration | None:
    """`timeout: {after: …}`, or the name of one in `use.timeouts`; None when there is none."""
    if "timeout" not in source:
        return None
    value, place = source["timeout"], f"{pointer}/timeout"
    if type(value) is str:
        if value not in compiler.timeouts:
            remedy = compiler.problems.meant(value, compiler.timeouts)
            hint = remedy or ": write {after: …}"
            compiler.problems.add(place, f'no timeout "{value}" in `use.timeouts`{hint}')
            return None
        place = f"/use/timeouts/{escape(value)}"
        value = compiler.timeouts[value]
        compiler.used.add(place)
    return timeout_body(compiler, place, value, known, scope)


def timeout_body(
    compiler: Compiler, place: str, value: Any, known: frozenset[str], scope: Scope
) -> Duration | None:
    problems = compiler.problems
    if type(value) is not dict:
        found = kind_of(value)
        problems.add(place, f"must be {{after: <duration>}} or a name, found {found}")
        return None
    problems.keys(place, value, ("after",))
    if "after" not in value:
        problems.add(place, "needs `after`: a duration such as PT30S")
        return None
    return limit(compiler, f"{place}/after", value["after"], known, scope)


def limit(
    compiler: Compiler, place: str, value: Any, known: frozenset[str], scope: Scope
) -> Duration:
    """A duration after which something has failed: longer than nothing."""
    before = len(compiler.problems.found)
    found = compiler.duration(place, value, known, scope)
    if found.template is None and found.ms == 0 and len(compiler.problems.found) == before:
        compiler.problems.add(place, "must be longer than nothing: all of it would time out")
    return found
