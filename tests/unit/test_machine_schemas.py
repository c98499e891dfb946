"""Schemas: at which point each is asked, and what is said when it does not hold."""

import pytest

from orchestrator.expressions.json_schema import Schema, SchemaRefused
from tests.support.machine import ERRORS, Driver, define, run_through


def schema(**document):
    return {"schema": {"document": document}}


def needs(*keys):
    return schema(type="object", required=list(keys))


def faulted(driver, place):
    assert driver.status == "faulted"
    error = driver.state["error"]
    assert (error["type"], error["status"]) == (f"{ERRORS}validation", 400)
    assert error["instance"] == place
    return error["detail"]


def test_the_input_of_the_workflow_is_checked_before_it_is_transformed():
    flow = define({"s": {"set": "${ . }"}}, input={**needs("raw"), "from": "{made: .raw}"})
    assert run_through(flow, {"raw": 1}).state["output"] == {"made": 1}
    detail = faulted(run_through(flow, {"made": 1}), "/input/schema")
    assert detail == 'input.schema: /: "raw" is a required property'


def test_the_output_of_the_workflow_is_checked_after_it_is_transformed():
    flow = define({"s": {"set": "${ . }"}}, output={"as": "{made: .raw}", **needs("made")})
    assert run_through(flow, {"raw": 1}).status == "completed"
    flow = define({"s": {"set": "${ . }"}}, output={"as": ".raw", **needs("raw")})
    faulted(run_through(flow, {"raw": 1}), "/output/schema")


def test_the_stages_of_a_task_are_checked_in_order():
    task = {
        "if": ".go",
        "input": {**needs("go"), "from": "{from: .go}"},
        "set": {"was": "${ .from }"},
        "output": {"as": "{as: .was}", **needs("as")},
        "export": {"as": "{exported: .as}", **needs("exported")},
    }
    driver = run_through(define({"t": task}), {"go": 1})
    assert driver.state["output"] == {"as": 1}
    assert driver.state["context"] == {"exported": 1}


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ({"input": needs("x"), "set": {}}, "input.schema"),
        ({"set": {}, "output": {"as": "{y: 1}", **needs("x")}}, "output.schema"),
        ({"set": {}, "output": needs("x")}, "output.schema"),
        ({"set": {}, "export": {"as": "{y: 1}", **needs("x")}}, "export.schema"),
    ],
)
def test_what_does_not_fit_faults_the_task_and_says_where(task, said):
    driver = run_through(define({"t": task}), {"n": 1})
    assert faulted(driver, "/do/0/t") == f'{said}: /: "x" is a required property'
    assert driver.state["context"] == {}


def test_a_skipped_task_checks_nothing():
    flow = define({"t": {"if": "false", "input": needs("x"), "set": {}, "output": needs("x")}})
    assert run_through(flow, {"n": 1}).state["output"] == {"n": 1}


def test_an_input_that_does_not_fit_is_caught_but_not_tried_again_and_an_output_is():
    retry = {"retry": {"limit": {"attempt": {"count": 3}}}, "do": [{"m": {"set": {"mended": 1}}}]}
    flow = define({"t": {"try": [{"c": {"call": "w", "input": needs("x")}}], "catch": retry}})
    driver = run_through(flow, {})
    assert driver.state["output"] == {"mended": 1}
    flow = define({"t": {"try": [{"c": {"call": "w", "output": needs("x")}}], "catch": retry}})
    driver = Driver(flow)
    driver.start({})
    driver.done({"bad": 1})
    assert [run["attempt"] for run in driver.state["runs"].values()] == [2]
    driver.done({"x": 1})
    assert driver.state["output"] == {"x": 1}


def test_problems_have_their_places_and_are_not_endless():
    found = Schema({"items": {"type": "integer"}, "maxItems": 3}).problem(["a"] * 100)
    assert found is not None
    assert '/0: "a" is not of type "integer"' in found
    assert found.endswith("; and more")
    assert len(found) < 1000


@pytest.mark.parametrize(
    "document",
    [
        {"type": "x"},
        {"$ref": "http://127.0.0.1:9/x"},
        {"$ref": "file:///etc/hostname"},
        {"$ref": "#/nowhere"},
        {"pattern": "("},
        {"pattern": "(?=a)b"},
        5,
        "x",
        None,
        [1],
    ],
)
def test_what_is_no_schema_of_its_own_is_refused(document):
    with pytest.raises(SchemaRefused) as refused:
        Schema(document)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("number", [2**63, 10**30, -(2**64)])
def test_large_integers_are_integers(number):
    assert Schema({"type": "integer"}).problem(number) is None


def test_a_pattern_is_matched_in_linear_time():
    assert Schema({"pattern": "^(a+)+$"}).problem("a" * 50_000 + "b") is not None
