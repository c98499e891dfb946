"""From the data of a request to what goes over the wire. Pure."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, urlencode

import orjson
import uritemplate

from wf.builtin.http import failures
from wf.protocol import uri_templates

JsonObject = dict[str, Any]
Headers = list[tuple[str, str]]


def text_of(value: Any, what: str) -> str:
    """A scalar as it stands in a URI or header. Raises ActivityError for anything else."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value
    if isinstance(value, int | float):
        return orjson.dumps(value).decode()
    raise failures.wrong_value(f"{what} must be a string, a number or a boolean")


def uri(given: Any, variables: JsonObject | None, query: Any) -> str:
    """The endpoint, its template expanded (RFC 6570), the query appended.

    `variables` is None when the endpoint is the result of an expression: data is no template.
    """
    if not isinstance(given, str):
        raise failures.wrong_value("the endpoint must be a string")
    expanded = given if not variables else _expanded(given, variables)
    if not expanded.lower().startswith(("http://", "https://")):
        raise failures.misconfigured(
            f"{expanded!r} is no endpoint: it must begin with http:// or https://"
        )
    return with_query(expanded, pairs(query, "query"))


def _expanded(given: str, variables: JsonObject) -> str:
    if uri_templates.problem(given) is None:  # a definition of an older version may have one
        _check_path(given, variables)
    template = uritemplate.URITemplate(given)
    for part in template.variables:
        if part.original[:1] in "+#./;?&":
            continue  # these operators know lists and objects
        for name in part.variable_names:
            if isinstance(variables.get(name), list | dict):
                raise failures.wrong_value(
                    f"{{{name}}} in {given} is a list or an object: give a scalar, or use an"
                    f" operator such as {{?{name}*}}"
                )
    return template.expand({name: _plain(value) for name, value in variables.items()})


def _check_path(given: str, variables: JsonObject) -> None:
    """Raises ActivityError when the path would be that of something else."""
    problems = []
    for variable in uri_templates.variables(given):
        value = variables.get(variable.name)
        if not variable.in_path:
            continue
        if value is None:
            problems.append(f"`{variable.name}` is missing or null{_dotted(variable.name)}")
        elif _leaves_no_segment(value):
            problems.append(f"`{variable.name}` is empty or only dots")
    if problems:
        raise failures.invalid(
            f"the endpoint {given} needs a value for each variable of its path, from the task's"
            f" input: {'; '.join(problems)}"
        )


def _dotted(name: str) -> str:
    return f' (one property, named "{name}": a dot does not go deeper)' if "." in name else ""


def _leaves_no_segment(value: Any) -> bool:
    """True for what would leave a path without a segment, or with one that leads upwards."""
    if isinstance(value, list | dict):
        members = value.values() if isinstance(value, dict) else value
        return all(one is None for one in members)
    return isinstance(value, str) and not value.strip(".")


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(one) for one in value if one is not None]
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items() if one is not None}
    return None if value is None else text_of(value, "a variable of the endpoint")


def pairs(given: Any, what: str) -> Headers:
    """Name and text of each; a list is one pair per item, null is none."""
    if given is None:
        return []
    if not isinstance(given, dict):
        raise failures.wrong_value(f"{what} must be an object")
    return [
        (name, text_of(one, f"{what} {name}"))
        for name, value in given.items()
        for one in (value if isinstance(value, list) else [value])
        if one is not None
    ]


def with_query(address: str, found: Headers) -> str:
    if not found:
        return address
    base, mark, fragment = address.partition("#")
    separator = "" if base.endswith(("?", "&")) else "&" if "?" in base else "?"
    return f"{base}{separator}{urlencode(found, quote_via=quote)}{mark}{fragment}"


def stated(headers: Headers, name: str) -> str | None:
    return next((value for key, value in headers if key.lower() == name), None)


def body(given: Any, headers: Headers) -> bytes | None:
    """The bytes of a body; a content type is added to `headers` when they state none.

    Text goes as it is. Anything else is JSON, or a form when the content type says so.
    """
    if given is None:
        return None
    kind = (stated(headers, "content-type") or "").partition(";")[0].strip().lower()
    if isinstance(given, str):
        if not kind:
            headers.append(("content-type", "text/plain; charset=utf-8"))
        return given.encode()
    if kind == "application/x-www-form-urlencoded":
        return urlencode(pairs(given, "body")).encode()
    if kind and kind != "application/json" and not kind.endswith("+json"):
        raise failures.wrong_value(
            f"a body that is no string cannot be sent as {kind}: give a string, or"
            " application/json or application/x-www-form-urlencoded as the content-type"
        )
    if not kind:
        headers.append(("content-type", "application/json"))
    return orjson.dumps(given)
