"""`metadata.wf.server`: where an OpenAPI operation is, instead of what its document says."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from orchestrator.definition.compiler import NOTHING, Compiler
from orchestrator.definition.nodes import Call, Template


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
    ((key, request),) = compiled.arguments.fields or ()
    server = Template(NOTHING, value=text)
    request = replace(request, fields=(*(request.fields or ()), ("server", server)))
    return replace(compiled, arguments=replace(compiled.arguments, fields=((key, request),)))


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
