"""Where an operation is: the server that the document names, resolved."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import SplitResult, urljoin, urlsplit

from wf.builtin.openapi.references import JsonObject, UnusableDocument, listed, mapping

_VARIABLE = re.compile(r"\{([^{}]*)\}")
_PORTS = {"http": 80, "https": 443}


def base_of(uri: str) -> str:
    """The document's address, without the user that may stand in it: a server is relative to it."""
    parts = urlsplit(uri)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def server(base: str, *levels: Any) -> str:
    """The first server of the innermost level that has some (OpenAPI 3). Raises
    UnusableDocument."""
    servers = next((found for level in levels if (found := listed(level))), [])
    first = mapping(servers[0]) if servers else {"url": "/"}
    url = first.get("url")
    if not isinstance(url, str):
        raise UnusableDocument("the first of its servers has no `url`")
    variables = mapping(first.get("variables"))

    def default(match: re.Match[str]) -> str:
        value = mapping(variables.get(match[1])).get("default")
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise UnusableDocument(f"the server {url:.200} has no default for {{{match[1]:.50}}}")
        return str(value)

    return _usable(base, _VARIABLE.sub(default, url))


def swagger_server(base: str, document: JsonObject, operation: JsonObject) -> str:
    """`schemes`, `host` and `basePath` (Swagger 2). Raises UnusableDocument."""
    here = urlsplit(base)
    schemes = listed(operation.get("schemes")) or listed(document.get("schemes")) or [here.scheme]
    scheme = next((one for one in (here.scheme, "https", "http") if one in schemes), None)
    if scheme is None:
        raise UnusableDocument("its schemes are neither http nor https")
    host, path = document.get("host", here.netloc), document.get("basePath", "/")
    if not isinstance(host, str) or not isinstance(path, str) or set(host) & set("/@?#{}"):
        raise UnusableDocument(f"its host {host!r:.100} or basePath {path!r:.100} is none")
    return _usable(base, f"{scheme}://{host}/{path.lstrip('/')}")


def _usable(base: str, url: str) -> str:
    try:
        address = urljoin(base, url)
        parts = urlsplit(address)
        known = parts.scheme in _PORTS and bool(parts.hostname) and origin(address) is not None
    except ValueError as error:
        raise UnusableDocument(f"the server {url!r:.200} is no URL: {error}") from None
    if not known or parts.query or parts.fragment or parts.username is not None:
        raise UnusableDocument(
            f"the server {url!r:.200} must begin with http:// or https://, and have no query,"
            " fragment or user"
        )
    return address


def origin(uri: str) -> tuple[str, str, int]:
    """Scheme, host and port. Raises ValueError."""
    parts: SplitResult = urlsplit(uri)
    scheme = parts.scheme.lower()
    return scheme, parts.hostname or "", parts.port or _PORTS.get(scheme, 0)
