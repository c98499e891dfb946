"""Any JSON as an OpenAPI document, any JSON as parameters: a request, or a refusal."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from hypothesis import given
from hypothesis import strategies as st

from wf.builtin.openapi import calls
from wf.builtin.openapi.bodies import FORM
from wf.builtin.openapi.operations import Document, read_document
from wf.builtin.openapi.references import UnusableDocument
from wf.errors import ActivityError

JsonObject = dict[str, Any]
AT = "https://pets.example/docs/pets.json"

scalars = st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(max_size=8)
anything = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=12,
)
references = st.sampled_from(
    [{"$ref": f"#/components/x/{index}"} for index in range(3)] + [{"$ref": "#"}, {"$ref": "x"}]
)


def rarely(strategy: Any) -> Any:
    """Mostly what fits, now and then any JSON."""
    return st.integers(0, 9).flatmap(lambda chance: strategy if chance else anything | references)


parameter_objects = st.fixed_dictionaries(
    {"name": st.sampled_from(["a", "b", "body", "Accept"]),
     "in": st.sampled_from(["path", "query", "header", "cookie"] * 3 + ["formData", "body", "x"])},
    optional={"style": rarely(st.sampled_from(["form", "label", "matrix", "deepObject"])),
              "explode": rarely(st.booleans()), "required": rarely(st.booleans()),
              "content": rarely(st.just({"application/json": {}})), "allowReserved": st.just(True),
              "collectionFormat": rarely(st.sampled_from(["multi", "pipes"])),
              "type": rarely(st.sampled_from(["file", "string"]))},
)  # fmt: skip
contents = st.dictionaries(st.sampled_from(["application/json", FORM, "*/*"]), anything)
operations = st.fixed_dictionaries(
    {"operationId": st.just("it")},
    optional={
        "parameters": rarely(st.lists(rarely(parameter_objects), max_size=3)),
        "requestBody": rarely(st.fixed_dictionaries({"content": rarely(contents)})),
        "servers": rarely(st.lists(st.fixed_dictionaries({"url": rarely(st.just("/"))}))),
        "responses": st.dictionaries(st.sampled_from(["200", "x"]), anything, max_size=2),
        "security": rarely(st.just([{"x": []}])), "consumes": rarely(st.just([FORM])),
        "produces": anything, "schemes": anything,
    },
)  # fmt: skip
items = st.fixed_dictionaries(
    {"get": rarely(operations)},
    optional={"parameters": rarely(st.lists(parameter_objects, max_size=2))},
)
rest = st.fixed_dictionaries(
    {"paths": st.dictionaries(st.sampled_from(["/x", "/y", "/{a}"]), items, min_size=1)},
    optional={
        "components": st.fixed_dictionaries(
            {"x": st.lists(rarely(parameter_objects | items), max_size=3)}
        ),
        "servers": anything, "host": anything, "basePath": anything, "security": anything,
        "securityDefinitions": anything, "consumes": anything,
    },
)  # fmt: skip
versions = st.sampled_from([{"openapi": "3.0.0"}, {"openapi": "3.1.1"}, {"swagger": "2.0"}])
documents = st.builds(lambda version, more: {**more, **version}, versions, rest)


@given(rarely(documents), st.dictionaries(st.sampled_from(["a", "b", "body", "c"]), anything))
def test_whatever_a_document_says_it_is_a_request_to_its_server_or_a_refusal(
    found: Any, parameters: JsonObject
) -> None:
    try:
        read = read_document(AT, found)
    except UnusableDocument:
        return
    assert isinstance(read, Document)
    for name in ("it", "gone"):
        try:
            one = calls.operation_of(read, name)
            request = calls.request_of(one, "https://api.example/v1", parameters)
        except ActivityError:
            continue
        path = urlsplit(request["uri"]).path
        assert request["uri"].startswith("https://api.example/v1")
        assert not {".", ".."} & set(path.split("/"))
        assert isinstance(request["body"], str | None)
        assert all(isinstance(text, str) for text in request["headers"].values())
