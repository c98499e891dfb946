"""Generated expressions over generated documents give what jq gives; and how often that is asked.

The grammar leaves out where purejq and jq are known to part (tests/unit/test_expressions.py,
DIFFERENCES), and numbers beyond 2⁵³, which jq rounds.
"""

import jq
import purejq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.expressions import jq as expressions
from orchestrator.expressions.jq import ExpressionError, compile_expression
from orchestrator.machine.kernel.scope import Scope
from tests.support.machine import Driver, define

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 99) | st.text("ab", max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner),
    max_leaves=8,
)
KEYS = st.sampled_from("abc")
LEAVES = st.one_of(
    st.just("."),
    KEYS.map(lambda key: f".{key}?"),
    st.integers(-3, 9).map(str),
    st.sampled_from(['"a"', '"ab"', "null", "true", "false", "[]", "{}"]),
    st.sampled_from(["type", "length?", "not", "tojson", "(keys? // [])", "[..] | length"]),
    st.sampled_from(
        ["[.[]?]", "[paths] | length", "[.[]? | numbers] | add", "(tostring | ascii_upcase)"]
    ),
)


def grown(inner):
    pairs = st.tuples(inner, inner)
    return st.one_of(
        pairs.map(lambda two: f"({two[0]} | {two[1]})"),
        st.tuples(inner, st.sampled_from(["+", "-", "*"]), inner).map(
            lambda three: f"(({three[0]}) {three[1]} ({three[2]}))"
        ),
        st.tuples(inner, st.sampled_from(["==", "!=", "<", ">=", "and", "or"]), inner).map(
            lambda three: f"(({three[0]}) {three[1]} ({three[2]}))"
        ),
        st.tuples(inner, inner, inner).map(
            lambda three: f"(if {three[0]} then {three[1]} else {three[2]} end)"
        ),
        pairs.map(lambda two: f"(try ({two[0]}) catch ({two[1]}))"),
        pairs.map(lambda two: f"{{a: ({two[0]}), b: ({two[1]})}}"),
        pairs.map(lambda two: f"[({two[0]}), ({two[1]})]"),
        pairs.map(lambda two: f"(({two[0]}) as $x | ({two[1]}) | [$x, .])"),
        inner.map(lambda one: f"([.[]? | ({one})])"),
        inner.map(lambda one: f"(reduce range(3) as $i (0; [., $i] | [{one}][0]))"),
        inner.map(lambda one: f"(map_values({one})?)"),
        inner.map(lambda one: f'"<\\({one})>"'),
        inner.map(lambda one: f"(def f($p): $p; f({one}))"),
    )


SOURCES = st.recursive(LEAVES, grown, max_leaves=6)


def one_result(results):
    return ("value", results[0]) if len(results) == 1 else ("error", None)


def by_jq(source, value):
    try:
        return one_result(jq.compile(source).input_value(value).all())
    except ValueError:
        return ("error", None)


def by_us(source, value):
    try:
        return ("value", compile_expression(source).evaluate(value, {}))
    except ExpressionError:
        return ("error", None)


def kinds(value):
    """`value` with true and 1 told apart, which Python takes for equal."""
    if isinstance(value, list):
        return [kinds(child) for child in value]
    if isinstance(value, dict):
        return {key: kinds(child) for key, child in value.items()}
    return (isinstance(value, bool), value)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(SOURCES, JSON)
def test_any_expression_gives_what_jq_gives(source, value):
    ours, theirs = by_us(source, value), by_jq(source, value)
    assert (ours[0], kinds(ours[1])) == (theirs[0], kinds(theirs[1])), source


def test_a_source_is_compiled_once(monkeypatch):
    compiled = []
    monkeypatch.setattr(
        expressions, "compile_jq", lambda source: compiled.append(source) or purejq.compile(source)
    )
    compile_expression.cache_clear()
    tasks = [{name: {"set": {"x": "${ .n + 4711 }"}}} for name in ("a", "b")]
    for _ in range(3):
        driver = Driver(define(*tasks))
        driver.start({"n": 1})
    assert compiled.count(".n + 4711") == 1
    compile_expression.cache_clear()


@pytest.mark.parametrize(
    ("expression", "built"),
    [
        ("${ .n + 1 }", []),
        ("${ $context.a }", ["context"]),
        ("${ [$input, $input] }", ["input"]),
        ("${ $workflow.id + $task.name }", ["task", "workflow"]),
        ("${ 1 as $context | $context }", []),
    ],
)
def test_only_the_variables_that_are_referenced_are_built(expression, built, monkeypatch):
    asked = []
    resolve = Scope.resolve
    monkeypatch.setattr(
        Scope, "resolve", lambda scope, name: asked.append(name) or resolve(scope, name)
    )
    driver = Driver(define({"a": {"set": {"x": expression}}}))
    driver.start({"n": 1})
    assert driver.status == "completed"
    assert sorted(asked) == built
