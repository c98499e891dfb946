"""Reading a definition ends soon, whatever is in it: bytes, values, problems, work are counted."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import orjson
import pytest

from orchestrator.definition import parse
from orchestrator.definition.compiler import budget
from orchestrator.definition.compiler.problems import listing
from wf.errors import DefinitionError

JsonObject = dict[str, Any]

LIMIT_S = 10.0  # CPU; on a free machine none takes more than two
HEAD = {"dsl": "1.0.3", "namespace": "default", "name": "n", "version": "1.0.0"}
CALM = [{"z": {"set": {"x": 1}}}]


def tasks(count: int, body: Callable[[int], JsonObject]) -> JsonObject:
    return {"document": HEAD, "do": [{f"t{n}": body(n)} for n in range(count)]}


def keys(count: int, value: Any = 1) -> JsonObject:
    return {f"k{n}": value for n in range(count)}


def large_expression(n: int) -> str:
    return '${ "' + f"\\(.a{n})" * 10_000 + '" }'


REUSED = {"type": "https://x.example/e", "status": 500, "title": "${ " + "1+" * 300 + "1 }"}

BOMBS: dict[str, JsonObject] = {
    "unknown keys": {"document": HEAD, "do": CALM, **keys(90_000)},
    "more values than allowed": {"document": HEAD, "do": CALM, **keys(200_000)},
    "unknown keys of a task": tasks(1, lambda _: {"set": {"x": 1}, **keys(90_000)}),
    "tasks without a kind": tasks(40_000, lambda n: {f"k{n}": 1}),
    "one name for all tasks": {"document": HEAD, "do": CALM * 20_000},
    "targets that are not there": tasks(15_000, lambda n: {"set": {}, "then": f"zz{n}"}),
    "variables that are not there": tasks(15_000, lambda n: {"set": {"x": f"${{ $a{n} }}"}}),
    "functions that are not there": tasks(15_000, lambda n: {"set": {"x": f"${{ f{n} }}"}}),
    "cases that lead nowhere": tasks(1, lambda _: {"switch": [{"c": {"then": "q"}}] * 20_000}),
    "errors that are not there": {
        **tasks(9_000, lambda n: {"raise": {"error": f"nope{n}"}}),
        "use": {"errors": keys(9_000, {"type": "x", "status": 500})},
    },
    "one expression used again and again": {
        **tasks(15_000, lambda _: {"raise": {"error": "e"}}),
        "use": {"errors": {"e": REUSED}},
    },
    "large expressions": tasks(
        20, lambda n: {"set": {"x": '${ "' + f"\\(.a{n})" * 10_000 + '" }'}}
    ),
    "a long key around many": {
        "document": HEAD,
        "do": [{"z": {"set": {"k" * 100_000: keys(9_000)}}}],
    },
    "text": {"document": HEAD, "do": [{"z": {"set": {"x": "x" * 3_000_000}}}]},
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_definition_with_very_much_of_something_is_refused_soon(name: str) -> None:
    source = orjson.dumps(BOMBS[name])
    began_s = time.thread_time()
    with pytest.raises(DefinitionError) as refused:
        parse(source, "f.json")
    assert time.thread_time() - began_s < LIMIT_S
    assert len(refused.value.problems) <= budget.MAX_PROBLEMS + 1
    assert len(str(refused.value)) < 500_000


@pytest.mark.parametrize(
    "text",
    [
        "x: &x " + "a" * 100_000 + "\ny: [" + "*x, " * 50_000 + "]",
        "? " + "k" * 100_000 + "\n:\n" + "".join(f"  k{n}: 1\n" for n in range(9_000)),
        "a: &a [1,1,1,1,1,1,1,1,1,1]\n"
        + "".join(
            f"{chr(98 + n)}: &{chr(98 + n)} [{', '.join([f'*{chr(97 + n)}'] * 10)}]\n"
            for n in range(9)
        ),
        "[" * 500_000,
        "do:\n" + "- a\n" * 150_000,
        "x: !what 1\n" * 50_000,
    ],
    ids=["a long text", "a long key", "aliases of aliases", "brackets", "items", "tags"],
)
def test_yaml_that_is_more_than_it_seems_is_refused_soon(text: str) -> None:
    began_s = time.thread_time()
    with pytest.raises(DefinitionError) as refused:
        parse(text, "f.yaml")
    assert time.thread_time() - began_s < LIMIT_S
    assert len(refused.value.problems) <= budget.MAX_PROBLEMS + 1


def test_what_was_registered_before_may_be_larger() -> None:
    document = {"document": HEAD, "do": [{"z": {"set": {"x": "x" * 3_000_000}}}]}
    assert parse(document, registered=True).name == "n"


def test_a_large_workflow_is_no_bomb() -> None:
    began_s = time.thread_time()
    assert len(parse(tasks(20_000, lambda n: {"set": {"n": n}})).document["do"]) == 20_000
    assert time.thread_time() - began_s < LIMIT_S


def test_the_first_problems_are_told_and_that_there_are_more() -> None:
    with pytest.raises(DefinitionError) as refused:
        parse({"document": HEAD, "do": CALM, **keys(500)}, "f.json")
    assert len(refused.value.problems) == budget.MAX_PROBLEMS + 1
    assert refused.value.problems[-1] == "f.json: and more: mend these first"


def test_of_many_names_the_first_are_listed() -> None:
    assert listing(["a", "b"]) == "a, b"
    assert listing([str(n) for n in range(25)]).endswith(", 18, 19 and 5 more")
