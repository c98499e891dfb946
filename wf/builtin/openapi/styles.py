"""How the value of a parameter is written into a path, a query, a header or a cookie.

By OpenAPI's `style` and `explode`, which are the forms of RFC 6570 under other names.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import orjson

from wf.builtin.common.redaction import RESERVED
from wf.builtin.http import failures, requests
from wf.builtin.openapi.parameters import Parameter

Encode = Callable[[str], str]


def in_path(parameter: Parameter, value: Any) -> str:
    """Raises ActivityError, also when nothing would be left: the path would be another one."""
    parts = _Parts(parameter, value, _quoted)
    match parameter.style:
        case "label":
            text = "." + ("." if parameter.explode else ",").join(parts.flat)
        case "matrix":
            text = _matrix(parameter, parts)
        case _:
            text = parts.joined()
    if not text.strip(".;"):
        raise _wrong(parameter, "is empty or only dots: the path would be that of something else")
    return text


def in_query(parameter: Parameter, value: Any) -> list[str]:
    """Each `name=value`."""
    encode: Encode = _lenient if parameter.reserved else _quoted
    name = _quoted(parameter.name)
    if parameter.style == "deepObject":
        return _deep(parameter, name, value, encode)
    parts = _Parts(parameter, value, encode)
    if parts.fields is not None and parameter.explode:
        return [f"{key}={one}" for key, one in parts.fields]
    if parts.is_scalar or parameter.explode:
        return [f"{name}={one}" for one in parts.flat]
    return [f"{name}={parts.joined()}"] if parts.flat else []


def in_header(parameter: Parameter, value: Any) -> str:
    return _Parts(parameter, value, lambda text: text).joined()


def in_cookie(parameter: Parameter, value: Any) -> str | None:
    """`name=value`; None for an empty list or object."""
    parts = _Parts(parameter, value, _quoted)
    if not parts.is_scalar and parameter.explode:
        raise _wrong(parameter, "is a list or an object, which has no form in a cookie: give text")
    return f"{parameter.name}={parts.joined()}" if parts.flat else None


class _Parts:
    """A value taken apart, every text encoded; null members are left out."""

    def __init__(self, parameter: Parameter, value: Any, encode: Encode) -> None:
        if parameter.json:
            value = orjson.dumps(value).decode()
        self._parameter, self._encode = parameter, encode
        self.fields: list[tuple[str, str]] | None = None
        self.is_scalar = not isinstance(value, list | dict)
        if isinstance(value, dict):
            self.fields = [
                (encode(key), self._text(one)) for key, one in value.items() if one is not None
            ]
            between = "=" if parameter.explode else parameter.delimiter
            if parameter.explode:
                self.flat = [f"{key}{between}{one}" for key, one in self.fields]
            else:
                self.flat = [text for field in self.fields for text in field]
        elif isinstance(value, list):
            self.flat = [self._text(one) for one in value if one is not None]
        else:
            self.flat = [self._text(value)]

    def joined(self) -> str:
        delimiter = self._parameter.delimiter
        return (delimiter if delimiter == "," else self._encode(delimiter)).join(self.flat)

    def _text(self, value: Any) -> str:
        if isinstance(value, list | dict):
            raise _wrong(
                self._parameter,
                "has a list or an object inside of a list or an object: no style can write that",
            )
        return self._encode(requests.text_of(value, f"the parameter {self._parameter.name}"))


def _matrix(parameter: Parameter, parts: _Parts) -> str:
    name = _quoted(parameter.name)
    if parts.fields is not None and parameter.explode:
        return "".join(f";{key}={one}" if one else f";{key}" for key, one in parts.fields)
    each = parts.flat if parameter.explode or parts.is_scalar else [",".join(parts.flat)]
    return "".join(f";{name}={one}" if one else f";{name}" for one in each)


def _deep(parameter: Parameter, name: str, value: Any, encode: Encode) -> list[str]:
    """`name[key]=value`, objects in objects too; iterative, as depth is the caller's."""
    if not isinstance(value, dict):
        raise _wrong(parameter, "must be an object: its style is deepObject")
    found: list[str] = []
    waiting = [(f"{name}%5B{_quoted(key)}%5D", one) for key, one in reversed(value.items())]
    while waiting:
        place, one = waiting.pop()
        if isinstance(one, dict):
            waiting += [(f"{place}%5B{_quoted(key)}%5D", two) for key, two in reversed(one.items())]
        elif isinstance(one, list):
            raise _wrong(parameter, "has a list in it, for which the style deepObject has no form")
        elif one is not None:
            found.append(f"{place}={encode(requests.text_of(one, f'the parameter {name}'))}")
    return found


def _quoted(text: str) -> str:
    return quote(text, safe="", errors="replace")


def _lenient(text: str) -> str:
    return quote(text, safe=RESERVED, errors="replace")


def _wrong(parameter: Parameter, what: str) -> Exception:
    return failures.wrong_value(f"the {parameter.place} parameter `{parameter.name}` {what}")
