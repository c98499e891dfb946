"""Expressions: exactly one value, the same as jq gives, under limits, and nothing refused."""

import math
import signal
import threading
import time

import jq
import orjson
import purejq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.expressions import jq as expressions
from orchestrator.expressions.jq import (
    NOW,
    ExpressionError,
    ExpressionLimits,
    ExpressionRefused,
    check_event,
    compile_expression,
    strip_marks,
)
from orchestrator.expressions.names import REFUSED

DOCUMENTS = [
    None,
    True,
    3,
    1.5,
    "text",
    [],
    {},
    [1, "two"],
    {"a": 1},
    {"a": None},
    {"a": {"b": 2}},
    {"a": {"b": {"c": [1]}}},
    {"a": [1]},
    {"a": "x"},
    {"a-b": 1, "": 2},
    {"b": 1},
]
PATHS = [
    ".",
    ".a",
    ".a.b",
    ".a.b.c",
    '.["a"]',
    '."a-b"',
    '.["a"].b',
    '.[""]',
    "$context",
    "$context.a",
    "$context.a.b",
    "$input",
    '$input["a"]',
]
PROGRAMS = [
    ".a + 1",
    "length",
    "keys",
    "type",
    "[.[]?]",
    "map(.)?",
    "tojson",
    "tostring",
    ". == null",
    "if . then 1 else 2 end",
    "{x: .a}?",
    "[..]",
    "to_entries?",
    "not",
    "[paths]",
    "[limit(2; .[]?)]",
    ".a?",
    'try .a.b catch "none"',
    "(.a, 1)",
    "empty",
    '@base64 "\\(.)"',
    "[.[]? | numbers] | add",
    "first(.[]?)",
    "1 / 3",
    ". as $x | [$x, $x]",
    "reduce range(5) as $i (0; . + $i)",
    "[.a?, .b?]",
    '"\\(.) and \\(1 + 1)"',
    "ascii_downcase?",
    'split("x")?',
    "del(.a)?",
]


def run(source, value=None, variables=None, **limits):
    return compile_expression(source).evaluate(value, variables or {}, ExpressionLimits(**limits))


def outcome(thunk):
    try:
        return ("value", thunk())
    except (ExpressionError, purejq.JqError, ValueError):
        return ("error", None)


def one(results):
    if len(results) != 1:
        raise ValueError("not exactly one")
    return results[0]


@pytest.mark.parametrize("source", PATHS)
@pytest.mark.parametrize("value", DOCUMENTS)
def test_paths_that_are_read_directly_give_what_purejq_gives(source, value):
    variables = {"context": value, "input": value}
    expression = compile_expression(source)
    assert expression.path is not None, "this should not need purejq"
    direct = outcome(lambda: expression.evaluate(value, variables))
    assert direct == outcome(lambda: one(purejq.compile(source).all(value, vars=variables)))


@pytest.mark.parametrize("source", [path for path in PATHS if "$" not in path] + PROGRAMS)
def test_results_are_those_of_jq(source):
    reference = jq.compile(source)
    for value in DOCUMENTS:
        expected = outcome(lambda value=value: one(reference.input_value(value).all()))
        assert outcome(lambda value=value: run(source, value)) == expected, value


# Where purejq and jq 1.8 part: known, and to be noticed when it changes.
DIFFERENCES = [
    (".a // 5", True, ("value", 5), ("error", None)),
    ('has("a")?', None, ("error", None), ("value", False)),
    ("with_entries(.)?", [1], ("value", {"0": 1}), ("error", None)),
    ("reduce range(2) as $i (0; empty)", None, ("error", None), ("value", None)),
    ("100000000000000001 + 1", None, ("value", 10**17 + 2), ("value", 10**17)),
]


@pytest.mark.parametrize(("source", "value", "ours", "theirs"), DIFFERENCES)
def test_known_differences_from_jq_have_not_changed(source, value, ours, theirs):
    assert outcome(lambda: run(source, value)) == ours
    assert outcome(lambda: one(jq.compile(source).input_value(value).all())) == theirs


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text("ab-", max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner),
    max_leaves=8,
)


@given(JSON, st.lists(st.sampled_from("abc"), min_size=1, max_size=4))
def test_any_path_in_any_document_gives_what_jq_gives(value, keys):
    source = "." + ".".join(keys)
    expected = outcome(lambda: one(jq.compile(source).input_value(value).all()))
    assert outcome(lambda: run(source, value)) == expected


@given(JSON)
def test_an_evaluation_leaves_its_input_alone(value):
    before = orjson.dumps(value)
    for source in ("[., .] | .[0]", ". as $x | [$x] + [1]", "[..]", "map_values(.)?"):
        outcome(lambda source=source: run(source, value))
    assert orjson.dumps(value) == before


@pytest.mark.parametrize("source", ["empty", "1, 2", ".[]"])
def test_not_exactly_one_result_is_an_error_with_its_remedy(source):
    with pytest.raises(ExpressionError, match=r"no result|more than one result"):
        run(source, [1, 2, 3])


def test_an_endless_stream_is_not_run_to_its_end():
    with pytest.raises(ExpressionError, match="more than one"):
        run("repeat(1)")


@pytest.mark.parametrize(
    "name",
    [
        *REFUSED,
        "$ENV.HOME",
        "$__prog_args",
        '"\\(env.HOME)"',
        "def env: 1; env",
        "(def env: 1; .) | env",
        "(1 as $ENV | .) | $ENV",
        "[.[] | input]",
        "halt_error(1)",
        'debug("x")',
    ],
)
def test_what_reaches_outside_is_refused(name):
    with pytest.raises(ExpressionRefused, match="refused"):
        compile_expression(name if name not in ("strflocaltime",) else 'strflocaltime("%H")')


@pytest.mark.parametrize("source", ['import "a" as a; .', 'include "a"; .'])
def test_modules_are_refused(source):
    with pytest.raises(ExpressionRefused):
        compile_expression(source)


@pytest.mark.parametrize(
    "source", ["", "  ", ".a.", "[", "nosuch", "map(.;.)", "if", "x" * 200_000]
)
def test_what_is_not_an_expression_is_refused(source):
    with pytest.raises(ExpressionRefused):
        compile_expression(source)


def test_deep_nesting_is_refused_and_does_not_crash():
    with pytest.raises(ExpressionRefused):
        compile_expression("[" * 40_000 + "]" * 40_000)


def test_only_free_variables_are_asked_for():
    assert compile_expression("$a.b + $c | . as $d | $d").variables == ("a", "c")
    assert compile_expression("def f($p): $p; f(1)").variables == ()


def test_now_is_the_time_of_the_event_even_beside_a_definition_of_that_name():
    assert run("now", None, {NOW: 12.5}) == 12.5
    assert run("(def now: 1; .) | now", 0, {NOW: 12.5}) == 12.5
    assert run("def now: 1; now", 0, {NOW: 12.5}) == 1


def test_integers_are_exact_up_to_64_bits_and_refused_beyond():
    assert run("9007199254740993 + 0") == 9007199254740993
    assert run("18446744073709551615") == 18446744073709551615
    with pytest.raises(ExpressionError, match="cannot be stored"):
        run("18446744073709551615 + 1")


def test_what_json_lacks_is_replaced_as_jq_prints_it():
    assert run("nan") is None
    assert run("[nan, {a: infinite}]") == [None, {"a": 1.7976931348623157e308}]
    assert run("-infinite") == -1.7976931348623157e308
    assert run("[1.5, null]") == [1.5, None]


def test_half_a_surrogate_pair_cannot_be_stored():
    with pytest.raises(ExpressionError, match="cannot be stored"):
        run('"\\ud800"')


def test_a_runaway_expression_meets_the_deadline_and_leaves_no_timer():
    with pytest.raises(ExpressionError) as caught:
        run("[range(1000000000)] | length", deadline_s=0.05)
    assert caught.value.fact == "deadline"
    assert signal.getitimer(signal.ITIMER_VIRTUAL) == (0.0, 0.0)
    assert run("1 + 1") == 2


def test_the_deadline_covers_work_that_is_done_before_the_first_result():
    with pytest.raises(ExpressionError) as caught:
        run("map(. + 1) | add", list(range(1_000_000)), deadline_s=0.01)
    assert caught.value.fact == "deadline"


def test_no_jq_handler_swallows_the_deadline():
    with pytest.raises(ExpressionError) as caught:
        run("try (reduce range(1000000000) as $i (0; . + 1)) catch 1", deadline_s=0.05)
    assert caught.value.fact == "deadline"


def test_a_hostile_pattern_meets_the_deadline():
    with pytest.raises(ExpressionError) as caught:
        run('test("^(a+)+$")', "a" * 40 + "b", deadline_s=0.05)
    assert caught.value.fact == "deadline"


def test_endless_recursion_is_an_error():
    with pytest.raises(ExpressionError) as caught:
        run("def f: f + 1; f", deadline_s=20)
    assert caught.value.fact in ("depth", "memory")


def test_results_have_a_size_limit():
    with pytest.raises(ExpressionError) as caught:
        run("[range(1000)]", max_result_bytes=100)
    assert caught.value.fact == "size"


def test_results_have_a_depth_limit():
    assert math.isfinite(len(run("reduce range(190) as $i (1; [.])")))
    with pytest.raises(ExpressionError, match="levels"):
        run("reduce range(210) as $i (1; [.])")
    with pytest.raises(ExpressionError, match=r"stored|deep"):
        run("reduce range(2000) as $i (1; [.])")


def test_depth_is_checked_without_counting_what_is_merely_wide():
    check_event([[] for _ in range(5000)])
    deep = []
    for _ in range(220):
        deep = [deep]
    with pytest.raises(ExpressionError):
        check_event(deep)


def test_other_threads_evaluate_too_though_without_a_deadline():
    found = []
    thread = threading.Thread(target=lambda: found.append(run("1 + 1")))
    thread.start()
    thread.join(10)
    assert found == [2]


def test_errors_name_the_expression():
    with pytest.raises(ExpressionError, match=r"`\.a\.b`.*Cannot index number"):
        run(".a.b", {"a": 1})


def test_marks():
    assert strip_marks("${ .a }") == " .a "
    assert strip_marks("  ${.a}\n") == ".a"
    assert strip_marks("x ${.a}") is None
    assert strip_marks("$.a") is None


class Busy:
    """What the deadline strikes first: Python swallows what is raised in here."""

    def __del__(self) -> None:
        until_s = time.process_time() + 0.3
        while time.process_time() < until_s:
            pass


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_deadline_that_strikes_where_it_is_swallowed_strikes_again() -> None:
    def endless() -> None:
        Busy()
        while True:
            pass

    with pytest.raises(expressions._Deadline):
        expressions._timer.call(endless, 0.1)
