"""What a definition may say, and what is said of one that is wrong: all of it, with its place."""

import json

import pytest

from orchestrator.definition import canonical_bytes, diff, parse, version_key
from orchestrator.definition.compiler.durations import DurationError, from_value
from orchestrator.definition.task_table import KINDS
from orchestrator.machine.handlers import HANDLERS
from tests.support.machine import HEADER
from wf.errors import DefinitionError

HEAD = "document: {dsl: '1.0.3', namespace: default, name: flow, version: '1.0.0'}\n"


DOCUMENT = {"document": {"type": "object"}}
METADATA = "/metadata/wf/concurrency"


def problems(source, file="flow.yaml"):
    with pytest.raises(DefinitionError) as caught:
        parse(source, file)
    return caught.value.problems


def task_problems(task, **more):
    return problems({"document": HEADER, "do": [{"t": task}], **more}, "f")


def the_problem(task, **more):
    (problem,) = task_problems(task, **more)
    return problem


def test_a_definition_has_a_name_a_version_and_its_document():
    text = HEAD + "do:\n  - a: {call: work}\n"
    found = parse(text)
    assert (found.namespace, found.name, found.version) == ("default", "flow", "1.0.0")
    assert found.qualified == "flow"
    assert found.document["do"] == [{"a": {"call": "work"}}]
    other = parse(text.replace("default", "shop"))
    assert other.qualified == "shop.flow"


def test_every_kind_that_compiles_has_a_handler():
    assert set(KINDS) | {"block"} == set(HANDLERS)


def test_canonical_bytes_do_not_depend_on_layout_and_can_be_parsed():
    first = parse(HEAD + "do: [{a: {call: work, with: {b: 1, a: 2}}}]")
    second = parse("do:\n  - a:\n      with: {a: 2, b: 1} # why\n      call: work\n" + HEAD)
    assert canonical_bytes(first) == canonical_bytes(second)
    assert canonical_bytes(parse(canonical_bytes(first))) == canonical_bytes(first)


def test_json_is_read_too():
    document = {"document": HEADER, "do": [{"a": {"call": "work"}}]}
    assert parse(json.dumps(document, indent="\t")).document == document
    assert parse(document).document == document


def test_diff_shows_what_changed():
    old = parse(HEAD + "do: [{a: {call: work}}]").document
    new = parse(HEAD + "do: [{a: {call: play}}]").document
    text = diff(old, new)
    assert '-        "call": "work"' in text
    assert '+        "call": "play"' in text
    assert diff(old, old) == ""


def test_all_problems_come_at_once_with_line_column_pointer_and_remedy():
    text = HEAD + (
        "input: {form: .x}\n"
        "do:\n"
        "  - a:\n"
        "      cal: work\n"
        "  - b:\n"
        "      call: work\n"
        "      wiht: {x: '${ .x | }'}\n"
        "      then: nowhere\n"
        "  - c: {set: {x: '${ env.HOME }'}}\n"
    )
    assert [problem.split(": ")[:2] for problem in problems(text)] == [
        ["flow.yaml:2:9", "/input/form"],
        ["flow.yaml:5:7", "/do/0/a/cal"],
        ["flow.yaml:8:7", "/do/1/b/wiht"],
        ["flow.yaml:9:7", "/do/1/b/then"],
        ["flow.yaml:10:15", "/do/2/c/set/x"],
    ]
    found = " ".join(problems(text))
    for remedy in ('did you mean "from"?', 'did you mean "call"?', 'did you mean "with"?'):
        assert remedy in found


@pytest.mark.parametrize(
    ("fork", "place", "said"),
    [
        ({}, "/fork", "needs `branches`"),
        ({"branches": []}, "/fork/branches", "must be a list of tasks"),
        ({"branches": [{"a": {"call": "a"}}], "compete": "yes"}, "/fork/compete", "true or false"),
        ({"branches": [{"a": {"call": "a"}}], "competes": True}, "/fork/competes", '"compete"?'),
        (
            {"branches": [{"a": {"call": "a", "then": "b"}}, {"b": {"call": "b"}}]},
            "/fork/branches/0/a/then",
            "cannot go to one of them: use continue, exit, end",
        ),
    ],
)
def test_what_is_wrong_with_a_fork_is_said_with_its_place(fork, place, said):
    problem = the_problem({"fork": fork})
    assert problem.startswith(f"f: /do/0/t{place}: ")
    assert said in problem


@pytest.mark.parametrize(
    ("more", "place", "said"),
    [
        ({"for": {}}, "/for", "needs `in`"),
        ({"for": {"in": 1}}, "/for/in", "must be an expression or an array, found the number 1"),
        ({"for": {"in": "."}, "do": []}, "/do", "must be a list of tasks"),
        ({"for": {"in": ".", "each": "input"}}, "/for/each", "that is not taken"),
        ({"for": {"in": ".", "each": "x", "at": "x"}}, "/for", "rename one"),
        ({"for": {"in": "$x"}}, "/for/in", "`$x` is not known here"),
        ({"for": {"in": "."}, "while": "$it"}, "/while", "`$it` is not known here"),
        ({"for": {"in": "."}, "metadata": {"wf": {"concurrency": 0}}}, METADATA, "from 1 up"),
        ({"for": {"in": "."}, "metadata": {"wf": {"concurrent": 2}}}, None, '"concurrency"?'),
    ],
)
def test_what_is_wrong_with_a_for_is_said_with_its_place(more, place, said):
    problem = the_problem({"do": [{"a": {"call": "a"}}], **more})
    assert place is None or problem.startswith(f"f: /do/0/t{place}: ")
    assert said in problem


def test_a_for_without_tasks_and_metadata_of_other_kinds():
    assert "needs `do`" in the_problem({"for": {"in": "."}})
    problem = the_problem({"call": "a", "metadata": {"wf": {"concurrency": 2}, "mine": 1}})
    assert problem.startswith('f: /do/0/t/metadata/wf/concurrency: unknown key "concurrency"')


@pytest.mark.parametrize(
    ("more", "place"),
    [
        ({"timeout": {"after": "soon"}}, "/timeout/after"),
        ({"use": {"timeouts": {"a": {"after": "soon"}}}}, "/use/timeouts/a/after"),
        ({"schedule": {"on": {}}}, "/schedule/on"),
        ({"use": {"secrets": "a"}}, "/use/secrets"),
        ({"use": {"catalogs": {}}}, "/use/catalogs"),
        ({"input": {"schema": {}}}, "/input/schema"),
        ({"evaluate": {"mode": "loose"}}, "/evaluate/mode"),
        ({"evaluate": {"language": "js"}}, "/evaluate/language"),
    ],
)
def test_top_level_parts_that_do_not_work_yet_are_refused(more, place):
    assert the_problem({"call": "work"}, **more).startswith(f"f: {place}: ")


@pytest.mark.parametrize(
    ("task", "place", "words"),
    [
        ({"call": "grpc"}, "/do/0/t/call", "write an activity"),
        ({"call": "wf-http"}, "/do/0/t/call", "`call: http`"),
        ({"call": "f:1@global"}, "/do/0/t/call", "catalogs"),
        ({"call": "a b"}, "/do/0/t/call", "cannot name an activity"),
        ({"call": 3}, "/do/0/t/call", "non-empty string"),
        ({"call": "w", "with": [1]}, "/do/0/t/with", "must be an object"),
        ({"call": "w", "timeout": "x"}, "/do/0/t/timeout", 'no timeout "x"'),
        ({"call": "w", "timeout": 5}, "/do/0/t/timeout", "must be {after: <duration>}"),
        ({"call": "w", "timeout": {}}, "/do/0/t/timeout", "needs `after`"),
        ({"call": "w", "timeout": {"after": "5"}}, "/do/0/t/timeout/after", "not a duration"),
        ({"call": "w", "timeout": {"after": "PT0S"}}, "/do/0/t/timeout/after", "than nothing"),
        ({"call": "w", "set": {}}, "/do/0/t", "at once"),
        ({"if": ".x"}, "/do/0/t", "does nothing"),
        ({"set": ".x"}, "/do/0/t/set", "must be an object or an expression"),
        ({"set": {"a": "hi ${ .x }"}}, "/do/0/t/set/a", "text around an expression"),
        ({"set": {"a": "${ .x "}}, "/do/0/t/set/a", "the closing `}` of the expression"),
        ({"set": {"a": "${ $nope }"}}, "/do/0/t/set/a", "`$nope` is not known here"),
        ({"set": {"a": "${ $secrets.x }"}}, "/do/0/t/set/a", "would be stored here"),
        ({"call": "w", "with": {"a": "${ $authorization }"}}, "/do/0/t/with/a", "would be stored"),
        ({"if": "$input", "set": {}}, "/do/0/t/if", "`$input` is not known here"),
        ({"set": {}, "if": ""}, "/do/0/t/if", "non-empty"),
        ({"set": {}, "output": {"as": 3}}, "/do/0/t/output/as", "must be an expression"),
        ({"set": {}, "input": {"schema": []}}, "/do/0/t/input/schema", "must be an object"),
        ({"set": {}, "input": {"schema": {}}}, "/do/0/t/input/schema", "needs `document`"),
        (
            {"set": {}, "input": {"schema": {"resource": {"endpoint": "http://x"}}}},
            "/do/0/t/input/schema/resource",
            "are not fetched",
        ),
        (
            {"set": {}, "input": {"schema": {**DOCUMENT, "format": "avro"}}},
            "/do/0/t/input/schema/format",
            "must be json",
        ),
        (
            {"set": {}, "output": {"schema": {"document": {"properties": {"a": {"type": "x"}}}}}},
            "/do/0/t/output/schema/document",
            "is no JSON Schema: at /properties/a/type",
        ),
        (
            {"set": {}, "output": {"schema": {"document": {"$ref": "http://127.0.0.1:1/x"}}}},
            "/do/0/t/output/schema/document",
            "is no JSON Schema",
        ),
        ({"set": {}, "then": 5}, "/do/0/t/then", "non-empty string"),
        ({"set": {}, "then": "T"}, "/do/0/t/then", 'did you mean "t"?'),
        ({"set": {}, "metadata": 1}, "/do/0/t/metadata", "must be an object"),
        ({"do": []}, "/do/0/t/do", "list of tasks"),
        ({"do": [{"a": {"set": {}}}, {"a": {"set": {}}}]}, "/do/0/t/do/1/a", "twice"),
        ({"do": [{"exit": {"set": {}}}]}, "/do/0/t/do/0/exit", "reserved"),
        ({"do": [{"a": {"set": {}}, "b": 1}]}, "/do/0/t/do/0", "indent"),
        ({"do": [{"a": {"set": {}, "then": "t"}}]}, "/do/0/t/do/0/a/then", "another list"),
        ({"wait": "5 minutes"}, "/do/0/t/wait", "not a duration"),
        ({"wait": "P1M"}, "/do/0/t/wait", "no fixed length"),
        ({"wait": {"second": 1}}, "/do/0/t/wait", "unknown unit"),
        ({"raise": {"error": "gone"}}, "/do/0/t/raise/error", 'no error "gone"'),
        ({"raise": {"error": {"type": "x"}}}, "/do/0/t/raise/error", "needs `status`"),
        (
            {"raise": {"error": {"type": "x", "status": "y"}}},
            "/do/0/t/raise/error/status",
            "integer",
        ),
        ({"switch": []}, "/do/0/t/switch", "list of cases"),
        ({"switch": [{"a": {"when": ".x"}}]}, "/do/0/t/switch/0/a", "needs `then`"),
        (
            {"switch": [{"a": {"then": "end"}}, {"b": {"then": "end"}}]},
            "/do/0/t/switch/1",
            "only one",
        ),
        ({"switch": [{"a": {"then": "zz"}}]}, "/do/0/t/switch/0/a/then", 'no task "zz"'),
        ({"try": [{"a": {"set": {}}}]}, "/do/0/t", "needs `catch`"),
        (
            {"try": [{"a": {"set": {}}}], "catch": {"retry": "x"}},
            "/do/0/t/catch/retry",
            "no retry policy",
        ),
        ({"try": [{"a": {"set": {}}}], "catch": {"as": "input"}}, "/do/0/t/catch/as", "not taken"),
        (
            {"try": [{"a": {"set": {}}}], "catch": {"then": "q"}},
            "/do/0/t/catch/then",
            'no task "q"',
        ),
        (
            {"try": [{"a": {"set": {}}}], "catch": {"retry": {"limit": {"attempt": {"count": 0}}}}},
            "/do/0/t/catch/retry/limit/attempt/count",
            "from 1",
        ),
        (
            {"try": [{"a": {"set": {}}}], "catch": {"retry": {"backoff": {}}}},
            "/do/0/t/catch/retry/backoff",
            "exactly one",
        ),
        (
            {
                "try": [{"a": {"set": {}}}],
                "catch": {"retry": {"jitter": {"from": "PT2S", "to": "PT1S"}}},
            },
            "/do/0/t/catch/retry/jitter",
            "exchange",
        ),
    ],
)
def test_a_wrong_task_is_refused_at_its_place(task, place, words):
    problem = the_problem(task)
    assert problem.startswith(f"f: {place}: ")
    assert words in problem


@pytest.mark.parametrize(
    ("header", "place"),
    [
        ({"dsl": "0.9.0"}, "/document/dsl"),
        ({"version": "1.0"}, "/document/version"),
        ({"version": 1.0}, "/document/version"),
        ({"version": "1.0.0+b"}, "/document/version"),
        ({"name": "a b"}, "/document/name"),
        ({"namespace": ""}, "/document/namespace"),
        ({"tags": []}, "/document/tags"),
        ({"titel": "x"}, "/document/titel"),
    ],
)
def test_a_wrong_header_is_refused(header, place):
    document = {"document": {**HEADER, **header}, "do": [{"a": {"set": {}}}]}
    (problem,) = problems(document, "f")
    assert problem.startswith(f"f: {place}: ")


def test_reusable_parts_are_checked_even_when_nothing_uses_them():
    use = {"errors": {"e": {"type": "x"}}, "retries": {"r": {"delay": "x"}}}
    found = task_problems({"set": {}}, use=use)
    assert [problem.split(": ")[1] for problem in found] == [
        "/use/errors/e",
        "/use/retries/r/delay",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "- a",
        "3",
        "a: [",
        "a: b: c",
        "\x00",
        "[" * 100_000,
        "{a: " * 20_000,
        "- " * 20_000,
        "&a [*a]",
        "a: !!python/object:os.system x",
        "? [1]\n: 2",
        "a: 1\n---\nb: 2",
        "a: 1\na: 2",
        "a: .nan",
        "a: 99999999999999999999",
        "a: 1e999",
        "\t",
        "{",
        '{"a": }',
        "a: &a [1,1,1,1,1,1,1,1,1,1]\n"
        + "".join(
            f"{chr(98 + n)}: &{chr(98 + n)} [{','.join(['*' + chr(97 + n)] * 10)}]\n"
            for n in range(9)
        ),
    ],
)
def test_what_cannot_be_read_is_refused_and_harms_nothing(text):
    assert all(problem.startswith("flow.yaml") for problem in problems(text))
    assert problems(text.encode("utf-16"))


def test_yaml_is_read_by_its_core_schema():
    text = HEAD + (
        "do:\n  - a:\n      set: {on: yes, date: 2020-01-01, n: 0x1F, f: 1e3, s: '1', t: !!str 5,"
        " z: ~, b: True, k: &k [1], l: *k, '404': 010}\n"
    )
    (task,) = parse(text).document["do"]
    assert task["a"]["set"] == {
        "on": "yes",
        "date": "2020-01-01",
        "n": 31,
        "f": 1000.0,
        "s": "1",
        "t": "5",
        "z": None,
        "b": True,
        "k": [1],
        "l": [1],
        "404": 10,
    }


def test_versions_sort_by_semver_precedence():
    ordered = [
        "0.9.0",
        "1.0.0-alpha",
        "1.0.0-alpha.1",
        "1.0.0-alpha.beta",
        "1.0.0-beta.2",
        "1.0.0-beta.11",
        "1.0.0-rc.1",
        "1.0.0",
        "1.0.1",
        "1.2.0",
        "1.10.0",
        "2.0.0",
    ]
    assert sorted(set(ordered), key=version_key) == ordered
    assert min(["1.0.0", "zero"], key=version_key) == "zero"


@pytest.mark.parametrize(
    ("value", "ms"),
    [
        ("PT0S", 0),
        ("PT1H30M", 5_400_000),
        ("P1W", 604_800_000),
        ("PT0.25S", 250),
        ({"hours": 1, "milliseconds": 5}, 3_600_005),
        ("PT0,5S", 500),
    ],
)
def test_durations(value, ms):
    assert from_value(value) == ms


@pytest.mark.parametrize(
    "value",
    [
        "",
        "P",
        "PT",
        "1S",
        "PT-1S",
        "P1Y",
        {},
        {"days": -1},
        {"days": True},
        5,
        None,
        {"days": 10**12},
        "P99999999W",
        {"days": float("inf")},
    ],
)
def test_what_is_no_duration(value):
    with pytest.raises(DurationError):
        from_value(value)
