"""An expression that cannot be is refused with the place in it and what was meant."""

import pytest

from orchestrator.expressions.jq import ExpressionRefused, compile_expression


def refusal(source):
    with pytest.raises(ExpressionRefused) as refused:
        compile_expression(source)
    return str(refused.value)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (".a == == 3", """unexpected token '==' at character 7, in "== 3\""""),
        (".a |", "something is missing at character 5, where it ends"),
        ("(.a", "expected ')', found the end at character 4, where it ends"),
        ("{a b}", """expected '}', found 'b' at character 4, in "b}\""""),
        (".a |\n  map(.b |)\n| .c", """unexpected token ')' at line 2, character 11, in ")\""""),
    ],
)
def test_a_syntax_error_names_the_character(source, said):
    assert refusal(source) == f"is not valid jq: {said}"


def test_a_message_without_a_place_is_passed_on():
    assert "Unterminated string interpolation" in refusal('"abc \\( .x')


def test_a_function_that_is_not_there_and_the_one_that_was_meant():
    assert refusal("lenght") == (
        "calls `lenght` with 0 arguments: no such function: did you mean `length`?"
    )
    assert refusal("map").endswith("no such function, it takes 1 argument")
    assert refusal("zzzz").endswith("no such function")


def test_what_is_refused_is_not_suggested():
    assert "did you mean `halt" not in refusal("halt_eror")


def test_functions_of_the_expression_itself_are_suggested_too():
    assert "did you mean `double`?" in refusal("def double: . * 2; duoble")
