"""From an OpenAPI document and values to a plain HTTP request: pure, and total on any JSON."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wf.builtin.openapi import calls
from wf.builtin.openapi.operations import Operation, read_document
from wf.builtin.openapi.references import UnusableDocument
from wf.errors import ActivityError

JsonObject = dict[str, Any]
AT = "https://pets.example/docs/pets.json"


def document(operation: JsonObject, path: str = "/pets", **more: Any) -> JsonObject:
    paths = {path: {"get": {"operationId": "it", **operation}}}
    return {"openapi": "3.1.0", "paths": paths, **more}


def operation(found: JsonObject, uri: str = AT) -> Operation:
    return calls.operation_of(read_document(uri, found), "it")


def made(found: JsonObject, parameters: Any = None, named: str | None = None) -> JsonObject:
    read = read_document(AT, found)
    one = calls.operation_of(read, "it")
    return calls.request_of(one, calls.where_of(read, one, named), parameters)


def refusal(found: JsonObject, parameters: Any = None) -> str:
    with pytest.raises(ActivityError) as caught:
        made(found, parameters)
    return caught.value.detail


def one(place: str, **more: Any) -> JsonObject:
    return {"name": "v", "in": place, **more}


# --- styles -----------------------------------------------------------------------------------

ARRAY, OBJECT = ["blue", "a b"], {"R": 100, "G": "2/0"}


@pytest.mark.parametrize(
    ("style", "explode", "value", "path"),
    [
        (None, None, "a/b", "/a%2Fb"),
        (None, None, ARRAY, "/blue,a%20b"),
        (None, None, OBJECT, "/R,100,G,2%2F0"),
        ("simple", True, OBJECT, "/R=100,G=2%2F0"),
        ("label", None, "x", "/.x"),
        ("label", False, ARRAY, "/.blue,a%20b"),
        ("label", True, ARRAY, "/.blue.a%20b"),
        ("label", True, OBJECT, "/.R=100.G=2%2F0"),
        ("matrix", None, "x", "/;v=x"),
        ("matrix", False, ARRAY, "/;v=blue,a%20b"),
        ("matrix", True, ARRAY, "/;v=blue;v=a%20b"),
        ("matrix", False, OBJECT, "/;v=R,100,G,2%2F0"),
        ("matrix", True, OBJECT, "/;R=100;G=2%2F0"),
    ],
)
def test_styles_of_paths(style: str | None, explode: bool | None, value: Any, path: str) -> None:
    given = {"style": style, "explode": explode}
    parameter = one("path", **{key: value for key, value in given.items() if value is not None})
    found = made(document({"parameters": [parameter]}, "/{v}"), {"v": value})
    assert found["uri"] == "https://pets.example" + path


@pytest.mark.parametrize(
    ("more", "value", "query"),
    [
        ({}, "a&b", "v=a%26b"),
        ({}, True, "v=true"),
        ({}, "", "v="),
        ({}, ARRAY, "v=blue&v=a%20b"),
        ({}, [], ""),
        ({}, None, ""),
        ({}, ["a", None], "v=a"),
        ({}, OBJECT, "R=100&G=2%2F0"),
        ({"explode": False}, ARRAY, "v=blue,a%20b"),
        ({"explode": False}, [], ""),
        ({"explode": False}, OBJECT, "v=R,100,G,2%2F0"),
        ({"style": "spaceDelimited"}, ARRAY, "v=blue%20a%20b"),
        ({"style": "pipeDelimited"}, ARRAY, "v=blue%7Ca%20b"),
        ({"style": "pipeDelimited", "explode": True}, ARRAY, "v=blue&v=a%20b"),
        ({"style": "deepObject"}, {"a": 1, "b": {"c": "x"}}, "v%5Ba%5D=1&v%5Bb%5D%5Bc%5D=x"),
        ({"allowReserved": True}, "/a?b&c#d%20", "v=/a?b%26c%23d%2520"),
        ({"content": {"application/json": {}}}, {"a": [1]}, "v=%7B%22a%22%3A%5B1%5D%7D"),
    ],
)
def test_styles_of_queries(more: JsonObject, value: Any, query: str) -> None:
    found = made(document({"parameters": [one("query", **more)]}), {"v": value})
    assert found["uri"] == "https://pets.example/pets" + (f"?{query}" if query else "")


@pytest.mark.parametrize(
    ("more", "value", "header"),
    [
        ({}, "a b", "a b"),
        ({}, ARRAY, "blue,a b"),
        ({}, OBJECT, "R,100,G,2/0"),
        ({"explode": True}, OBJECT, "R=100,G=2/0"),
    ],
)
def test_styles_of_headers(more: JsonObject, value: Any, header: str) -> None:
    found = made(document({"parameters": [one("header", **more)]}), {"v": value})
    assert found["headers"] == {"v": header}


def test_cookies_take_text_and_what_is_not_exploded() -> None:
    flat = {"name": "w", "in": "cookie", "explode": False}
    found = document({"parameters": [one("cookie"), flat]})
    assert made(found, {"v": "a;b", "w": [1, 2]})["headers"] == {"cookie": "v=a%3Bb; w=1,2"}
    assert "no form in a cookie" in refusal(found, {"v": [1]})


@pytest.mark.parametrize(
    ("parameter", "value", "words"),
    [
        (one("query"), [[1]], "no style can write that"),
        (one("query", style="deepObject"), "x", "must be an object"),
        (one("query", style="deepObject"), {"a": [1]}, "has a list in it"),
        (one("query", style="matrix"), 1, "its style 'matrix' is none of form"),
        (one("query", content={"text/xml": {}}), 1, "text/xml cannot be written"),
    ],
)
def test_what_no_style_can_write_is_refused_by_name(
    parameter: JsonObject, value: Any, words: str
) -> None:
    told = refusal(document({"parameters": [parameter]}), {"v": value})
    assert "`v`" in told
    assert words in told


@pytest.mark.parametrize("value", ["", ".", "..", [], {}, [""]])
def test_a_path_parameter_cannot_make_another_path(value: Any) -> None:
    assert "would be that of something else" in refusal(
        document({"parameters": [one("path")]}, "/pets/{v}/toys"), {"v": value}
    )


@given(st.text(min_size=1, max_size=20).filter(lambda text: text.strip(".;")))
def test_any_text_comes_back_from_where_it_was_put(text: str) -> None:
    places = [{"name": place, "in": place} for place in ("path", "query")]
    found = made(document({"parameters": places}, "/a/{path}/b"), {"path": text, "query": text})
    parts = urlsplit(found["uri"])
    assert [unquote(part) for part in parts.path.split("/")] == ["", "a", text, "b"]
    assert parse_qsl(parts.query, keep_blank_values=True) == [("query", text)]
    assert httpx.URL(found["uri"]).raw_path.decode() == f"{parts.path}?{parts.query}"


# --- parameters -------------------------------------------------------------------------------


def test_everything_that_does_not_fit_is_said_at_once() -> None:
    parameters = [one("path"), {"name": "q", "in": "query", "required": True}]
    body = {"required": True, "content": {"application/json": {}}}
    told = refusal(
        document({"parameters": parameters, "requestBody": body}, "/{v}"), {"w": 1, "q": None}
    )
    for words in ("`w` is no parameter", "`v` (path) is missing", "`q` (query) is missing"):
        assert words in told
    assert "`body` (the request's body) is missing" in told


def test_a_name_in_two_places_is_written_with_its_place() -> None:
    found = document({"parameters": [one("path"), one("query")]}, "/{v}")
    told = refusal(found, {"v": 1})
    assert "write `path.v` or `query.v`" in told
    assert "`path.v` (path) is missing" in told
    assert made(found, {"path.v": 1, "query.v": 2})["uri"] == "https://pets.example/1?v=2"


def test_the_body_goes_before_a_parameter_of_that_name() -> None:
    parameter = {"name": "body", "in": "query"}
    body = {"content": {"application/json": {}}}
    found = made(
        document({"parameters": [parameter], "requestBody": body}), {"body": 1, "query.body": 2}
    )
    assert (found["body"], urlsplit(found["uri"]).query) == ("1", "body=2")


def test_a_parameter_that_is_given_under_two_names_is_refused() -> None:
    found = document({"parameters": [one("query")]})
    assert "`query.v` is given twice" in refusal(found, {"v": 1, "query.v": 2})


def test_own_parameters_go_before_those_of_the_path() -> None:
    found = document({"parameters": [one("query", explode=False)]})
    found["paths"]["/pets"]["parameters"] = [one("query"), one("header")]
    assert made(found, {"query.v": [1, 2]})["uri"].endswith("?v=1,2")


def test_headers_that_openapi_leaves_out_are_not_parameters() -> None:
    parameters = [{"name": "Authorization", "in": "header", "required": True}]
    found = document({"parameters": parameters})
    assert made(found)["headers"] == {}
    assert "use `authentication`" in refusal(found, {"Authorization": "x"})


def test_api_keys_that_the_operation_takes_may_be_given() -> None:
    schemes = {"a": {"type": "apiKey", "in": "query", "name": "key"}, "b": {"type": "http"}}
    found = document({}, security=[{"a": [], "b": []}], components={"securitySchemes": schemes})
    assert made(found, {"key": "x"})["uri"].endswith("?key=x")
    found["paths"]["/pets"]["get"]["security"] = []
    assert "`key` is no parameter" in refusal(found, {"key": "x"})


# --- bodies -----------------------------------------------------------------------------------

FORM = "application/x-www-form-urlencoded"


@pytest.mark.parametrize(
    ("contents", "value", "kind", "text"),
    [
        ({"application/json": {}}, "text", "application/json", '"text"'),
        ({"application/vnd.x+json; v=1": {}}, [1], "application/vnd.x+json", "[1]"),
        ({"*/*": {}}, {"a": 1}, "application/json", '{"a":1}'),
        ({"text/xml": {}, "application/json": {}}, "<a/>", "text/xml", "<a/>"),
        ({"text/xml": {}, "application/json": {}}, {"a": 1}, "application/json", '{"a":1}'),
        ({"text/*": {}}, "x", "text/plain; charset=utf-8", "x"),
        ({FORM: {}}, {"a": [1, "x y"], "b": None}, FORM, "a=1&a=x%20y"),
        ({FORM: {"encoding": {"a": {"explode": False}}}}, {"a": [1, 2]}, FORM, "a=1,2"),
        ({FORM: {"encoding": {"a": {"style": "deepObject"}}}}, {"a": {"b": 1}}, FORM, "a%5Bb%5D=1"),
        (
            {FORM: {"encoding": {"a": {"contentType": "application/json"}}}},
            {"a": [1]},
            FORM,
            "a=%5B1%5D",
        ),
    ],
)
def test_a_body_is_written_as_the_first_type_that_can_carry_it(
    contents: JsonObject, value: Any, kind: str, text: str
) -> None:
    found = made(document({"requestBody": {"content": contents}}), {"body": value})
    assert (found["headers"]["content-type"], found["body"]) == (kind, text)


def test_a_body_that_no_type_can_carry_is_refused_with_the_types() -> None:
    contents = {"multipart/form-data": {}, "text/plain": {}}
    told = refusal(document({"requestBody": {"content": contents}}), {"body": {"a": 1}})
    assert "multipart/form-data, text/plain" in told


def test_an_operation_without_a_body_takes_none() -> None:
    assert "`body` is no parameter of it: it has none" in refusal(document({}), {"body": 1})


# --- references -------------------------------------------------------------------------------


def test_references_are_followed_within_the_document() -> None:
    components = {
        "parameters": {"a~/ b": {"$ref": "#/components/x/0"}},
        "x": [one("query")],
        "pathItems": {"p": {"get": {"operationId": "it", "parameters": []}}},
    }
    found = document({}, components=components)
    found["paths"] = {
        "/pets": {
            "$ref": "#/components/pathItems/p",
            "parameters": [{"$ref": "#/components/parameters/a~0~1%20b"}],
        }
    }
    assert made(found, {"v": 1})["uri"] == "https://pets.example/pets?v=1"


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("#/components/a", "leads back to itself"),
        ("#/components/c/0", "more than 32 references"),
        ("#/nowhere", "leads nowhere"),
        ("#/components/c/99", "leads nowhere"),
        ("#/components/c/-1", "leads nowhere"),
        ("#anchor", "no JSON pointer"),
        ("other.json#/x", "refers to another document"),
        ("https://elsewhere/x.json", "refers to another document"),
        (5, "refers to another document"),
    ],
)
def test_references_that_cannot_be_followed_are_refused(reference: Any, words: str) -> None:
    long = [{"$ref": f"#/components/c/{index + 1}"} for index in range(40)]
    components = {
        "a": {"$ref": "#/components/b"},
        "b": {"$ref": "#/components/a"},
        "c": [*long, one("query")],
    }
    found = document({"parameters": [{"$ref": reference}]}, components=components)
    found["paths"]["/other"] = {"get": {"operationId": "fine"}}
    assert words in refusal(found)
    assert isinstance(read_document(AT, found).operations["fine"], Operation)


def test_a_path_that_cannot_be_read_is_told_when_an_operation_is_missed() -> None:
    found = document({})
    found["paths"]["/far"] = {"$ref": "far.json"}
    with pytest.raises(ActivityError) as caught:
        calls.operation_of(read_document(AT, found), "far")
    assert "1 paths were not read: /far: " in caught.value.detail


def test_a_small_document_that_stands_for_a_large_one_is_refused() -> None:
    many = [{"$ref": "#/components/p"}] * 2_000
    components = {"p": one("query")}
    found: JsonObject = {"openapi": "3.0.0", "components": components, "paths": {}}
    shared = {"operationId": "x", "parameters": many}
    for number in range(1_000):
        found["paths"][f"/{number}"] = {"get": {**shared, "operationId": str(number)}}
    with pytest.raises(UnusableDocument, match="too large once its references are followed"):
        read_document(AT, found)


# --- operations and servers -------------------------------------------------------------------


def test_an_id_that_two_operations_have_is_refused() -> None:
    found = document({})
    found["paths"]["/other"] = {"put": {"operationId": "it"}}
    assert "more than one operation" in refusal(found)


@pytest.mark.parametrize("path", ["/{gone}", "/{gone", "/gone}"])
def test_a_path_that_has_no_such_parameter_is_refused(path: str) -> None:
    assert "its path" in refusal(document({}, path))


@pytest.mark.parametrize(
    ("servers", "uri"),
    [
        ([], "https://pets.example/pets"),
        (["/"], "https://pets.example/pets"),
        (["/v2/"], "https://pets.example/v2/pets"),
        (["v2"], "https://pets.example/docs/v2/pets"),
        (["HTTPS://pets.example:443/v3", "https://other"], "https://pets.example:443/v3/pets"),
        (["//pets.example/x"], "https://pets.example/x/pets"),
    ],
)
def test_servers_are_relative_to_the_document(servers: list[str], uri: str) -> None:
    found = document({}, servers=[{"url": url} for url in servers])
    assert made(found)["uri"].replace("HTTPS", "https") == uri


def test_the_innermost_servers_count_with_the_defaults_of_their_variables() -> None:
    variables = {"v": {"default": "v7"}, "n": {"default": 8}}
    found = document(
        {"servers": [{"url": "/{v}/{n}", "variables": variables}]}, servers=[{"url": "/outer"}]
    )
    assert made(found)["uri"] == "https://pets.example/v7/8/pets"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://pets.example/", "another origin"),
        ("https://pets.example:8443/", "another origin"),
        ("https://evil.example/", "another origin"),
        ("//evil.example", "another origin"),
        ("https://pets.example@evil.example/", "no query, fragment or user"),
        ("https://u:p@pets.example/", "no query, fragment or user"),
        ("/v1?key=x", "no query"),
        ("ftp://pets.example/", "must begin with http"),
        ("https://{host}/", "no default for {host}"),
        ("https://[bad/", "is no URL"),
        ("https://pets.example:99999/", "is no URL"),
        (5, "has no `url`"),
    ],
)
def test_other_servers_are_left_to_the_definition(url: Any, words: str) -> None:
    found = document({}, servers=[{"url": url}])
    told = refusal(found)
    assert words in told
    assert "metadata: {wf: {server:" in told
    assert made(found, named="http://mine/api/")["uri"] == "http://mine/api/pets"


def test_the_user_in_the_documents_address_does_not_go_to_its_operations() -> None:
    read = read_document("https://u:secret@pets.example/pets.json?token=t", document({}))
    assert calls.where_of(read, calls.operation_of(read, "it"), None) == "https://pets.example/"


# --- Swagger 2 --------------------------------------------------------------------------------


def swagger(*parameters: JsonObject, path: str = "/pets", **more: Any) -> JsonObject:
    operation = {"operationId": "it", "parameters": list(parameters)}
    return {"swagger": "2.0", "paths": {path: {"post": operation}}, **more}


@pytest.mark.parametrize(
    ("more", "uri"),
    [
        ({}, "https://pets.example/pets"),
        ({"basePath": "/v2", "schemes": ["http", "https"]}, "https://pets.example/v2/pets"),
        ({"host": "pets.example", "basePath": "/v2/"}, "https://pets.example/v2/pets"),
    ],
)
def test_the_server_of_swagger(more: JsonObject, uri: str) -> None:
    assert made(swagger(**more))["uri"] == uri


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"host": "pets.example:8080"}, "another origin"),
        ({"schemes": ["http"]}, "another origin"),
        ({"schemes": ["wss"]}, "neither http nor https"),
        ({"host": "a@evil.example"}, "is none"),
        ({"host": "evil.example/x?"}, "is none"),
    ],
)
def test_other_servers_of_swagger_are_left_to_the_definition(more: JsonObject, words: str) -> None:
    assert words in refusal(swagger(**more))


@pytest.mark.parametrize(
    ("collection", "query"),
    [(None, "v=a,b"), ("ssv", "v=a%20b"), ("tsv", "v=a%09b"), ("pipes", "v=a%7Cb"),
     ("multi", "v=a&v=b")],
)  # fmt: skip
def test_collection_formats(collection: str | None, query: str) -> None:
    parameter = one("query") if collection is None else one("query", collectionFormat=collection)
    assert made(swagger(parameter), {"v": ["a", "b"]})["uri"].endswith(f"?{query}")


def test_a_form_of_swagger_is_sent_and_a_file_is_not() -> None:
    file = {"name": "f", "in": "formData", "type": "file"}
    found = swagger(one("formData"), file, consumes=[FORM])
    request = made(found, {"v": "x y"})
    assert (request["headers"], request["body"]) == ({"content-type": FORM}, "v=x%20y")
    assert "files cannot be sent" in refusal(found, {"f": "x"})
    assert "only application/x-www-form" in refusal(
        swagger(one("formData"), consumes=["multipart/form-data"]), {"v": 1}
    )


def test_the_body_of_swagger_has_a_name_of_its_own() -> None:
    found = swagger({"name": "pet", "in": "body", "required": True})
    assert made(found, {"pet": {"a": 1}})["body"] == made(found, {"body": {"a": 1}})["body"]
    assert "`pet` (the request's body) is missing" in refusal(found)
    assert "given twice" in refusal(found, {"pet": 1, "body": 2})
