"""How large a value would be, without making it."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.expressions.jq import ExpressionError, ExpressionLimits, compile_expression
from wf.protocol.json_weight import SMALL_BYTES, exceeds, weight

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=5), inner),
)


@given(json_values)
def test_what_fits_never_exceeds(value: Any) -> None:
    assert not exceeds(value, len(orjson.dumps(value)))


def test_many_places_of_one_value_count_each() -> None:
    value: Any = 0
    for _ in range(60):
        value = [value, value]
    assert exceeds(value, 4 * 1024 * 1024)


def test_small_containers_weigh_what_they_take_in_memory() -> None:
    data = orjson.dumps([[] for _ in range(SMALL_BYTES)])
    assert weight(data) > 20 * len(data)
    text = orjson.dumps("x" * SMALL_BYTES)
    assert weight(text) == len(text)


@pytest.mark.parametrize(
    "source",
    [
        "reduce range(40) as $i (0; [., .])",
        'reduce range(40) as $i ("x"; {a: ., b: .})',
        "[range(100000)] | [range(1000) as $i | .]",
        '("x" * 1000000) as $x | [range(5000) | $x]',
    ],
)
def test_a_result_that_is_large_by_repetition_is_refused_before_it_is_encoded(source: str) -> None:
    with pytest.raises(ExpressionError, match="too large a result"):
        compile_expression(source).evaluate(None, {}, ExpressionLimits(deadline_s=20))


BOUNDED = """
import resource, orjson
from orchestrator.expressions import jq as expressions
from orchestrator.expressions.address_space import address_space
address_space.bound(600_000_000)
limits = expressions.ExpressionLimits(deadline_s=20)
try:
    endless = expressions.compile_expression('[range(100000000) | "x" * 100000]')
    endless.evaluate(None, {}, limits)
except expressions.ExpressionError as error:
    print(error.fact)
print(resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY)
print(len(orjson.dumps(["x" * 1000 for _ in range(700_000)])))  # more than an expression may take
"""


def test_only_an_evaluation_meets_the_limit_of_memory() -> None:
    """In a process of its own: encoders end the process when they meet it."""
    done = subprocess.run(
        [sys.executable, "-c", BOUNDED], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    fact, unlimited, encoded = done.stdout.split()
    assert (fact, unlimited) == ("memory", "True")
    assert int(encoded) > 700_000_000
