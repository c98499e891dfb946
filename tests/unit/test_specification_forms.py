"""Forms that the specification's schema allows: what runs, what is warned of, how YAML is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.cloudevents.event_triggers import start
from orchestrator.definition import parse
from orchestrator.definition.source.yaml_reader import YamlReader
from tests.support.machine import ERRORS, HEADER, Driver, define, run_through
from wf.cli import deploy
from wf.errors import DefinitionError

JsonObject = dict[str, Any]


def document(*tasks: JsonObject, **more: Any) -> JsonObject:
    return {"document": HEADER, "do": list(tasks) or [{"t": {"set": {}}}], **more}


def warnings(given: JsonObject | str) -> list[str]:
    return [str(one).removeprefix("f: ") for one in parse(given, "f").warnings]


# --- for.in -------------------------------------------------------------------------------------


@pytest.mark.parametrize("concurrency", [None, 2])
@pytest.mark.parametrize(
    ("items", "output"),
    [
        ([], []),
        ([{"name": "red"}, {"name": "blue"}], [{"name": "red"}, {"name": "blue"}]),
        (["${ .n }", {"n": "${ .n + 1 }"}, 3, None], [7, {"n": 8}, 3, None]),
        ([[1], "text", True], [[1], "text", True]),
        ([1, 2, 3], [1, 2, 3]),
    ],
)
def test_a_for_runs_over_an_array_that_is_written_out(
    items: list[Any], output: list[Any], concurrency: int | None
) -> None:
    task: JsonObject = {"for": {"in": items}, "do": [{"one": {"set": {"found": "${ $item }"}}}]}
    if concurrency:
        task["metadata"] = {"wf": {"concurrency": concurrency}}
    else:
        task["do"] = [{"one": {"set": {"all": "${ .all + [$item] }"}}}]
    driver = run_through(define({"f": task}), {"n": 7})
    found = driver.state["output"]
    assert ([one["found"] for one in found] if concurrency else found.get("all", [])) == output
    assert driver.replay() == driver.state


def test_what_is_wrong_in_it_is_told_at_its_item() -> None:
    task = {"for": {"in": [1, "${ .x | }"]}, "do": [{"one": {"set": {}}}]}
    with pytest.raises(DefinitionError, match="/do/0/t/for/in/1: "):
        parse(document({"t": task}), "f")


# --- schedule.read ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("read", "wanted"),
    [(None, "envelope"), ("envelope", "envelope"), ("data", {"n": 1}), ("raw", '{"n":1}')],
)
def test_the_input_is_what_schedule_read_says_of_each_event(read: str | None, wanted: Any) -> None:
    schedule: JsonObject = {"on": {"one": {"with": {"type": "a"}}}}
    if read is not None:
        schedule["read"] = read
    trigger = parse(document(schedule=schedule)).workflow.trigger
    assert trigger is not None
    event = {"specversion": "1.0", "id": "1", "source": "/s", "type": "a", "data": {"n": 1}}
    body = json.loads(start("default", "flow", "1.0.0", [event], trigger.read).data)
    assert body["input"] == [event if wanted == "envelope" else wanted]
    whole = json.loads(start("default", "flow", "1.0.0", [event]).data)
    assert body["id"] == whole["id"]


@pytest.mark.parametrize(
    ("schedule", "words"),
    [
        ({"on": {"any": []}, "read": "all"}, "/schedule/read: must be data, envelope, raw"),
        ({"every": "PT1H", "read": "data"}, "/schedule/read: says how events are read"),
        ({"on": {"any": [], "read": "data"}}, "/schedule/on/read: goes beside `on`"),
    ],
)
def test_a_read_that_has_no_place_is_refused(schedule: JsonObject, words: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        parse(document(schedule=schedule), "f")
    assert words in str(caught.value)


# --- export.schema ------------------------------------------------------------------------------

NEEDS_N = {"schema": {"document": {"type": "object", "required": ["n"]}}}


def test_export_schema_without_as_is_asked_about_the_context_as_it_is() -> None:
    first = {"set": {"n": 1}, "export": {"as": "."}}
    fine = run_through(define({"a": first}, {"b": {"set": {"x": 2}, "export": NEEDS_N}}), {})
    assert fine.state["context"] == {"n": 1}
    assert fine.state["output"] == {"x": 2}
    bad = run_through(define({"b": {"set": {"n": 2}, "export": NEEDS_N}}), {})
    assert bad.state["error"]["type"] == f"{ERRORS}validation"
    assert bad.state["error"]["detail"].startswith("export.schema: ")
    assert bad.replay() == bad.state


def test_in_a_branch_it_is_the_branchs_own_context() -> None:
    inside = {
        "do": [
            {"a": {"set": {"n": 1}, "export": {"as": "."}}},
            {"b": {"set": {}, "export": NEEDS_N}},
        ]
    }
    assert run_through(define({"f": {"fork": {"branches": [{"x": inside}]}}}), {}).status == (
        "completed"
    )


# --- warnings -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dsl", ["1.0.0-alpha1", "1.0.0-alpha5", "1.0.0-beta.1", "1.0.1-rc1+b"])
def test_a_draft_of_the_dsl_is_a_warning(dsl: str) -> None:
    (warning,) = warnings({**document(), "document": {**HEADER, "dsl": dsl}})
    assert "/document/dsl: " in warning
    assert "write '1.0.3'" in warning


@pytest.mark.parametrize("dsl", ["1.0.0", "1.0.3", "1.0.10", "1.0.0+build"])
def test_a_release_is_none(dsl: str) -> None:
    assert warnings({**document(), "document": {**HEADER, "dsl": dsl}}) == []


@pytest.mark.parametrize(
    "dsl", ["0.8", "1.1.0-alpha1", "2.0.0", "1.0", "1.0.0-", "1.0.x", "v1.0.0"]
)
def test_another_dsl_is_refused(dsl: str) -> None:
    with pytest.raises(DefinitionError, match="not a version of the DSL"):
        parse({**document(), "document": {**HEADER, "dsl": dsl}}, "f")


def hears(**attributes: Any) -> JsonObject:
    return {"listen": {"to": {"one": {"with": attributes}}}}


def tries(**wanted: Any) -> JsonObject:
    return {"try": [{"a": {"set": {}}}], "catch": {"errors": {"with": wanted}}}


PATTERNS = [
    ".*", "com.example.*", "com\\.example", "^com.example", "paid$", "order.(placed|paid)",
    "[a-z]+", "order-[0-9]{3}", "com.example.order*", "(ab)+",
]  # fmt: skip
CONSTANTS = [
    "com.example.paid", "https://example.com/a?b=c", "/orders", "a (b)", "5.0 + 3", "a|b", "[1]",
    "${ test(\".*\") }", "Exit status 3", "about:blank", "order-1",
]  # fmt: skip


@pytest.mark.parametrize("text", PATTERNS)
def test_a_filters_constant_that_looks_like_a_pattern_is_warned_of(text: str) -> None:
    expects = hears(type="a")
    expects["listen"]["to"]["one"]["correlate"] = {"k": {"from": ".data", "expect": text}}
    until = {"listen": {"to": {"any": [], "until": {"one": {"with": {"type": text}}}}}}
    for task, place in (
        (hears(type=text), "/listen/to/one/with/type"),
        (hears(subject=text), "/listen/to/one/with/subject"),
        (hears(type="a", data=text), "/listen/to/one/with/data"),
        (expects, "/listen/to/one/correlate/k/expect"),
        (until, "/listen/to/until/one/with/type"),
        (tries(title=text), "/catch/errors/with/title"),
    ):
        (warning,) = warnings(document({"t": task}))
        assert f"/do/0/t{place}: " in warning
        assert "not as a pattern" in warning
    schedule = {"on": {"one": {"with": {"type": text}}}}
    assert len(warnings(document(schedule=schedule))) == 1


@pytest.mark.parametrize("text", CONSTANTS)
def test_others_are_not(text: str) -> None:
    for task in (hears(subject=text), tries(title=text)):
        assert warnings(document({"t": task})) == []


@pytest.mark.parametrize(("count", "warned"), [(1, 1), (2, 0), (5, 0)])
def test_a_count_of_one_attempt_is_warned_of(count: int, warned: int) -> None:
    policy = {"limit": {"attempt": {"count": count}}}
    inline = {"try": [{"a": {"set": {}}}], "catch": {"retry": policy}}
    named = {"try": [{"a": {"set": {}}}], "catch": {"retry": "r"}}
    assert len(warnings(document({"t": inline}))) == warned
    assert len(warnings(document({"t": named}, use={"retries": {"r": policy}}))) == warned


def test_wf_validate_shows_warnings_and_the_file_is_valid(tmp_path: Path, capsys: Any) -> None:
    file = tmp_path / "flow.json"
    given = {**document(), "document": {**HEADER, "dsl": "1.0.0-alpha5"}}
    file.write_text(json.dumps(given))
    assert deploy.validate([str(file)], json=False) == 0
    shown = capsys.readouterr()
    assert "is valid" in shown.out
    assert "/document/dsl" in shown.err
    assert deploy.validate([str(file)], json=True) == 0
    (shape,) = json.loads(capsys.readouterr().out)
    assert len(shape["warnings"]) == 1


# --- merge keys ---------------------------------------------------------------------------------


def read(text: str) -> Any:
    return YamlReader("f").read(text)[0]


@pytest.mark.parametrize(
    "text",
    [
        "a: &a {x: 1, y: 2}\nb: {<<: *a}",
        "a: &a {x: 1, y: 2}\nb: {<<: *a, x: 9}",
        "a: &a {x: 1, y: 2}\nb: {x: 9, <<: *a}",
        "a: &a {x: 1}\nb: &b {x: 2, y: 3}\nc: {<<: [*a, *b], z: 4}",
        "a: &a {x: 1}\nb: &b {x: 2, y: 3}\nc: {<<: [*b, *a]}",
        "a: &a {x: {n: 1}}\nb: &b {<<: *a, y: 2}\nc: {<<: *b, z: {<<: *a}}",
        "a: {<<: {x: 1}, y: 2}",
        "a: {<<: [], y: 2}",
        "a: &a {}\nb: {<<: *a}",
        "a: &a {x: 1}\nb: [{<<: *a}, {<<: *a, x: 2}]",
        "a: &a {x: 1}\nb: {!!merge <<: *a}",
    ],
)
def test_merge_keys_merge_as_yaml_says(text: str) -> None:
    assert read(text) == yaml.safe_load(text)


FLAT = st.dictionaries(st.sampled_from("xyz"), st.integers(0, 9), max_size=3)


@given(FLAT, FLAT, FLAT, st.booleans(), st.booleans())
def test_whatever_overrides_what(
    one: JsonObject, other: JsonObject, own: JsonObject, first: bool, swapped: bool
) -> None:
    names = ["*b", "*a"] if swapped else ["*a", "*b"]
    members = [f"{key}: {value}" for key, value in own.items()]
    members.insert(0 if first else len(members), f"<<: [{', '.join(names)}]")
    text = f"a: &a {json.dumps(one)}\nb: &b {json.dumps(other)}\nc: {{{', '.join(members)}}}"
    assert read(text) == yaml.safe_load(text)


def test_a_quoted_key_and_one_in_json_are_keys_like_others() -> None:
    assert read("a: {'<<': 1, \"x\": 2}") == {"a": {"<<": 1, "x": 2}}
    text = json.dumps(document({"t": {"set": {"<<": {"x": 1}}}}))
    assert parse(text).document["do"] == [{"t": {"set": {"<<": {"x": 1}}}}]


@pytest.mark.parametrize("value", ["1", "text", "null", "[1]", "[{x: 1}, 2]"])
def test_what_cannot_be_merged_is_refused_with_the_remedy(value: str) -> None:
    with pytest.raises(DefinitionError, match="/a/<<: `<<` merges a mapping"):
        read(f"a: {{<<: {value}}}")


def test_two_merge_keys_are_refused() -> None:
    with pytest.raises(DefinitionError, match="given twice: write a list"):
        read("a: &a {x: 1}\nb: {<<: *a, <<: *a}")


def test_a_definition_with_merge_keys_runs_as_if_written_out() -> None:
    head = "document: {dsl: 1.0.3, namespace: default, name: flow, version: 1.0.0}\n"
    merged = head + (
        "do:\n  - a: {set: &base {x: 1, y: 2}}\n  - b: {set: {<<: *base, y: '${ .x + 10 }'}}\n"
    )
    driver = Driver(parse(merged))
    driver.start({})
    assert driver.state["output"] == {"x": 1, "y": 11}
