"""Evaluation within a step: expressions, templates, durations and schemas, with their faults."""

from __future__ import annotations

from typing import Any

from orchestrator.definition.compiler import durations
from orchestrator.definition.compiler.nodes import Duration, Template
from orchestrator.expressions.jq import (
    FACTS,
    Expression,
    ExpressionError,
    check_composed,
    composition_error,
    fact_error,
)
from orchestrator.expressions.json_schema import Schema
from orchestrator.machine.kernel.errors import Fault, expression_error, validation_error
from orchestrator.machine.kernel.limits import Limits
from orchestrator.machine.kernel.scope import Scope

JsonObject = dict[str, Any]


class Evaluating:
    """What a step needs to evaluate; `history` gets what depended on the machine, `facts` has what
    did when the event was first applied."""

    __slots__ = ("compositions", "evaluations", "facts", "history", "limits", "refused")

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.history: list[JsonObject] = []
        self.evaluations = 0
        self.facts: dict[int, str] = {}
        self.compositions = 0
        self.refused: set[int] = set()  # compositions that were too large

    def evaluate(self, expression: Expression, value: Any, scope: Scope, place: str) -> Any:
        """The result, or a Fault at `place`. What depended on the machine is recorded, and
        taken from the record when the event carries it."""
        self.evaluations = number = self.evaluations + 1
        names = expression.variables
        try:
            if number in self.facts:
                raise fact_error(self.facts[number], expression.source)
            variables = {name: scope.resolve(name) for name in names} if names else {}
            return expression.evaluate(value, variables, self.limits.expressions)
        except ExpressionError as error:
            if error.fact is not None:
                fact = {"evaluation": number, "kind": error.fact}
                self.history.append({"type": "expression.faulted", "pointer": place, "fact": fact})
            raise Fault(expression_error(error.detail, place)) from None

    def build(self, template: Template, value: Any, scope: Scope, place: str) -> Any:
        """A template's value with `value` as `.`."""
        expression = template.expression
        if expression is not None:
            return self.evaluate(expression, value, scope, place)
        built = template.build(lambda found: self.evaluate(found, value, scope, place))
        return self.composed(built, place) if template.is_composed else built

    def composed(self, value: Any, place: str) -> Any:
        """`value`, which is made of results that were small enough each, if it is so as a whole.

        Without this, what a loop puts side by side, and then that again, doubles each time.
        """
        self.compositions = number = self.compositions + 1
        try:
            if number in self.refused:
                raise composition_error()
            check_composed(value, self.limits.expressions)
        except ExpressionError as error:
            if error.fact is not None:
                fact = {"composition": number, "kind": error.fact}
                self.history.append({"type": "expression.faulted", "pointer": place, "fact": fact})
            raise Fault(expression_error(error.detail, place)) from None
        return value

    def duration_ms(self, duration: Duration, value: Any, scope: Scope, place: str) -> int:
        """Milliseconds; an expression that gives no duration is a Fault at `place`."""
        if duration.template is None:
            return duration.ms
        try:
            return durations.from_value(self.build(duration.template, value, scope, place))
        except durations.DurationError as error:
            raise Fault(expression_error(str(error), place)) from None

    def validate(self, schema: Schema | None, value: Any, what: str, place: str) -> None:
        """A Fault at `place` unless the schema, if there is one, holds for the value. Another
        attempt cannot mend an input."""
        problem = None if schema is None else schema.problem(value)
        if problem is not None:
            raise Fault(validation_error(what, problem, place), retryable=what != "input")

    def take_facts(self, facts: Any) -> None:
        """Facts of an event that is replayed; what is not one is passed over."""
        for fact in facts if type(facts) is list else ():
            if type(fact) is dict and fact.get("kind") in FACTS:
                number = fact.get("evaluation")
                if type(number) is int:
                    self.facts[number] = fact["kind"]
                if type(fact.get("composition")) is int:
                    self.refused.add(fact["composition"])
