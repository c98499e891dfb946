"""From an operation and the values of its parameters to a plain HTTP request."""

from __future__ import annotations

import re
from typing import Any

from wf.builtin.http import failures
from wf.builtin.openapi import bodies, servers, styles
from wf.builtin.openapi.operations import Document, Operation
from wf.builtin.openapi.parameters import UNHEARD, Parameter
from wf.builtin.openapi.references import JsonObject
from wf.settings.problems import suggestion

_TEMPLATE = re.compile(r"\{([^{}]*)\}")


def operation_of(document: Document, name: Any) -> Operation:
    """The operation with that id. Raises ActivityError."""
    if not isinstance(name, str):
        raise failures.wrong_value("`operationId` must be a string")
    found = document.operations.get(name)
    if isinstance(found, Operation):
        return found
    if found is not None:
        raise failures.misconfigured(
            f"the operation {name} of {document.uri} cannot be called: {found}"
        )
    unread = document.unread
    raise failures.misconfigured(
        f"{document.uri} has no operation {name!r}:{suggestion(name, document.operations)}"
        f" it has {len(document.operations):,}"
        + (f"; {len(unread)} paths were not read: {unread[0]}" if unread else "")
    )


def request_of(operation: Operation, where: str, given: Any) -> JsonObject:
    """`method`, `uri`, `headers` and `body` as those of `call: http`. Raises ActivityError.

    `where`: the address of the server. `given`: values by the names of parameters.
    """
    values, body = _sorted(operation, given)
    path: dict[str, str] = {}
    query: list[str] = []
    cookies: list[str] = []
    fields: list[str] = []
    headers: JsonObject = {"accept": operation.accept} if operation.accept else {}
    for parameter, value in values.items():
        if parameter.refused:
            raise failures.misconfigured(
                f"the parameter `{parameter.name}` cannot be sent: {parameter.refused}"
            )
        match parameter.place:
            case "path":
                path[parameter.name] = styles.in_path(parameter, value)
            case "query":
                query += styles.in_query(parameter, value)
            case "header":
                headers[parameter.name] = styles.in_header(parameter, value)
            case "cookie":
                cookies += filter(None, [styles.in_cookie(parameter, value)])
            case _:
                fields += styles.in_query(parameter, value)
    if cookies:
        headers["cookie"] = "; ".join(cookies)
    text: str | None = None
    if body is not None and operation.body is not None:
        headers["content-type"], text = bodies.written(operation.body, body)
    elif any(parameter.place == "form" for parameter in operation.parameters):
        headers["content-type"], text = bodies.FORM, "&".join(fields)
    address = where.rstrip("/") + _TEMPLATE.sub(lambda name: path[name[1]], operation.path)
    uri = _with_query(address, query)
    return {"method": operation.method, "uri": uri, "headers": headers, "body": text}


def where_of(document: Document, operation: Operation, named: str | None) -> str:
    """The address of the server: that which the definition names, else that of the document.

    A document does not say where credentials and data go: it may only name its own origin. Raises
    ActivityError.
    """
    if named is not None:
        return named
    remedy = 'name it in the task: `metadata: {wf: {server: "https://…"}}`'
    if not operation.server:
        raise failures.misconfigured(
            f"{document.uri} does not say where its operations are: {operation.no_server}; {remedy}"
        )
    if servers.origin(operation.server) != servers.origin(document.uri):
        raise failures.misconfigured(
            f"{document.uri} says that its operations are at {operation.server}, which is another"
            f" origin: if that is right, {remedy}"
        )
    return operation.server


def _with_query(address: str, pairs: list[str]) -> str:
    if not pairs:
        return address
    base, mark, fragment = address.partition("#")
    return f"{base}{'&' if '?' in base else '?'}{'&'.join(pairs)}{mark}{fragment}"


def _sorted(operation: Operation, given: Any) -> tuple[dict[Parameter, Any], Any]:
    """Values by parameter, and that of the body; null is none. Every unknown and every missing
    one is named at once."""
    if given is not None and not isinstance(given, dict):
        raise failures.wrong_value("`parameters` must be an object")
    own = operation.body.names if operation.body is not None else ()
    values: dict[Parameter, Any] = {}
    problems: list[str] = []
    body: Any = None
    for name, value in (given or {}).items():
        if name in own:
            twice, body = (
                body is not None and value is not None,
                value if value is not None else body,
            )
        else:
            found, problem = _find(operation, name)
            if found is None:
                problems.append(problem)
                continue
            twice = found in values
            if value is not None:
                values[found] = value
        if twice:
            problems.append(f"`{name}` is given twice, once by another name")
    for parameter in operation.parameters:
        if parameter.required and parameter not in values:
            problems.append(f"`{_shortest(operation, parameter)}` ({parameter.place}) is missing")
    if operation.body is not None and operation.body.required and body is None:
        problems.append(f"`{own[-1]}` (the request's body) is missing")
    if problems:
        raise failures.invalid(
            f"the parameters do not fit {operation.method} {operation.path}: {'; '.join(problems)}"
        )
    return values, body


def _find(operation: Operation, name: str) -> tuple[Parameter | None, str]:
    """The parameter of that name, or of that place and name; or why there is none."""
    found = [one for one in operation.parameters if one.name == name]
    if len(found) == 1:
        return found[0], ""
    if found:
        choice = " or ".join(f"`{one.qualified}`" for one in found)
        return None, f"`{name}` is more than one parameter: write {choice}"
    place, _, rest = name.partition(".")
    for one in operation.parameters:
        if (one.place, one.name) == (place, rest):
            return one, ""
    if name.lower() in UNHEARD:
        return None, f"`{name}` is no parameter in OpenAPI: use `authentication`, or `call: http`"
    known = [_shortest(operation, one) for one in operation.parameters]
    known += operation.body.names if operation.body is not None else ()
    listed = ", ".join(known[:20]) + (", …" if len(known) > 20 else "")
    hint = suggestion(name, known) or (f" known are {listed}" if known else " it has none")
    return None, f"`{name}` is no parameter of it:{hint}"


def _shortest(operation: Operation, parameter: Parameter) -> str:
    """How a definition names it: with its place only where that is needed."""
    alike = [one for one in operation.parameters if one.name == parameter.name]
    hidden = operation.body is not None and parameter.name in operation.body.names
    return parameter.qualified if len(alike) > 1 or hidden else parameter.name
