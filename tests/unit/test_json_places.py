"""JSON sources have line and column like YAML, and nothing in them is passed over."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.definition import parse
from orchestrator.definition.source.json_places import JsonPlaces
from orchestrator.definition.source.read import read
from tests.support.machine import HEADER
from wf.errors import DefinitionError

TEXT = """{
  "document": {"dsl": "1.0.3", "namespace": "default", "name": "flow", "version": "1.0.0"},
  "do": [
    {"a": {"call": "one"}},
    {"b": {"cal": "two",
           "with": {"x": "${ .x | }"}}}
  ]
}
"""


def test_problems_in_json_name_line_and_column():
    with pytest.raises(DefinitionError) as refusal:
        parse(TEXT, "flow.json")
    (problem,) = refusal.value.problems
    assert problem.startswith('flow.json:5:12: /do/1/b/cal: unknown key "cal"')


def test_the_line_of_what_stands_in_an_array():
    assert JsonPlaces("f").read(TEXT)["/do/1"] == (5, 5)
    assert JsonPlaces("f").read('[\n 1,\n  "x"]')["/1"] == (3, 3)


@pytest.mark.parametrize(
    ("text", "place", "complaint"),
    [
        ('{"do": [],\n "do": []}', "2:2: /do", "given twice"),
        ('{"a": {"x": 1, "x": 2}}', "1:16: /a/x", "given twice"),
        ('{"n": 123456789012345678901234567890}', "1:7: /n", "does not fit in 64 bits"),
    ],
)
def test_what_the_reader_of_json_passes_over_is_refused(text, place, complaint):
    # A member is placed at its key; the number's own place is where it stands.
    with pytest.raises(DefinitionError, match=complaint) as refusal:
        read(text, "f")
    assert refusal.value.problems[0].startswith(f"f:{place}: ")


NUMBERS = st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(
    st.dictionaries(st.text(max_size=4), VALUES), st.sampled_from([None, 1, "\t"]), st.booleans()
)
def test_every_value_of_any_json_has_its_place(value, indent, ascii_only):
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    document, positions = read(text, "f")
    lines = text.split("\n")
    pending = [("", document)]
    while pending:
        pointer, found = pending.pop()
        line, column = positions[pointer]
        rest = lines[line - 1][column - 1 :]
        assert rest, pointer
        if pointer and isinstance(found, dict | list) and rest[0] != '"':
            assert rest[0] in "{["
        items = (
            found.items()
            if isinstance(found, dict)
            else enumerate(found)
            if isinstance(found, list)
            else ()
        )
        for key, child in items:
            token = str(key).replace("~", "~0").replace("/", "~1")
            pending.append((f"{pointer}/{token}", child))
            if isinstance(found, dict):
                at, start = positions[f"{pointer}/{token}"]
                assert lines[at - 1][start - 1 :].startswith(
                    json.dumps(key, ensure_ascii=ascii_only)
                )


def test_the_places_of_a_plain_document_are_not_looked_for():
    assert read({"document": HEADER}, "f")[1] == {}
