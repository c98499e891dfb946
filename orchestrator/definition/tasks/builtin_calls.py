"""call: http and call: openapi, compiled to calls of their built-in activities (wf/builtin).

The request that the activity gets is built from `with` part by part, so that what is an option
stays fixed, what is data may be an expression, and what holds a secret is carried unevaluated.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from typing import Any

import uritemplate

from orchestrator.definition.compiler.compiler import (
    DEFERRED,
    INSIDE,
    NOTHING,
    Compiler,
    Scope,
)
from orchestrator.definition.compiler.nodes import Call, Template
from orchestrator.definition.compiler.problems import kind_of
from orchestrator.definition.tasks import authentications, deferred_secrets
from orchestrator.definition.tasks.authentications import Authentication
from orchestrator.expressions.jq import compile_expression, strip_marks
from wf.protocol import uri_templates

KNOWN = INSIDE | DEFERRED
OUTPUTS = ("content", "response", "raw")
_METHOD = re.compile(r"[A-Za-z]{1,20}\Z")
_SCHEME = re.compile(r"(https?://|\{)", re.IGNORECASE)


def http(compiler: Compiler, place: str, given: Any, scope: Scope) -> Call | None:
    """`call: http`."""
    if given is None:
        compiler.problems.add(place.removesuffix("/with"), "needs `with`: method and endpoint")
        return None
    if compiler.problems.mapping(place, given, "`with`") is None:
        return None
    keys = ("method", "endpoint", "headers", "query", "body", "output", "redirect")
    compiler.problems.keys(place, given, keys)
    _need(compiler, place, given, ("method", "endpoint"))
    fields: dict[str, Template] = {}
    if "method" in given:
        fields["method"] = _method(compiler, f"{place}/method", given["method"], scope)
    target, access = _endpoint(compiler, f"{place}/endpoint", given.get("endpoint"), scope)
    fields.update(target)
    for key in ("headers", "query"):
        if key in given:
            fields[key] = mapping(compiler, f"{place}/{key}", given[key], scope)
    if "body" in given:
        fields["body"] = data(compiler, f"{place}/body", given["body"], scope)
    fields.update(_options(compiler, place, given))
    fields["authentication"] = access.template
    return builtin_call(compiler, "wf-http", fields, access.secrets)


def openapi(compiler: Compiler, place: str, given: Any, scope: Scope) -> Call | None:
    """`call: openapi`."""
    if given is None:
        compiler.problems.add(place.removesuffix("/with"), "needs `with`: document and operationId")
        return None
    if compiler.problems.mapping(place, given, "`with`") is None:
        return None
    keys = ("document", "operationId", "parameters", "authentication", "output", "redirect")
    compiler.problems.keys(place, given, keys)
    _need(compiler, place, given, ("document", "operationId"))
    fields: dict[str, Template] = {}
    fields["document"], own = _document(compiler, f"{place}/document", given.get("document"), scope)
    if "operationId" in given:
        name, at = given["operationId"], f"{place}/operationId"
        compiler.problems.text(at, name, "`operationId`")
        fields["operationId"] = data(compiler, at, name, scope)
    if "parameters" in given:
        at = f"{place}/parameters"
        fields["parameters"] = mapping(compiler, at, given["parameters"], scope)
    fields.update(_options(compiler, place, given))
    access = authentications.NONE
    if "authentication" in given:
        access = authentications.authentication(
            compiler, f"{place}/authentication", given["authentication"], scope
        )
    fields["authentication"] = access.template
    return builtin_call(compiler, "wf-openapi", fields, access.secrets | own.secrets)


def _document(
    compiler: Compiler, place: str, value: Any, scope: Scope
) -> tuple[Template, Authentication]:
    """`uri`, `variables` and `authentication` of an external resource; and the last by itself."""
    if value is None:
        return constant(None), authentications.NONE
    if compiler.problems.mapping(place, value, "`document`") is None:
        return constant(None), authentications.NONE
    compiler.problems.keys(place, value, ("name", "endpoint"))
    _need(compiler, place, value, ("endpoint",))
    if "name" in value:
        compiler.problems.text(f"{place}/name", value["name"], "`name`")
    # What authenticates the operation is not known here: it goes to the operation's service only.
    fields, access = _endpoint(
        compiler, f"{place}/endpoint", value.get("endpoint"), scope, INSIDE | {"secrets"}
    )
    return _object({**fields, "authentication": access.template}), access


def builtin_call(
    compiler: Compiler,
    activity: str,
    fields: dict[str, Template],
    secrets: frozenset[str] = NOTHING,
) -> Call:
    """A call of a built-in activity with these fields of its request; `secrets` are those that it
    needs by name."""
    request = _object(fields)
    rest, deferred = deferred_secrets.cut(compiler, request, secrets)
    return Call(activity, _object({"request": rest}), deferred=deferred)


def _object(fields: dict[str, Template]) -> Template:
    used = NOTHING.union(*(template.variables for template in fields.values()))
    return Template(used, fields=tuple(fields.items()))


def constant(value: Any) -> Template:
    """What is an option, and no expression."""
    return Template(NOTHING, value=value)


def _need(compiler: Compiler, place: str, given: dict[str, Any], keys: tuple[str, ...]) -> None:
    for key in keys:
        if key not in given:
            compiler.problems.add(place, f"needs `{key}`")


def data(
    compiler: Compiler, place: str, value: Any, scope: Scope, known: frozenset[str] = KNOWN
) -> Template:
    """Any value with expressions in it, those over `$secrets` too."""
    template = compiler.template(place, value, known, scope)
    deferred_secrets.check(compiler, place, template)
    return template


def mapping(
    compiler: Compiler, place: str, value: Any, scope: Scope, known: frozenset[str] = KNOWN
) -> Template:
    """An object of data, or an expression that gives it."""
    if type(value) is not dict and not _is_expression(value):
        compiler.problems.add(
            place, f"must be an object or an expression `${{ … }}`, found {kind_of(value)}"
        )
        return constant(None)
    return data(compiler, place, value, scope, known)


def _method(compiler: Compiler, place: str, value: Any, scope: Scope) -> Template:
    text = compiler.problems.text(place, value, "`method`")
    if text is None or _is_expression(text):
        return data(compiler, place, value, scope)
    if not _METHOD.match(text):
        compiler.problems.add(place, f'"{text}" is no HTTP method: write one such as get or post')
    return constant(text.upper())


def _endpoint(
    compiler: Compiler, place: str, value: Any, scope: Scope, known: frozenset[str] = KNOWN
) -> tuple[dict[str, Template], Authentication]:
    """`uri` and the `variables` of its template; and how to authenticate there."""
    if value is None:
        return {}, authentications.NONE
    access = authentications.NONE
    if type(value) is dict:
        compiler.problems.keys(place, value, ("uri", "authentication"))
        _need(compiler, place, value, ("uri",))
        if "authentication" in value:
            access = authentications.authentication(
                compiler, f"{place}/authentication", value["authentication"], scope
            )
        value, place = value.get("uri", "https://"), f"{place}/uri"
    text = compiler.problems.text(place, value, "an endpoint")
    if text is None:
        return {}, access
    if _is_expression(text):
        return {"uri": data(compiler, place, text, scope, known)}, access
    compiler.template(place, text, known, scope)  # says what is wrong with `…${ … }…`
    return {"uri": constant(text), "variables": _variables(compiler, place, text)}, access


def _variables(compiler: Compiler, place: str, uri: str) -> Template:
    """The top-level properties of the task's input that the URI template names."""
    if not _SCHEME.match(uri):
        why = ": workers read no files, so serve it" if uri.lower().startswith("file:") else ""
        compiler.problems.add(place, f'"{uri}" must begin with http:// or https://{why}')
    if "${" not in uri and (found := uri_templates.problem(uri)) is not None:
        compiler.problems.newly(place, found)
    fields: dict[str, Template] = {}
    for name in _names(uri):
        read = compile_expression(f".[{json.dumps(name)}]")
        fields[name] = Template(frozenset(read.variables), expression=read)
    return _object(fields) if fields else constant({})


def _names(uri: str) -> Iterable[str]:
    try:
        return uritemplate.URITemplate(uri).variable_names
    except (ValueError, IndexError):
        return ()  # said above


def _options(compiler: Compiler, place: str, given: dict[str, Any]) -> dict[str, Template]:
    output, redirect = given.get("output", "content"), given.get("redirect", False)
    if output not in OUTPUTS:
        compiler.problems.add(
            f"{place}/output", f"must be one of {', '.join(OUTPUTS)}, found {kind_of(output)}"
        )
    if type(redirect) is not bool:
        compiler.problems.add(
            f"{place}/redirect", f"must be true or false, found {kind_of(redirect)}"
        )
    return {"output": constant(output), "redirect": constant(redirect)}


def _is_expression(value: Any) -> bool:
    return type(value) is str and strip_marks(value) is not None


COMPILERS: dict[str, Callable[[Compiler, str, Any, Scope], Call | None]] = {
    "http": http,
    "openapi": openapi,
}
