"""`metadata.wf.server`: where an OpenAPI operation is, instead of what its document says; and
`metadata.wf.redirects`: how many redirections within its origin an HTTP call follows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from orchestrator.definition.compiler.compiler import NOTHING, Compiler
from orchestrator.definition.compiler.nodes import Call, Template
from orchestrator.definition.compiler.problems import kind_of
from wf.builtin.http.redirects import MOST


def at_server(compiler: Compiler, pointer: str, source: dict[str, Any], compiled: Call) -> Call:
    """`compiled` with the server that its task names, if any."""
    metadata = source.get("metadata")
    found = metadata.get("wf") if type(metadata) is dict else None
    if type(found) is not dict or "server" not in found:
        return compiled
    place, value = f"{pointer}/metadata/wf/server", found["server"]
    if compiled.activity != "wf-openapi" or compiled.arguments is None:
        compiler.problems.add(place, "only `call: openapi` has a server to name: remove it")
        return compiled
    text = compiler.problems.text(place, value, "a server")
    if text is None:
        return compiled
    if why := unusable(text):
        compiler.problems.add(place, f'"{text}" is no server: {why}')
    return _with(compiled, "server", text)


def _with(compiled: Call, name: str, value: Any) -> Call:
    """The same call, with one field more in its request."""
    assert compiled.arguments is not None
    ((key, request),) = compiled.arguments.fields or ()
    field = (name, Template(NOTHING, value=value))
    request = replace(request, fields=(*(request.fields or ()), field))
    return replace(compiled, arguments=replace(compiled.arguments, fields=((key, request),)))


def following(compiler: Compiler, pointer: str, source: dict[str, Any], compiled: Call) -> Call:
    """`compiled` with the number of redirections that its task lets it follow, if any."""
    metadata = source.get("metadata")
    found = metadata.get("wf") if type(metadata) is dict else None
    if type(found) is not dict or "redirects" not in found:
        return compiled
    place, value = f"{pointer}/metadata/wf/redirects", found["redirects"]
    if compiled.activity not in ("wf-http", "wf-openapi") or compiled.arguments is None:
        compiler.problems.add(place, "only `call: http` and `openapi` are redirected: remove it")
    elif type(value) is not int or not 1 <= value <= MOST:
        compiler.problems.add(place, f"must be an integer from 1 to {MOST}, found {kind_of(value)}")
    else:
        return _with(compiled, "redirects", value)
    return compiled


def unusable(text: str) -> str:
    """What a URL must not be that paths are appended to; empty when it will do."""
    try:
        parts = urlsplit(text)
        known = bool(parts.hostname) and (parts.port is None or parts.port >= 0)
    except ValueError as error:
        return str(error)
    if "${" in text or "{" in text:
        return "it is written out, not an expression or a template"
    if parts.scheme not in ("http", "https") or not known:
        return "write a URL that begins with http:// or https:// and a host"
    if parts.query or parts.fragment or parts.username is not None:
        return "leave out the query, the fragment and the user"
    return ""
