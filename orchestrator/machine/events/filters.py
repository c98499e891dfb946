"""Whether an event is one that a listen waits for: attributes, then correlations.

An expression sees the value at its place as `.` (in `data`, the data). What it gives decides: true
fits, false and null do not, anything else must equal the value. An expression that fails does not
fit either: anyone may publish events, and an odd one must not end who listens.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from orchestrator.definition.compiler.nodes import Filter, Listen, Template
from orchestrator.expressions.jq import Expression, ExpressionError
from orchestrator.machine.flow import tasks
from orchestrator.machine.kernel.digest import same
from orchestrator.machine.kernel.errors import Fault
from orchestrator.machine.kernel.scope import Scope
from orchestrator.machine.kernel.step import Step

JsonObject = dict[str, Any]
Ask = Callable[[Expression, Any], Any]  # the expression's result for a value; raises UNFIT

UNFIT = (Fault, ExpressionError)


class Fit(NamedTuple):
    """The part of a listen (to, until) and the filter in it that an event counts for, and the
    correlations whose expectation it sets."""

    part: str
    position: int
    learned: JsonObject


def fit(step: Step, frame: str, event: JsonObject) -> Fit | None:
    """The filter that the event counts for; None when it counts for none."""
    state = step.frames[frame]
    body: Listen = step.task(frame).body
    scope = tasks.scope_inside(step, frame, state.get("input"))
    for part, strategy in body.parts:
        if not strategy.filters:
            return Fit(part, 0, {})
        left = state["left"].get(part)
        for index, one in enumerate(strategy.filters):
            if left is not None and index not in left:
                continue
            learned = _holds(step, frame, one, f"{part}/{index}", event, scope)
            if learned is not None:
                return Fit(part, index, learned)
    return None


def _holds(
    step: Step, frame: str, one: Filter, place: str, event: JsonObject, scope: Scope
) -> JsonObject | None:
    """The expectations that the event sets, if it fits; None if it does not."""
    pointer = step.task(frame).pointer
    if not has_attributes(
        one, event, lambda found, value: step.evaluate(found, value, scope, pointer)
    ):
        return None
    state = step.frames[frame]
    learned: JsonObject = {}
    for correlation in one.correlations:
        try:
            found = step.evaluate(correlation.source, event, scope, pointer)
        except Fault:
            return None
        name = correlation.name
        expected = state["expected"] if correlation.expect is not None else state["learned"]
        key = f"{place}/{name}" if correlation.expect is not None else name
        if key in expected:
            if not same(found, expected[key]):
                return None
        elif found is None:
            return None
        else:
            learned[name] = found
    return learned


def has_attributes(one: Filter, event: JsonObject, ask: Ask) -> bool:
    """Whether the event has the attributes that the filter wants."""
    return all(matches(template, event.get(name), ask) for name, template in one.attributes)


def matches(template: Template, value: Any, ask: Ask) -> bool:
    """Whether a value is what is wanted at its place."""
    expression = template.expression
    if expression is not None:
        try:
            found = ask(expression, value)
        except UNFIT:
            return False
        if type(found) is bool or found is None:
            return found is True
        return same(found, value)
    if template.fields is not None:
        return type(value) is dict and all(
            matches(child, value.get(key), ask) for key, child in template.fields
        )
    if template.items is not None:
        if type(value) is not list or len(value) != len(template.items):
            return False
        pairs = zip(template.items, value, strict=True)
        return all(matches(child, inside, ask) for child, inside in pairs)
    return _covers(template.value, value)


def _covers(wanted: Any, value: Any) -> bool:
    """Objects may have more than what is wanted; all else must be equal."""
    if type(wanted) is dict:
        return type(value) is dict and all(
            key in value and _covers(child, value[key]) for key, child in wanted.items()
        )
    return same(wanted, value)
