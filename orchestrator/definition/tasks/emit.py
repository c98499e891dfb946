"""The body of emit: the properties of a CloudEvent."""

from __future__ import annotations

from typing import Any

from orchestrator.definition.compiler.compiler import INSIDE, NOTHING, Compiler, Scope
from orchestrator.definition.compiler.nodes import Emit, Template
from orchestrator.definition.compiler.problems import escape, kind_of, no_template
from orchestrator.expressions.jq import strip_marks
from wf.protocol import cloudevents


def emit(
    compiler: Compiler, pointer: str, source: dict[str, Any], scope: Scope
) -> tuple[Emit, frozenset[str]] | None:
    """`emit.event.with`: `type` is needed, the rest is filled in where it must be there."""
    problems, place = compiler.problems, f"{pointer}/emit"
    value = problems.mapping(place, source["emit"], "`emit`")
    if value is None:
        return None
    problems.keys(place, value, ("event",))
    event = problems.mapping(f"{place}/event", value.get("event"), "`event`")
    if event is None:
        return None
    place = f"{place}/event"
    problems.keys(place, event, ("with",))
    found = problems.mapping(f"{place}/with", event.get("with"), "`with`")
    if found is None:
        return None
    place = f"{place}/with"
    if "type" not in found:
        problems.add(place, "needs `type`, such as com.example.order.placed.v1")
    properties = attributes(compiler, place, found, scope)
    used = NOTHING.union(*(template.variables for _, template in properties))
    return Emit(properties), used & {"task"}


def attributes(
    compiler: Compiler,
    place: str,
    found: dict[str, Any],
    scope: Scope,
    known: frozenset[str] = INSIDE,
) -> tuple[tuple[str, Template], ...]:
    """Each attribute of a CloudEvent with its template; constants are checked here."""
    problems = compiler.problems
    compiled: list[tuple[str, Template]] = []
    for name, value in found.items():
        at = f"{place}/{escape(name)}"
        if not cloudevents.is_attribute(name):
            meant = problems.meant(name, cloudevents.KNOWN, ())
            problems.add(at, f'"{name}" cannot name an attribute: {cloudevents.NAME_RULE}{meant}')
        is_expression = type(value) is str and strip_marks(value) is not None
        if name != "data" and not is_expression:
            wrong = cloudevents.wrong_with(name, value)
            if wrong is not None:
                problems.add(at, f"{wrong}, found {kind_of(value)}")
            if name in ("source", "dataschema"):
                no_template(problems, at, value)
        compiled.append((name, compiler.template(at, value, known, scope)))
    return tuple(compiled)
