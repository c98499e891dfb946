"""call: http, functions, authentications, secrets: what is refused, what a worker is sent."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.definition import parse
from tests.support.machine import HEADER, Driver, define
from wf.errors import DefinitionError

JsonObject = dict[str, Any]
GET: JsonObject = {"method": "get", "endpoint": "https://shop/items"}


def problems(task: JsonObject, **use: Any) -> list[str]:
    """Without the file's name."""
    document = {"document": HEADER, "do": [{"t": task}], "use": use}
    with pytest.raises(DefinitionError) as caught:
        parse(document, "f")
    return [problem.removeprefix("f: ") for problem in caught.value.problems]


def http(**more: Any) -> JsonObject:
    return {"call": "http", "with": {**GET, **more}}


def access(authentication: Any) -> JsonObject:
    return http(endpoint={"uri": "https://shop", "authentication": authentication})


def sent(task: JsonObject, given: Any = None, **use: Any) -> JsonObject:
    driver = Driver(define({"t": task}, use=use))
    driver.start(given)
    (run,) = driver.state["runs"].values()
    return {"activity": run["activity"], **run["input"]}


OAUTH2 = {"authority": "https://id", "grant": "client_credentials"}
CLIENT = {"id": "a", "secret": "b"}


@pytest.mark.parametrize(
    ("task", "pointer", "words"),
    [
        ({"call": "http"}, "/do/0/t", "method and endpoint"),
        ({"call": "http", "with": "${ . }"}, "/do/0/t/with", "must be an object"),
        ({"call": "http", "with": {}}, "/do/0/t/with", "needs `method`"),
        (http(methd="x"), "/do/0/t/with/methd", 'did you mean "method"'),
        (http(method="g t"), "/do/0/t/with/method", "no HTTP method"),
        (http(endpoint="shop/items"), "/do/0/t/with/endpoint", "must begin with http"),
        (http(endpoint="https://shop/{id"), "/do/0/t/with/endpoint", "brace"),
        (http(endpoint="https://shop/${ .id }"), "/do/0/t/with/endpoint", "text around"),
        (http(endpoint={}), "/do/0/t/with/endpoint", "needs `uri`"),
        (http(headers=["a"]), "/do/0/t/with/headers", "must be an object"),
        (http(query="a=1"), "/do/0/t/with/query", "must be an object"),
        (http(output="text"), "/do/0/t/with/output", "content, response, raw"),
        (http(redirect="yes"), "/do/0/t/with/redirect", "true or false"),
        (http(body="${ $nothing }"), "/do/0/t/with/body", "`$nothing` is not known"),
        (access({}), "/do/0/t/with/endpoint/authentication", "needs one of basic"),
        (access({"basic": {"username": "a"}}), "/authentication/basic", "needs `password`"),
        (access({"bearer": {"token": 5}}), "/authentication/bearer/token", "non-empty string"),
        (access({"use": "a"}), "/authentication/use", "no authentication"),
        (access({"basic": {"use": "s"}}), "/authentication/basic/use", "no secret"),
        (access({"oauth2": {}}), "/authentication/oauth2", "needs `authority`"),
        (
            access({"oauth2": {**OAUTH2, "authority": 7, "client": CLIENT}}),
            "/authentication/oauth2/authority",
            "must be a non-empty string",
        ),
        (
            access({"oidc": {**OAUTH2, "client": {**CLIENT, "secret": {"use": "x"}}}}),
            "/authentication/oidc/client/secret",
            "must be a non-empty string",
        ),
        (
            access({"oauth2": {**OAUTH2, "grant": "authorization_code", "client": CLIENT}}),
            "/authentication/oauth2/grant",
            "without a person",
        ),
        (access({"oauth2": OAUTH2}), "/authentication/oauth2/client", "needs `id`"),
        (
            access({"oidc": {**OAUTH2, "client": {"authentication": "client_secret_jwt"}}}),
            "/authentication/oidc/client/authentication",
            "private_key_jwt",
        ),
        (
            access({"oauth2": {**OAUTH2, "client": CLIENT, "subject": {}}}),
            "/authentication/oauth2/subject",
            "without a person",
        ),
    ],
)
def test_what_is_wrong_is_refused_at_its_place(task: JsonObject, pointer: str, words: str) -> None:
    found = problems(task)
    assert any(pointer + ": " in problem and words in problem for problem in found), found


@pytest.mark.parametrize("name", ["a2a", "asyncapi", "grpc", "mcp"])
def test_calls_that_never_run_say_what_to_do_instead(name: str) -> None:
    (problem,) = problems({"call": name, "with": {}})
    assert problem.startswith("/do/0/t/call: ")
    assert "not" in problem
    assert "activity" in problem


# --- functions --------------------------------------------------------------------------------


def test_a_function_sees_the_arguments_as_its_input() -> None:
    functions = {"item": {"call": "http", "with": {**GET, "endpoint": "https://shop/{id}{?page}"}}}
    task = {"call": "item", "with": {"id": "${ .order.item }", "page": 2}}
    request = sent(task, {"order": {"item": 7}}, functions=functions)["request"]
    assert request["variables"] == {"id": 7, "page": 2}


def test_a_function_may_call_an_activity_or_another_function() -> None:
    functions = {
        "outer": {"call": "inner", "with": {"b": "${ .a + 1 }"}},
        "inner": {"call": "work", "with": {"c": "${ $input.b + 1 }"}},
    }
    found = sent({"call": "outer", "with": {"a": 1}}, functions=functions)
    assert found == {"activity": "work", "c": 3}


def test_a_function_without_arguments_gets_the_input_of_the_task() -> None:
    functions = {"f": {"call": "work", "with": {"c": "${ .x }"}}}
    assert sent({"call": "f"}, {"x": 5}, functions=functions)["c"] == 5


@pytest.mark.parametrize(
    ("functions", "pointer", "words"),
    [
        ({"f": {"call": "f"}}, "/use/functions/f/call", "calls itself: f → f"),
        ({"f": {"call": "g"}, "g": {"call": "f"}}, "/call", "calls itself"),
        ({"f": {}}, "/use/functions/f", "needs `call`"),
        ({"f": {"call": "w", "if": "true"}}, "/use/functions/f/if", "on the tasks that call it"),
        ({"http": {"call": "w"}}, "/use/functions/http", "rename it"),
        ({"f": {"call": "w", "with": {"a": "${ $item }"}}}, "/with/a", "`$item` is not known"),
    ],
)
def test_functions_are_checked_whether_called_or_not(
    functions: JsonObject, pointer: str, words: str
) -> None:
    found = problems({"set": {}}, functions=functions)
    assert any(pointer + ": " in problem and words in problem for problem in found), found


# --- secrets ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "task",
    [
        {"set": {"a": "${ $secrets.key }"}},
        {"call": "work", "with": {"a": "${ $secrets.key }"}},
        {"set": {}, "if": "$secrets.key == 1"},
        {"set": {}, "input": {"from": "$secrets"}},
        {"set": {}, "output": {"as": "$secrets"}},
        {"set": {}, "export": {"as": "${ {a: $secrets.key} }"}},
        {"raise": {"error": {"type": "a:b", "status": 400, "title": "${ $secrets.key }"}}},
        {**http(), "output": {"as": "$authorization"}},
    ],
)
def test_secrets_are_refused_where_they_would_be_stored(task: JsonObject) -> None:
    (problem,) = problems(task, secrets=["key"])
    assert "would be stored here" in problem


def test_a_secret_must_be_declared() -> None:
    (problem,) = problems(http(headers={"a": "${ $secrets.kee }"}), secrets=["key"])
    assert problem.startswith("/do/0/t/with/headers/a: ")
    assert 'did you mean "key"' in problem
    assert problems(http(headers={"a": "${ $secrets[.x] }"}))


def test_an_expression_over_secrets_travels_with_what_it_needs_and_no_more() -> None:
    task = http(headers={"a": "${ $secrets.key }", "b/c": "${ $secrets.other + $context.x + .y }"})
    found = sent(task, {"y": 5}, secrets=["key", "other", "third"])
    assert found["request"]["headers"] == {"a": None, "b/c": None}
    assert found["deferred"] == {
        "secrets": ["key", "other", "third"],
        "expressions": {
            "/headers/a": "$secrets.key",
            "/headers/b~1c": "$secrets.other + $context.x + .y",
        },
        "variables": {"context": {}},
        "input": {"y": 5},
    }
    plain = sent(http(headers={"a": "${ $secrets.key }"}), {"large": 1}, secrets=["key", "third"])
    assert plain["deferred"] == {
        "secrets": ["key"],
        "expressions": {"/headers/a": "$secrets.key"},
        "variables": {},
    }


def test_data_that_looks_like_a_deferred_expression_stays_data() -> None:
    evil = {"deferred": {"expressions": {"/uri": "$secrets.key"}}, "$deferred": "1"}
    found = sent(http(body="${ . }"), evil, secrets=["key"])
    assert found["request"]["body"] == evil
    assert "deferred" not in found


def test_a_call_without_secrets_carries_nothing_more() -> None:
    assert set(sent(http())) == {"activity", "request"}


# --- redirections ---------------------------------------------------------------------------------


def test_a_task_may_let_redirections_be_followed() -> None:
    assert "redirects" not in sent(http())["request"]
    found = sent({**http(), "metadata": {"wf": {"redirects": 3}}})
    assert found["request"]["redirects"] == 3


@pytest.mark.parametrize("value", [0, 11, -1, "3", True, None, 1.5])
def test_their_number_is_bounded(value: Any) -> None:
    (problem,) = problems({**http(), "metadata": {"wf": {"redirects": value}}})
    assert problem.startswith("/do/0/t/metadata/wf/redirects: must be an integer from 1 to 10")


def test_only_http_calls_are_redirected() -> None:
    (problem,) = problems({"call": "work", "metadata": {"wf": {"redirects": 3}}})
    assert "only `call: http` and `openapi`" in problem
