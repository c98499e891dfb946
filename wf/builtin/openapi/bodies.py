"""The body of a request: which media type carries a value, and how."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import orjson

from wf.builtin.http import failures
from wf.builtin.openapi import styles
from wf.builtin.openapi.parameters import Parameter, styled
from wf.builtin.openapi.references import JsonObject, Root, mapping

FORM = "application/x-www-form-urlencoded"


@dataclass(frozen=True, slots=True)
class Content:
    """One media type, and how the fields of a form are written where the document says so."""

    kind: str
    fields: dict[str, Parameter] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Body:
    """The request body. `names`: what it may be called among the parameters."""

    names: tuple[str, ...]
    required: bool
    contents: tuple[Content, ...]


def body_of(root: Root, given: Any) -> Body | None:
    """That of a `requestBody` (OpenAPI 3)."""
    if given is None:
        return None
    found = root.resolve(given)
    contents = []
    for kind, value in mapping(found.get("content")).items():
        root.spend()
        encodings = mapping(mapping(value).get("encoding"))
        contents.append(Content(media_type(kind), _fields(root, encodings)))
    return Body(("body",), found.get("required") is True, tuple(contents))


def swagger_body(one: JsonObject, consumes: list[Any]) -> Body:
    """That of the parameter `in: body` (Swagger 2), which has a name of its own as well."""
    names = tuple(dict.fromkeys(("body", str(one["name"]))))
    kinds = [media_type(kind) for kind in consumes if isinstance(kind, str)]
    contents = tuple(Content(kind) for kind in kinds or ["application/json"])
    return Body(names, one.get("required") is True, contents)


def media_type(kind: str) -> str:
    """In lower case, without its parameters."""
    return kind.partition(";")[0].strip().lower()


def is_json(kind: str) -> bool:
    return kind == "application/json" or kind.endswith("+json")


def written(body: Body, value: Any) -> tuple[str, str]:
    """(content type, text) of a body: the first media type that can carry it, in the document's
    order. Raises ActivityError."""
    for content in body.contents:
        kind = content.kind
        if is_json(kind):
            return kind, orjson.dumps(value).decode()
        if kind in ("*/*", "application/*"):
            return "application/json", orjson.dumps(value).decode()
        if kind == FORM and isinstance(value, dict):
            return kind, form(value, content.fields)
        if isinstance(value, str) and not kind.startswith("multipart/"):
            return ("text/plain; charset=utf-8" if kind == "text/*" else kind), value
    kinds = ", ".join(content.kind for content in body.contents) or "nothing"
    raise failures.wrong_value(
        f"the body cannot be written as {kinds}: give an object for JSON and forms, a string for"
        " anything else; multipart is not supported: use an activity"
    )


def form(value: JsonObject, fields: dict[str, Parameter]) -> str:
    """A form: of a list one pair per item, unless the document says otherwise."""
    pairs: list[str] = []
    for name, one in value.items():
        if one is not None:
            given = fields.get(name) or Parameter(name, "form", explode=True)
            pairs += styles.in_query(given, one)
    return "&".join(pairs)


def _fields(root: Root, encodings: JsonObject) -> dict[str, Parameter]:
    found = {}
    for name, encoding in encodings.items():
        root.spend()
        one = mapping(encoding)
        style, explode, delimiter, refused = styled(one, "query")
        json = is_json(media_type(str(one.get("contentType", "")))) and "style" not in one
        found[name] = Parameter(
            name, "form", False, style, explode, delimiter, False, json, refused
        )
    return found
