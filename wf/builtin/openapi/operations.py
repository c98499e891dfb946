"""The operations of a document: OpenAPI 3.0 and 3.1, and Swagger 2.0.

Read once per document, and only what a call needs of them, so that little is kept. What is wrong
with one operation does not keep the others from being called.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from wf.builtin.openapi import servers
from wf.builtin.openapi.bodies import FORM, Body, body_of, is_json, media_type, swagger_body
from wf.builtin.openapi.parameters import (
    Parameter,
    keys_of,
    parameter,
    parameters_of,
    swagger_parameter,
)
from wf.builtin.openapi.references import JsonObject, Root, UnusableDocument, listed, mapping

METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")


@dataclass(frozen=True, slots=True)
class Operation:
    method: str  # in upper case
    path: str
    server: str  # an address; empty when there is none, then `no_server` says why
    no_server: str
    parameters: tuple[Parameter, ...]
    body: Body | None
    accept: str  # what the header says; empty: nothing


@dataclass(frozen=True, slots=True)
class Document:
    """What is kept of a document that was fetched from `uri`."""

    uri: str
    operations: dict[str, Operation | str] = field(default_factory=dict)  # a text: what is wrong
    unread: tuple[str, ...] = ()  # what kept paths from being read
    weight: int = 0  # how much was looked at to read it


def read_document(uri: str, document: Any) -> Document:
    """Raises UnusableDocument when it is no document that we know."""
    if not isinstance(document, dict):
        raise UnusableDocument("it is no OpenAPI document: an object with the key `openapi`")
    swagger = _is_swagger(document)
    root, base = Root(document), servers.base_of(uri)
    operations: dict[str, Operation | str] = {}
    unread: list[str] = []
    for path, given in mapping(document.get("paths")).items():
        try:
            item = {**root.resolve(given), **_beside(given)}
        except UnusableDocument as fault:
            if root.exhausted:
                raise
            unread.append(f"{path}: {fault}")
            continue
        for method in METHODS:
            one = item.get(method)
            if not isinstance(one, dict) or not isinstance(one.get("operationId"), str):
                continue
            name = one["operationId"]
            if name in operations:
                operations[name] = "more than one operation of the document has this id"
                continue
            try:
                read = _swagger if swagger else _openapi
                operations[name] = read(root, base, path, method, item, one)
            except UnusableDocument as fault:
                if root.exhausted:
                    raise
                operations[name] = str(fault)
    return Document(uri, operations, tuple(unread), root.spent)


def _is_swagger(document: JsonObject) -> bool:
    version = str(document.get("openapi", document.get("swagger", "")))
    if "openapi" in document and (version + ".").startswith(("3.0.", "3.1.")):
        return False
    if "openapi" not in document and version in ("2.0", "2"):
        return True
    if version:
        raise UnusableDocument(f"OpenAPI {version:.20} is not known here: 3.0, 3.1 and 2.0 are")
    raise UnusableDocument("it is no OpenAPI document: the key `openapi` is missing")


def _beside(item: Any) -> JsonObject:
    """What stands beside a `$ref` of a path counts too."""
    return {key: value for key, value in mapping(item).items() if key != "$ref"}


def _openapi(
    root: Root, base: str, path: str, method: str, item: JsonObject, operation: JsonObject
) -> Operation:
    found = [parameter(one) for one in parameters_of(root, item, operation, swagger=False)]
    parameters = _with_keys(found, keys_of(root, operation))
    _check_path(path, parameters)
    levels = (operation.get("servers"), item.get("servers"), root.document.get("servers"))
    server, no_server = _where(lambda: servers.server(base, *levels))
    body = body_of(root, operation.get("requestBody"))
    kinds: list[str] = []
    for status, response in mapping(operation.get("responses")).items():
        if str(status).startswith("2"):
            kinds += _kinds(root, response)
    return Operation(method.upper(), path, server, no_server, parameters, body, _accept(kinds))


def _swagger(
    root: Root, base: str, path: str, method: str, item: JsonObject, operation: JsonObject
) -> Operation:
    document = root.document
    consumes = listed(operation.get("consumes", document.get("consumes")))
    found: list[Parameter | None] = []
    body: Body | None = None
    for one in parameters_of(root, item, operation, swagger=True):
        if one["in"] == "body":
            body = swagger_body(one, consumes)
        else:
            found.append(swagger_parameter(one))
    parameters = _with_keys(found, keys_of(root, operation))
    _check_path(path, parameters)
    if any(one.place == "form" for one in parameters):
        kinds = [media_type(kind) for kind in consumes if isinstance(kind, str)]
        if kinds and FORM not in kinds:
            raise UnusableDocument(
                f"its form is sent as {', '.join(kinds):.200}, and only {FORM} is known here: use"
                " an activity"
            )
    server, no_server = _where(lambda: servers.swagger_server(base, document, operation))
    produces = listed(operation.get("produces", document.get("produces")))
    accept = _accept([kind for kind in produces if isinstance(kind, str)])
    return Operation(method.upper(), path, server, no_server, parameters, body, accept)


def _with_keys(found: list[Parameter | None], keys: list[Parameter]) -> tuple[Parameter, ...]:
    own = [one for one in found if one is not None]
    named = {one.qualified.lower() for one in own}
    return (*own, *(key for key in keys if key.qualified.lower() not in named))


def _where(find: Any) -> tuple[str, str]:
    """A server that is no use matters only to a call that goes there."""
    try:
        return find(), ""
    except UnusableDocument as fault:
        return "", str(fault)


def _check_path(path: str, parameters: tuple[Parameter, ...]) -> None:
    named = {one.name for one in parameters if one.place == "path"}
    pieces = path.replace("}", "{").split("{")
    missing = [name for name in pieces[1::2] if name not in named]
    if missing or len(pieces) % 2 == 0:
        what = f"names {{{missing[0]:.50}}}, which no parameter is" if missing else "lacks a brace"
        raise UnusableDocument(f"its path {path:.200} {what}")


def _kinds(root: Root, response: Any) -> list[str]:
    try:
        content = mapping(root.resolve(response).get("content"))
        root.spend(len(content))
    except UnusableDocument:
        if root.exhausted:
            raise
        return []  # what an answer would be is not needed
    return [str(kind) for kind in content]


def _accept(kinds: list[str]) -> str:
    """JSON before anything else, when the service offers both."""
    found = dict.fromkeys(media_type(kind) for kind in kinds)
    json = [kind for kind in found if is_json(kind)]
    return ", ".join([*json, "*/*;q=0.5"]) if json else ""
