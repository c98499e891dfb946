"""Regular expressions: what jq says, or an error that names the construct; and never for ever."""

from __future__ import annotations

import json
import time
import unicodedata
from typing import Any

import jq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from orchestrator.definition import parse
from orchestrator.expressions import character_classes
from orchestrator.expressions import jq as expressions
from orchestrator.expressions.jq import ExpressionError, ExpressionLimits, compile_expression
from orchestrator.expressions.regular_expressions import (
    MAX_TEXT,
    PatternRefused,
    compile_pattern,
)
from tests.support.machine import HEADER
from wf.errors import DefinitionError

FUNCTIONS = [
    "[test(%s; %s)]", "[match(%s; %s)]", "[capture(%s; %s)]", "[scan(%s; %s)]", "[split(%s; %s)]",
    "[splits(%s; %s)]", '[sub(%s; "<\\(.)>"; %s)]', '[gsub(%s; "-"; %s)]',
]  # fmt: skip

SAME = [
    ("[[:alpha:]]+", "ab1é"), ("[[:^alpha:]]", "a1"), ("[^[:alpha:]]", "a1"),
    ("[[:digit:]]", "a١1"), ("[[:space:]]", "a\u00a0 \x1c"), ("[[:punct:]]", "€a.$+<|~"),
    ("[[:word:]]+", "a_1é"), ("[[:xdigit:]]+", "gAf1"), ("[[:upper:]]+", "ÀBc"),
    ("[[:alnum:][:blank:]]+", "a 1-"), ("[[:^digit:]x]", "1x"), ("(?i)[[:upper:]]", "aB"),
    ("[:alpha:]", "a:lp"), ("\\w+", "किताब é²e\u0301 _‿"), ("\\bकि\\b", "कि"), ("\\Ba", "aa"),
    ("\\d", "1١²"), ("\\s", "\x1c\x85\u2028"), ("\\p{L}+", "ab1"), ("\\p{^L}", "a1"),
    ("\\P{L}", "a1"), ("\\P{^L}", "a1"), ("\\p{Lu}", "aA"), ("[\\p{L}1]", "a12"),
    ("\\p{Alpha}", "a1"), ("\\p{Punct}", "$."), ("a++a", "aaa"), ("a*+", "aaa"), ("a?+", "a"),
    ("a{1,2}+", "aaaaa"), ("(?>a+)b", "aab"), ("(?>a|ab)c", "abc ac"), ("a+?", "aaa"),
    ("x{1,3}?", "xxx"), ("a{0}", "a"), ("a{ 2}", "a{ 2}"), ("{", "{"), ("a{", "a{"), ("}", "}"),
    ("]", "]"), ("[]a]", "]a"), ("[^]a]", "b]"), ("[a-]", "-"), ("[-a]", "-a"), ("[a&&b]", "a&b"),
    ("[a-c&&b]", "abc&"), ("[[]", "["), ("[a[bc]]", "abc]"), ("[\\]]", "]"), ("[\\w-z]", "-az"),
    ("[\\d-x]", "-1x"), ("[\\b]", "b\b"), ("[a~~b]", "a~"), ("[a||b]", "a|"),
    ("(?<n>a)\\k<n>", "aa"), ("(?<n>a)\\k'n'", "aa"), ("(?'n'a)", "a"), ("(a)\\1", "aa"),
    ("(a)\\k<1>", "aa"), ("(?<n>a)(b)", "ab"), ("(?<x>a)|(?<y>b)", "ab"), ("(a)|b", "b"),
    ("(a|b)*", "ab"), ("(?:(a)|b)*", "ab"), ("(a)?(?(1)b|c)", "ab c"), ("(?#c)a", "a"),
    ("()", "a"), ("", "ab"), ("a|", "a"), ("a\\Z", "a\n"), ("a\\z", "a\n"), ("a$", "a\n"),
    ("a$", "a\nb"), ("^b", "a\nb"), ("\\Aa", "aa"), ("$", "a\n"), (".", "\n"), ("(?s).", "\n"),
    ("(?m).", "\n"), ("(?m)^b", "a\nb"), ("(?m)$", "a\nb\n"), ("(?m)^", "a\nb\n"), ("(?i)A", "a"),
    ("(?i:A)b", "ab"), ("(?-i:a)", "A"), ("(?i)k", "K K"), ("(?i)[^a]", "Ab"),
    ("(?i)[a-z]+", "ſK"), ("(?x) a b # c", "ab"), ("(?x)a\\ b", "a b"), ("(?x)[a b]", " "),
    ("\\Qa.b\\E+", "a.bb"), ("\\x41", "A"), ("\\x{1F600}", "😀"), ("[\\x41-\\x43]", "B"),
    ("\\0", "\0"), ("\\e", "\x1b"), ("\\a\\f\\t", "\a\f\t"), ("\\R", "a\r\nb\n\x85"),
    ("\\N", "a\n"), ("\\O", "a\n"), ("\\_\\<\\é", "_<é"), ("(?=a)a", "a"), ("(?!a).", "ab"),
    ("(?<=a)b", "ab"), ("(?<!a)b", "ab b"),
]  # fmt: skip


def by_jq(source: str, text: str) -> Any:
    return jq.compile(source).input_value(text).first()


def ours(source: str, text: str) -> Any:
    return compile_expression(source).evaluate(text, {}, ExpressionLimits(10))


@pytest.mark.parametrize(("pattern", "text"), SAME)
def test_a_construct_means_what_it_means_in_jq(pattern: str, text: str) -> None:
    for function in FUNCTIONS:
        for flags in ("null", '"g"', '"gi"', '"gx"', '"gp"', '"gs"'):
            source = function % (json.dumps(pattern), flags)
            assert ours(source, text) == by_jq(source, text), source


REFUSED = [
    ("\\h", "`\\h`"), ("\\H", "`\\H`"), ("[\\h]", "`\\h`"), ("\\v", "`\\v`"), ("\\G", "`\\G`"),
    ("a\\Kb", "`\\K`"), ("\\X", "`\\X`"), ("\\y", "`\\y`"), ("\\g<1>", "`\\g`"),
    ("\\u0041", "`\\u`"), ("\\cA", "`\\c`"), ("\\q", "`\\q`"), ("\\pL", "needs braces"),
    ("\\p{Greek}", "`\\p{Greek}`"), ("[[:foo:]]", "`[:foo:]`"), ("(?P<n>a)", "`(?P`"),
    ("(?~ab)", "`(?~`"), ("(?|a)", "`(?|`"), ("(?{a})", "`(?{`"), ("(?R)", "`(?R`"),
    ("(*FAIL)", "`(*`"), ("(?a)a", "`(?a)`"), ("(?=a", "no partner"), ("(a", "no partner"),
    ("a)", "no partner"), ("[a", "no partner"), ("a(?i)b", "very beginning"),
    ("a{,2}", "`{0,n}`"), ("a**", "two repetitions"), ("*a", "nothing before it"),
    ("a{2,1}", "turn"), ("[z-a]", "empty"), ("[a-\\d]", "end a range"),
    ("(?<=a+)b", "fixed width"), ("(?<n>a)|(?<n>b)", "one name"),
    ("(?<é>a)", "cannot name a group"), ("(?<1>a)", "cannot name a group"), ("\\2(a)", "group"),
    ("(?i)ß", "more than one character"), ("a\\", "ends with"), ("\\x", "code point"),
    ("(" * 200 + ")" * 200, "inside of each other"), ("a" * 10_001, "longer than"),
]  # fmt: skip


@pytest.mark.parametrize(("pattern", "words"), REFUSED)
def test_what_differs_is_refused_by_name_at_registration_and_never_false(
    pattern: str, words: str
) -> None:
    condition = f"test({json.dumps(pattern)})"
    document = {"document": HEADER, "do": [{"t": {"if": condition, "set": {}}}]}
    with pytest.raises(DefinitionError) as caught:
        parse(document, "f")
    (problem,) = caught.value.problems
    assert "/do/0/t/if: the expression has the regular expression" in problem
    assert words in problem
    assert parse(document, "f", registered=True).name == HEADER["name"]
    for function in FUNCTIONS:  # a pattern that comes as data
        with pytest.raises(ExpressionError, match="while regex-compiling"):
            compile_expression(f".p as $p | .t | {function % ('$p', 'null')}").evaluate(
                {"p": pattern, "t": "a"}, {}
            )


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize(
    ("flags", "words"),
    [("l", "longest"), ("n", "select"), ("m", "(?m)"), ("q", "q is not a valid")],
)
def test_flags_that_differ_are_refused(function: str, flags: str, words: str) -> None:
    source = function % ('"a"', json.dumps(flags))
    assert words in (compile_expression(source).doubt or "")
    with pytest.raises(ExpressionError, match="while regex-compiling"):
        compile_expression(source).evaluate("a", {})


def test_only_constants_of_jqs_own_functions_are_checked() -> None:
    for source in ("test(.p)", 'def test(f): f; test("[")', '"a" | split("[")', 'test("a"; .f)'):
        assert compile_expression(source).doubt is None, source
    assert compile_expression('.a | if test("\\\\h") then 1 else 2 end').doubt is not None


def test_a_pattern_with_its_flags_in_an_array_is_known_as_in_jq() -> None:
    for source in ('[match(["A", "gi"])]', '[test(["A"])]', '[capture(["(?<x>A)", "i"])]'):
        assert ours(source, "aAa") == by_jq(source, "aAa")


ATOMS = st.sampled_from(
    [
    "a", "b", "1", " ", "\n", ".", "^", "$", "|", "(", ")", "(?:", "(?=", "(?!", "(?<=", "(?>",
    "(?<n>", "(?i)", "(?i:", "(?m)", "(?x)", "*", "+", "?", "{2}", "{1,}", "{,2}", "{", "}", "[",
    "]", "[^", "-", "\\d", "\\W", "\\s", "\\b", "\\A", "\\z", "\\1", "\\k<n>", "\\R", "\\p{L}",
    "[[:alpha:]]", "[a-b]", "&&", "\\.", "\\\\", "_", "\\0", "#",
]
)  # fmt: skip
TEXTS = st.sampled_from(
    ["a", "ab", "aab", "ba1", "a\nb\n", "AaBb", "1 a\n", "a.b-b", "ab_ab", "x\ty "]
)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(ATOMS, max_size=6).map("".join),
    TEXTS,
    st.sampled_from(FUNCTIONS),
    st.sampled_from(["", "g", "gi", "x"]),
)
@example("(?m)^", "a\nb\n", FUNCTIONS[1], "g")
def test_any_pattern_gives_what_jq_gives_or_an_error(
    pattern: str, text: str, function: str, flags: str
) -> None:
    source = function % (json.dumps(pattern), json.dumps(flags))
    try:
        found, theirs = ours(source, text), by_jq(source, text)
    except (ExpressionError, ValueError):  # also of jq alone: it repeats no look-around
        return
    assert found == theirs, source


@pytest.mark.parametrize("name", sorted(character_classes.POSIX))
def test_the_classes_are_those_of_jq(name: str) -> None:
    """Over Latin, Greek, Cyrillic, Hebrew, Arabic, Devanagari, symbols and CJK punctuation."""
    pattern = f"[[:{name}:]]"
    letters = [
        chr(code)
        for start, end in (
            (0, 0x300),
            (0x370, 0x700),
            (0x900, 0x980),
            (0x2000, 0x2C00),
            (0x3000, 0x3100),
        )
        for code in range(start, end)
        if unicodedata.category(chr(code)) != "Cn"
    ]
    text = "".join(letters)
    source = f'[match("{pattern}"; "g").string] | add'
    theirs, found = set(by_jq(source, text) or ""), set(ours(source, text) or "")
    known = {"lower": {"\u10fc"}}.get(name, set())
    assert (found ^ theirs) - known - MARKS == set()


MARKS = {chr(code) for code in range(0x3000) if unicodedata.category(chr(code)) == "Mn"}


# --- time ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "text"),
    [("(a+)+$", "a" * 40 + "!"), ("(a|aa)+$", "a" * 60 + "!"), ("(.*)*,(.*)*,$", "a," * 20 + "!"),
     ("[a-x]+y", "x" * MAX_TEXT), ("(x+x+)+y", "x" * 40), (r"(\w+)\1y", "x" * MAX_TEXT)],
)  # fmt: skip
def test_backtracking_without_end_is_interrupted(pattern: str, text: str) -> None:
    compiled = compile_expression(f"test({json.dumps(pattern)})")
    before = time.process_time()
    with pytest.raises(ExpressionError) as caught:
        compiled.evaluate(text, {}, ExpressionLimits(0.1))
    assert caught.value.fact == "deadline"
    assert time.process_time() - before < 5


def test_what_could_not_be_interrupted_is_refused() -> None:
    """Python looks for signals after thousands of steps, each of which may read the whole text."""
    for pattern in ("[a-x]+y", ".*y", "x{2,}y", "(x{101}y)", "x*?y"):
        with pytest.raises(ExpressionError, match="at most 65,536"):
            ours(f"test({json.dumps(pattern)})", "x" * (MAX_TEXT + 1))


def test_what_matches_few_characters_may_be_looked_for_in_long_texts() -> None:
    text = "a,\n" * 400_000
    assert ours(r'[splits("\r?\n")] | length', text) == 400_001
    assert ours(r'test("[^\\s]{1,100}!")', text) is False


def test_compiled_patterns_are_kept() -> None:
    assert compile_pattern("a+", "g") is compile_pattern("a+", "g")
    with pytest.raises(PatternRefused):
        compile_pattern("(", "")


def test_purejq_asks_for_patterns_where_ours_stand() -> None:
    """It is a private name of purejq's: this tells when it moves."""
    assert expressions.builtins._compile_regex is expressions._regular_expression
