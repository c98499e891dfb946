"""Stand-ins for activities and child workflows, to run a definition without workers. Pure.

A stub is what the activity or the child gives: JSON in which `${ … }` sees the call's input. An
object with one of these keys says more:

    $output     the output, beside other keys
    $error      an error object: the call fails
    $outcome    failed (the default for an error), timed-out, crashed, out-of-memory, undeliverable
    $retryable  false: no `try` may repeat the call
    $after      how long the call takes, a duration
    $again      what the same attempt gives when it is run once more, after a crash
    $each       a list of stubs: one for each call, or attempt, in turn; the last one stays
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from orchestrator.definition.compiler import durations
from orchestrator.definition.compiler.compiler import Compiler, Scope
from orchestrator.definition.compiler.nodes import Template
from orchestrator.definition.compiler.problems import Problems, escape
from orchestrator.definition.task_table import compile_task
from orchestrator.expressions.jq import NOW, ExpressionError
from wf.errors import DefinitionError
from wf.protocol.messages import COMPLETED, FAILED, OUTCOMES

JsonObject = dict[str, Any]

_KNOWN = frozenset({NOW})
_EACH = "$each"
_AGAIN = "$again"
_KEYS = ("$output", "$error", "$outcome", "$retryable", "$after", _AGAIN)
_RUNTIME = "https://open-workflow-specification.org/spec/1.0.0/errors/runtime"


@dataclass(frozen=True, slots=True)
class Stub:
    output: Template | None
    error: Template | None
    outcome: str
    retryable: bool
    after_ms: int
    again: Stub | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What a call gave, and how long it took."""

    outcome: str
    output: Any = None
    error: JsonObject | None = None
    retryable: bool = True
    after_ms: int = 0
    stubbed: bool = True  # False: nobody said what it gives, so it gave null
    again: Answer | None = None  # when that is something else


@dataclass(slots=True)
class Stubs:
    """Stubs by name: of an activity, of a workflow, or a task's JSON pointer, which goes before."""

    named: dict[str, tuple[Stub, ...]] = field(default_factory=dict)
    _used: Counter[str] = field(default_factory=Counter)

    def answer(self, names: tuple[str, ...], input: Any, now_ms: int) -> Answer:
        """The next answer of the first of `names` that has a stub; null when none has."""
        name = next((name for name in names if name in self.named), None)
        if name is None:
            return Answer(COMPLETED, stubbed=False)
        turns = self.named[name]
        stub = turns[min(self._used[name], len(turns) - 1)]
        self._used[name] += 1
        try:
            return _answer(stub, input, now_ms)
        except ExpressionError as error:
            found = {
                "type": _RUNTIME,
                "status": 500,
                "title": f"The stub {name} failed",
                "detail": error.detail,
            }
            return Answer(FAILED, error=found, retryable=False)


def read_stubs(values: Mapping[str, Any], place: str = "stubs") -> Stubs:
    """Stubs by name. Raises DefinitionError with every problem."""
    problems = Problems(place, {})
    compiler = Compiler(problems, compile_task)
    named = {
        name: tuple(
            _stub(compiler, f"/{escape(name)}{suffix}", value) for suffix, value in _turns(given)
        )
        for name, given in values.items()
    }
    for name, turns in named.items():
        if not turns:
            problems.add(f"/{escape(name)}/{_EACH}", "needs one stub at least")
    if problems.found:
        raise DefinitionError(problems.ordered())
    return Stubs(named)


def _turns(value: Any) -> list[tuple[str, Any]]:
    if type(value) is dict and set(value) == {_EACH} and type(value[_EACH]) is list:
        return [(f"/{_EACH}/{index}", one) for index, one in enumerate(value[_EACH])]
    return [("", value)]


def _stub(compiler: Compiler, place: str, value: Any) -> Stub:
    def template(key: str, found: Any) -> Template:
        return compiler.template(f"{place}{key}", found, _KNOWN, Scope())

    if type(value) is not dict or not any(key.startswith("$") for key in value):
        return Stub(template("", value), None, COMPLETED, True, 0)
    compiler.problems.keys(place, value, _KEYS)
    has_error = "$error" in value or "$outcome" in value
    outcome = value.get("$outcome", FAILED if has_error else COMPLETED)
    if type(outcome) is not str or outcome not in OUTCOMES:
        compiler.problems.add(f"{place}/$outcome", f"must be one of {', '.join(sorted(OUTCOMES))}")
        outcome = FAILED
    after_ms = 0
    if "$after" in value:
        try:
            after_ms = durations.from_value(value["$after"])
        except durations.DurationError as error:
            compiler.problems.add(f"{place}/$after", str(error))
    return Stub(
        output=template("/$output", value["$output"]) if "$output" in value else None,
        error=template("/$error", value["$error"]) if "$error" in value else None,
        outcome=outcome,
        retryable=value.get("$retryable") is not False,
        after_ms=after_ms,
        again=_stub(compiler, f"{place}/{_AGAIN}", value[_AGAIN]) if _AGAIN in value else None,
    )


def _answer(stub: Stub, input: Any, now_ms: int) -> Answer:
    def build(template: Template | None) -> Any:
        if template is None:
            return None
        return template.build(lambda found: found.evaluate(input, {NOW: now_ms / 1000}))

    again = None if stub.again is None else _answer(stub.again, input, now_ms)
    if stub.outcome == COMPLETED:
        return Answer(COMPLETED, output=build(stub.output), after_ms=stub.after_ms, again=again)
    error = build(stub.error)
    return Answer(
        stub.outcome,
        error=error if type(error) is dict else {},
        retryable=stub.retryable,
        after_ms=stub.after_ms,
        again=again,
    )
