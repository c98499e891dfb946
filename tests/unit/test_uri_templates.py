"""Which texts are URI templates, where a definition may have them, what a path variable needs."""

from __future__ import annotations

from typing import Any

import pytest
import uritemplate
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.definition import parse
from tests.support.machine import HEADER
from wf.builtin.http import requests
from wf.errors import ActivityError, DefinitionError
from wf.protocol import uri_templates

JsonObject = dict[str, Any]
AT = "https://shop.example/users/"

NONE = [
    "{{ .id }}", "{{userId}}", "{ userId }", "{userId }", "{}", "{=a}", "{,a}", "{!a}", "{@a}",
    "{|a}", "{a", "a}", "userId}", "{a{b}}", "{a,}", "{,}", "{a,,b}", "{+}", "{?}",
    "{a-b}", "{$a}", "{.}",
    "{a:}", "{a:0}", "{a:x}", "{a:12345}", "{a**}", "{a*:3}", "{a:3*}", "{a.}", "{.a.}", "{a..b}",
    "{a b}", "{a=1}", "{%zz}", "{ü}", "a b", "a%2", 'a"b', "a<b>", "a\\b", "a^b", "a`b", "a|b",
    "a\nb", "\x00",
]  # fmt: skip
GOOD = [
    "", "{id}", "{userId}", "{user.id}", "{a,b}", "{+a}", "{#a}", "{.a}", "{/a}", "{;a}", "{?a,b*}",
    "{&a}", "{a:3}", "{a:9999}", "{/a*}", "{_a}", "{1}", "{%41b}", "a%20b", "a'b", "ü",
    "{a}{b}", "x?q={q}#{f}",
]  # fmt: skip


@pytest.mark.parametrize("text", NONE)
def test_what_is_no_template_is_refused_with_the_remedy(text: str) -> None:
    found = uri_templates.problem(AT + text)
    assert found is not None
    assert "write " in found


@pytest.mark.parametrize("text", GOOD)
def test_what_is_one_passes_and_has_the_variables_that_are_filled_in(text: str) -> None:
    assert uri_templates.problem(AT + text) is None
    names = [variable.name for variable in uri_templates.variables(AT + text)]
    assert list(dict.fromkeys(names)) == list(uritemplate.URITemplate(AT + text).variable_names)


@given(st.text("{}/?#+.;&=,*:ab1% ü"))
def test_any_text_is_refused_or_has_no_brace_left(text: str) -> None:
    if uri_templates.problem(text) is None:
        values = {variable.name: "v" for variable in uri_templates.variables(text)}
        assert not set("{}") & set(uritemplate.URITemplate(text).expand(values))


# --- where a definition may have one ------------------------------------------------------------

BAD = "https://shop.example/users/{{ .id }}"
GET: JsonObject = {"method": "get", "endpoint": "https://shop.example"}
TOKEN = {
    "grant": "client_credentials",
    "client": {"id": "a", "secret": "b"},
    "authority": "https://i",
}


def http(**more: Any) -> JsonObject:
    return {"call": "http", "with": {**GET, **more}}


def access(scheme: str, **more: Any) -> JsonObject:
    return {"uri": "https://shop.example", "authentication": {scheme: {**TOKEN, **more}}}


def openapi(endpoint: Any) -> JsonObject:
    return {"call": "openapi", "with": {"document": {"endpoint": endpoint}, "operationId": "o"}}


def event(**more: Any) -> JsonObject:
    return {"emit": {"event": {"with": {"type": "a.b", **more}}}}


def document(task: JsonObject, **use: Any) -> JsonObject:
    return {"document": HEADER, "do": [{"t": task}], "use": use}


@pytest.mark.parametrize(
    ("task", "pointer"),
    [
        (http(endpoint=BAD), "/with/endpoint"),
        (http(endpoint={"uri": BAD}), "/with/endpoint/uri"),
        (openapi(BAD), "/with/document/endpoint"),
        (openapi({"uri": BAD}), "/with/document/endpoint/uri"),
        (http(endpoint=access("oauth2", authority=BAD)), "/oauth2/authority"),
        (http(endpoint=access("oidc", authority=BAD)), "/oidc/authority"),
        (http(endpoint=access("oauth2", endpoints={"token": "/{t}"})), "/oauth2/endpoints/token"),
        (event(source=BAD), "/with/source"),
        (event(dataschema=BAD), "/with/dataschema"),
        ({"listen": {"to": {"one": {"with": {"source": BAD}}}}}, "/with/source"),
        ({"raise": {"error": {"type": BAD, "status": 400}}}, "/error/type"),
        ({**openapi(GET["endpoint"]), "metadata": {"wf": {"server": BAD}}}, "/metadata/wf/server"),
    ],
)
def test_each_place_of_a_definition_refuses_it(task: JsonObject, pointer: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        parse(document(task), "f")
    (problem,) = caught.value.problems
    assert f"{pointer}: " in problem


def test_the_reusable_parts_refuse_it_too() -> None:
    with pytest.raises(DefinitionError) as caught:
        parse(
            document(
                {"set": {}},
                functions={"f": http(endpoint=BAD)},
                authentications={"a": {"oauth2": {**TOKEN, "authority": BAD}}},
                errors={"e": {"type": BAD, "status": 400}},
            ),
            "f",
        )
    text = "\n".join(caught.value.problems)
    for place in ("/use/functions/f", "/use/authentications/a", "/use/errors/e"):
        assert place in text


@pytest.mark.parametrize("uri", [BAD, "https://h/{}", "https://h/{=a}", "https://h/{a:x}"])
def test_a_definition_that_is_registered_is_let_pass(uri: str) -> None:
    assert parse(document(http(endpoint=uri)), "f", registered=True).name == HEADER["name"]


# --- what a path variable needs -----------------------------------------------------------------


def refusal(uri: str, variables: JsonObject) -> str:
    with pytest.raises(ActivityError) as caught:
        requests.uri(uri, variables, None)
    assert (caught.value.type or "").endswith("/validation")
    assert caught.value.status == 400
    return caught.value.detail


@pytest.mark.parametrize("operator", ["", "+", "/", ".", ";"])
@pytest.mark.parametrize("value", [None, "", ".", "..", [], {}, [None]])
def test_a_path_variable_without_a_value_is_an_error(operator: str, value: Any) -> None:
    if value in ([], {}, [None]) and operator in ("", "+"):
        operator = "/"  # those take no lists, which is another error
    uri = f"https://shop.example/users{{{operator}id}}/orders?page={{page}}"
    assert "`id`" in refusal(uri, {"id": value, "page": 1})
    assert "`id`" in refusal(uri, {"page": 1})


def test_all_that_are_missing_are_named_at_once() -> None:
    found = refusal("https://{host}/users/{id}/{user.name}", {"host": None})
    assert "`host` is missing or null; `id` is missing or null; `user.name`" in found
    assert "a dot does not go deeper" in found


@pytest.mark.parametrize(
    ("uri", "variables", "made"),
    [
        ("https://h/u/{id}", {"id": 0}, "https://h/u/0"),
        ("https://h/u/{id}", {"id": False}, "https://h/u/false"),
        ("https://h/u/{id}", {"id": "..a"}, "https://h/u/..a"),
        ("https://h/u/{user.id}", {"user.id": 7}, "https://h/u/7"),
        ("https://h/u{?a,b}", {"a": None}, "https://h/u"),
        ("https://h/u?q={q}", {"q": None}, "https://h/u?q="),
        ("https://h/u?x{&a}", {"a": None}, "https://h/u?x"),
        ("https://h/u{#part}", {"part": None}, "https://h/u"),
        ("https://h/u{/parts*}", {"parts": ["a", "b"]}, "https://h/u/a/b"),
    ],
)
def test_others_go_as_they_are_and_null_is_left_out(
    uri: str, variables: JsonObject, made: str
) -> None:
    assert requests.uri(uri, variables, None) == made
