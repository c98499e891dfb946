"""call: openapi: what is refused, what a worker is sent."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.definition import parse
from tests.support.machine import HEADER, Driver, define
from wf.errors import DefinitionError

JsonObject = dict[str, Any]
DOCUMENT: JsonObject = {"endpoint": "https://pets/openapi.json"}
FIND: JsonObject = {"document": DOCUMENT, "operationId": "findPets"}


def problems(task: JsonObject, **use: Any) -> list[str]:
    """Without the file's name."""
    document = {"document": HEADER, "do": [{"t": task}], "use": use}
    with pytest.raises(DefinitionError) as caught:
        parse(document, "f")
    return [problem.removeprefix("f: ") for problem in caught.value.problems]


def openapi(server: Any = None, **more: Any) -> JsonObject:
    task: JsonObject = {"call": "openapi", "with": {**FIND, **more}}
    return task if server is None else {**task, "metadata": {"wf": {"server": server}}}


def at(endpoint: Any) -> JsonObject:
    return openapi(document={"endpoint": endpoint})


def sent(task: JsonObject, given: Any = None, **use: Any) -> JsonObject:
    driver = Driver(define({"t": task}, use=use))
    driver.start(given)
    (run,) = driver.state["runs"].values()
    assert run["activity"] == "wf-openapi"
    found: JsonObject = run["input"]
    return found


@pytest.mark.parametrize(
    ("task", "pointer", "words"),
    [
        ({"call": "openapi"}, "/do/0/t", "document and operationId"),
        ({"call": "openapi", "with": "${ . }"}, "/do/0/t/with", "must be an object"),
        ({"call": "openapi", "with": {}}, "/do/0/t/with", "needs `operationId`"),
        (openapi(operationid="x"), "/do/0/t/with/operationid", 'did you mean "operationId"'),
        (openapi(operationId=5), "/do/0/t/with/operationId", "non-empty string"),
        (openapi(parameters=["a"]), "/do/0/t/with/parameters", "must be an object"),
        (openapi(parameters={"a": "${ $no }"}), "/with/parameters/a", "`$no` is not known"),
        (openapi(output="text"), "/do/0/t/with/output", "content, response, raw"),
        (openapi(redirect="yes"), "/do/0/t/with/redirect", "true or false"),
        (openapi(authentication={"use": "a"}), "/with/authentication/use", "no authentication"),
        (openapi(authentication={"bearer": {}}), "/authentication/bearer", "needs `token`"),
        (openapi(document="https://pets"), "/do/0/t/with/document", "must be an object"),
        (openapi(document={}), "/do/0/t/with/document", "needs `endpoint`"),
        (openapi(document={"uri": "x", **DOCUMENT}), "/with/document/uri", "unknown key"),
        (openapi(document={"name": 1, **DOCUMENT}), "/with/document/name", "non-empty string"),
        (at("pets.json"), "/with/document/endpoint", "must begin with http"),
        (at("file:///pets.json"), "/with/document/endpoint", "read no files, so serve it"),
        (at({}), "/with/document/endpoint", "needs `uri`"),
        (at({"uri": "https://x", "authentication": {"basic": {}}}), "/basic", "needs `password`"),
        (at("${ $authorization.scheme }"), "/with/document/endpoint", "$authorization"),
        (openapi(server=5), "/do/0/t/metadata/wf/server", "non-empty string"),
        (openapi(server="pets"), "/do/0/t/metadata/wf/server", "begins with http"),
        (openapi(server="https://pets/v1?x"), "/metadata/wf/server", "leave out the query"),
        (openapi(server="https://a:b@pets"), "/metadata/wf/server", "the user"),
        (openapi(server="https://pets:x/"), "/metadata/wf/server", "is no server"),
        (openapi(server="${ .s }"), "/metadata/wf/server", "not an expression"),
        (openapi(server="https://{x}"), "/metadata/wf/server", "or a template"),
        (
            {"call": "work", "metadata": {"wf": {"server": "https://x"}}},
            "/do/0/t/metadata/wf/server",
            "only `call: openapi`",
        ),
        (
            {"set": {}, "metadata": {"wf": {"server": "https://x"}}},
            "/do/0/t/metadata/wf/server",
            "unknown key",
        ),
    ],
)
def test_what_is_wrong_is_refused_at_its_place(task: JsonObject, pointer: str, words: str) -> None:
    found = problems(task)
    assert any(pointer + ": " in problem and words in problem for problem in found), found


def test_the_worker_is_sent_the_document_the_operation_and_its_parameters() -> None:
    endpoint = {"uri": "https://pets/{v}.json", "authentication": {"use": "a"}}
    task = openapi(
        document={"name": "pets", "endpoint": endpoint},
        parameters={"id": "${ .id }", "fixed": [1]},
        authentication={"basic": {"username": "u", "password": "p"}},
        output="response",
    )
    access = {"bearer": {"token": "${ .t }"}}
    assert sent(task, {"id": 3, "v": 2, "t": "x"}, authentications={"a": access}) == {
        "request": {
            "document": {
                "uri": "https://pets/{v}.json",
                "variables": {"v": 2},
                "authentication": {"bearer": {"token": "x"}},
            },
            "operationId": "findPets",
            "parameters": {"id": 3, "fixed": [1]},
            "output": "response",
            "redirect": False,
            "authentication": {"basic": {"username": "u", "password": "p"}},
        }
    }


def test_document_operation_and_parameters_may_be_expressions() -> None:
    task = openapi(document={"endpoint": "${ .d }"}, operationId="${ .o }", parameters="${ .p }")
    request = sent(task, {"d": "https://x/${", "o": "find", "p": {"a": 1}})["request"]
    assert request["document"] == {"uri": "https://x/${", "authentication": None}
    assert (request["operationId"], request["parameters"]) == ("find", {"a": 1})


def test_secrets_of_both_authentications_and_of_parameters_travel_by_name() -> None:
    document = {"endpoint": {"uri": "https://x", "authentication": {"basic": {"use": "one"}}}}
    task = openapi(
        document=document,
        parameters={"key": "${ $secrets.three }"},
        authentication={"oauth2": {"use": "two"}},
    )
    found = sent(task, secrets=["one", "two", "three", "four"])
    assert found["request"]["parameters"] == {"key": None}
    assert found["deferred"] == {
        "secrets": ["one", "three", "two"],
        "expressions": {"/parameters/key": "$secrets.three"},
        "variables": {},
    }


def test_the_task_names_the_server_of_a_function_too() -> None:
    functions = {"find": {"call": "openapi", "with": FIND}}
    task = {"call": "find", "with": {}, "metadata": {"wf": {"server": "https://api.pets/v2"}}}
    assert sent(task, functions=functions)["request"]["server"] == "https://api.pets/v2"
    assert "server" not in sent({"call": "find"}, functions=functions)["request"]
