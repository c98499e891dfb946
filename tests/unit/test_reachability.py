"""Tasks that can never run are refused; what may run, however unlikely, is not."""

import pytest

from orchestrator.definition import parse
from tests.support.machine import HEADER
from wf.errors import DefinitionError

SET = {"set": {"x": 1}}
RAISE = {"raise": {"error": {"type": "about:x", "status": 400}}}


def unreached(*tasks):
    """Pointers of the tasks that are refused as out of reach."""
    problems = []
    try:
        parse({"document": HEADER, "do": list(tasks)})
    except DefinitionError as refusal:
        problems = refusal.details
    assert all("never be reached" in problem.sentence for problem in problems)
    return [problem.pointer for problem in problems]


@pytest.mark.parametrize("then", ["exit", "end"])
def test_what_comes_after_an_unconditional_end_is_out_of_reach(then):
    assert unreached({"a": {**SET, "then": then}}, {"b": SET}, {"c": SET}) == ["/do/1/b", "/do/2/c"]


def test_a_raise_is_such_an_end_and_a_jump_over_a_task_too():
    assert unreached({"a": RAISE}, {"b": SET}) == ["/do/1/b"]
    assert unreached({"a": {**SET, "then": "c"}}, {"b": SET}, {"c": SET}) == ["/do/1/b"]


@pytest.mark.parametrize(
    "tasks",
    [
        [{"a": {**SET, "then": "end", "if": ".x"}}, {"b": SET}],
        [{"a": {**RAISE, "if": ".x"}}, {"b": SET}],
        [{"a": {**SET, "then": "c"}}, {"b": {**SET, "then": "end"}}, {"c": {**SET, "then": "b"}}],
        [{"a": {"switch": [{"x": {"when": ".x", "then": "end"}}]}}, {"b": SET}],
        [{"a": {"do": [{"i": {**SET, "then": "exit"}}]}}, {"b": SET}],
        [{"a": {"try": [{"i": RAISE}], "catch": {}}}, {"b": SET}],
        [{"a": {"try": [{"i": SET}], "catch": {"then": "end"}}}, {"b": SET}],
        [{"a": {"try": [{"i": RAISE}], "catch": {"then": "b"}, "then": "end"}}, {"b": SET}],
    ],
)
def test_what_may_be_reached_is_let_be(tasks):
    assert unreached(*tasks) == []


def test_a_switch_with_a_default_never_goes_on_by_itself():
    cases = [{"x": {"when": ".x", "then": "c"}}, {"otherwise": {"then": "end"}}]
    assert unreached({"a": {"switch": cases}}, {"b": SET}, {"c": SET}) == ["/do/1/b"]


def test_a_block_that_always_raises_or_ends_is_not_left():
    assert unreached({"a": {"do": [{"i": RAISE}]}}, {"b": SET}) == ["/do/1/b"]
    assert unreached({"a": {"do": [{"i": {**SET, "then": "end"}}]}}, {"b": SET}) == ["/do/1/b"]
    catch = {"do": [{"i": RAISE}]}
    assert unreached({"a": {"try": [{"i": RAISE}], "catch": catch}}, {"b": SET}) == ["/do/1/b"]


def test_lists_inside_are_looked_at_too():
    inner = [{"i": {**SET, "then": "exit"}}, {"j": SET}]
    tasks = [{"a": {"do": inner}}, {"b": {"try": inner, "catch": {"do": inner}}}]
    places = {"/do/0/a/do/1/j", "/do/1/b/try/1/j", "/do/1/b/catch/do/1/j"}
    assert set(unreached(*tasks)) == places


def test_a_misspelt_target_is_the_only_problem_that_it_makes():
    with pytest.raises(DefinitionError) as refusal:
        parse({"document": HEADER, "do": [{"a": {**SET, "then": "bb"}}, {"b": SET}]})
    (problem,) = refusal.value.details
    assert 'no task "bb"' in problem.sentence


def test_a_definition_that_is_registered_already_is_let_pass():
    document = {"document": HEADER, "do": [{"a": {**SET, "then": "end"}}, {"b": SET}]}
    assert parse(document, registered=True).name == "flow"
