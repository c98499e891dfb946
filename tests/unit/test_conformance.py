"""Every example of the specification is executed here, or refused with the documented problem."""

import re
from pathlib import Path

import pytest

from orchestrator.definition import parse
from orchestrator.explaining import explain
from tests.support.conformance import EXAMPLES
from wf.errors import DefinitionError

DOCUMENT = "document: {dsl: 1.0.3, namespace: default, name: example, version: 1.0.0}\n"
PROFILE = Path(__file__).parents[2] / "docs" / "language.md"
EXECUTED = [example for example in EXAMPLES if not example.refused]
REFUSED = [example for example in EXAMPLES if example.refused]


def first_name(example):
    return example.names[0]


@pytest.mark.parametrize("example", EXECUTED, ids=first_name)
def test_it_is_executed(example):
    shape = explain(
        DOCUMENT + example.body, "f", example.input, example.stubs, 1_000_000, example.events
    )
    if example.error is not None:
        assert (shape["status"], shape["error"]["status"]) == ("faulted", example.error)
        return
    assert (shape["status"], shape.get("output")) == ("completed", example.output), shape
    if example.sent is not None:
        assert shape["calls"][-1]["input"] == example.sent


@pytest.mark.parametrize("example", REFUSED, ids=first_name)
def test_it_is_refused_with_its_place(example):
    with pytest.raises(DefinitionError) as refusal:
        parse(DOCUMENT + example.body)
    (problem,) = refusal.value.problems
    for words in example.refused:
        assert words in problem


def documented():
    """Name → "executed" or "refused", as docs/language.md has it."""
    section = PROFILE.read_text().partition("## The specification's examples")[2]
    found = {}
    for line in section.partition("\n## ")[0].splitlines():
        row = re.match(r"\| (.+) \| (executed|refused) \|", line)
        for name in re.findall("`([^`]+)`", row.group(1)) if row else ():
            assert name not in found, name
            found[name] = row.group(2)
    return found


def test_the_list_in_the_profile_is_that_of_the_tests():
    tested = {
        name: "refused" if example.refused else "executed"
        for example in EXAMPLES
        for name in example.names
    }
    assert documented() == tested
