"""The gate between what comes in and what is stored: JSON both ways, and texts made safe. Pure.

What passes `decode` can be stored, encoded and shown, with this program's own wrapping around it;
what passes `encode` can be decoded by whoever receives it. Both refuse what JSON or orjson would
change without a word: an integer past 64 bits (read as a rounded float), NaN (written as null).
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

import orjson

from wf.errors import MessageError

VALUE_DEPTH = 200  # levels of one value: an input, an output, the result of an expression
MAX_DEPTH = 208  # levels of a message: a value with what a body wraps around it
STORED_DEPTH = 254  # what orjson writes: a snapshot with such values inside; it reads 1,024
TEXT_LIMIT = 16_384  # characters

_SMALLEST, _LARGEST = -(2**63), 2**64 - 1
_SHORTEST_TOO_LONG = 19  # digits of 2**63
_ZEROS = b"0" * _SHORTEST_TOO_LONG
_DIGITS_TO_ZERO = bytes.maketrans(b"123456789", b"0" * 9)
_INTEGER = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|(-?[0-9]++)(?![.eE])|[0-9.eE+-]++', re.DOTALL)


def _inside(value: Any) -> Any:
    """What orjson writes of a type that it knows and json does not, as far as it can hold NaN."""
    if isinstance(value, Enum):
        return value.value
    if is_dataclass(value):
        return {field.name: getattr(value, field.name, None) for field in fields(value)}
    return None


_STRICT = json.JSONEncoder(allow_nan=False, check_circular=False, default=_inside)


def decode(data: bytes | str, what: str = "message", *, depth: int = MAX_DEPTH) -> Any:
    """The value of a JSON text from outside. `what` names it in errors, `depth` bounds its levels.

    Raises MessageError for what is no JSON in UTF-8, nests too deeply, has a lone surrogate, or has
    an integer past 64 bits, which is never rounded.
    """
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise MessageError(f"{what}: not JSON: {text(error)}") from None
    encoded = data.encode() if isinstance(data, str) else data
    if nests_deeper(value, encoded, depth):
        raise _too_deep(what, depth)
    if len(encoded) >= _SHORTEST_TOO_LONG and _ZEROS in encoded.translate(_DIGITS_TO_ZERO):
        _check_integers(encoded, what)
    return value


def encode(value: Any, what: str = "value", *, depth: int = MAX_DEPTH) -> bytes:
    """Compact JSON. `what` names the value in errors, `depth` bounds its levels.

    Raises MessageError with the JSON pointer of what JSON cannot say: NaN and infinities, integers
    past 64 bits, keys that are no strings, lone surrogates, other types, too many levels.
    """
    try:
        data = orjson.dumps(value)
    except (TypeError, RecursionError) as error:
        raise _refusal(value, what, error) from None
    if nests_deeper(value, data, depth):
        raise _too_deep(what, depth)
    if b"null" in data and not _is_finite(value):
        raise _refusal(value, what, None)
    return data


def check_value(value: Any, what: str = "value") -> bytes:
    """`encode` for one value that is going to be wrapped in a message or a snapshot."""
    return encode(value, what, depth=VALUE_DEPTH)


def nests_deeper(value: Any, encoded: bytes, depth: int) -> bool:
    """Whether `value` has more than `depth` levels; `encoded` is its JSON."""
    if len(encoded) <= depth or encoded.count(b"[") + encoded.count(b"{") <= depth:
        return False
    for _ in range(STORED_DEPTH - depth):
        value = [value]
    try:
        orjson.dumps(value)  # much quicker than counting levels here
    except TypeError:
        return True
    return False


def text(value: object, limit: int = TEXT_LIMIT) -> str:
    r"""`str(value)` as it can be stored, encoded and shown; never raises.

    A lone surrogate becomes its escape (`\ud83d`), a text longer than `limit` characters is cut,
    and a value without a text is named by its type.
    """
    try:
        found = str(value)
        if len(found) > limit:
            found = found[: max(0, limit - 1)] + "…"
        return found.encode("utf-8", "backslashreplace").decode()
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the __str__ of others may do anything
        return f"{type(value).__name__} (its __str__ raised {type(error).__name__})"


def error_text(error: BaseException, limit: int = TEXT_LIMIT) -> str:
    """`TypeError: its message`, safe as in `text`."""
    said = text(error, limit)
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def _too_deep(what: str, depth: int) -> MessageError:
    return MessageError(f"{what}: nests deeper than {depth} levels: make it flatter")


def _check_integers(data: bytes, what: str) -> None:
    for match in _INTEGER.finditer(data):
        digits = match.group(1)
        if digits is None or len(digits) < _SHORTEST_TOO_LONG:
            continue
        if len(digits) > 20 or not _SMALLEST <= int(digits) <= _LARGEST:
            raise MessageError(
                f"{what}: the integer {digits[:24].decode()}{'…' if len(digits) > 24 else ''} "
                "does not fit in 64 bits: write it as a string"
            )


def _is_finite(value: Any) -> bool:
    try:
        _STRICT.encode(value)
    except ValueError:
        return False
    except RecursionError:  # called from deep down in a user's code
        return _unsayable(value) is None
    return True


def _refusal(value: Any, what: str, error: Exception | None) -> MessageError:
    found = _unsayable(value)
    if found is None:
        return MessageError(f"{what}: not JSON: {text(error)}")
    pointer, reason = found
    return MessageError(f"{what}: {text(pointer) or '/'}: {reason}")


def _unsayable(value: Any) -> tuple[str, str] | None:
    """(JSON pointer, what is wrong there) of the first such place, without the Python stack."""
    pending: list[tuple[str, Any, int]] = [("", value, 0)]
    while pending:
        pointer, one, level = pending.pop()
        if (reason := _wrong_with(one)) is not None:
            return pointer, reason
        if not isinstance(one, dict | list | tuple):
            continue
        if level >= STORED_DEPTH:
            return f"{pointer[:40]}…", f"nests deeper than {STORED_DEPTH} levels: make it flatter"
        if isinstance(one, dict):
            for key in one:
                if (reason := _wrong_with_key(key)) is not None:
                    return pointer, reason
        pairs = one.items() if isinstance(one, dict) else enumerate(one)
        inner = [(f"{pointer}/{_escaped(key)}", child, level + 1) for key, child in pairs]
        pending.extend(reversed(inner))
    return None


def _wrong_with(value: Any) -> str | None:
    if isinstance(value, float) and not math.isfinite(value):
        return f"JSON has no {value}: give null or a string"
    if isinstance(value, int) and not _SMALLEST <= value <= _LARGEST:
        return "the integer does not fit in 64 bits: give it as a string"
    if isinstance(value, str):
        return _wrong_with_text(value)
    if isinstance(value, dict | list | tuple):
        return None
    try:
        orjson.dumps(value)
    except (TypeError, RecursionError) as error:
        return f"JSON cannot hold a {type(value).__name__}: {text(error)}"
    return None


def _wrong_with_text(value: str) -> str | None:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        half = text(error.object[error.start])
        return f"the text holds {half}, half of a surrogate pair, at character {error.start}"
    return None


def _wrong_with_key(key: Any) -> str | None:
    if not isinstance(key, str):
        return f"the key {text(repr(key), 80)} is no string: write it as one"
    problem = _wrong_with_text(key)
    return None if problem is None else f"a key: {problem}"


def _escaped(key: Any) -> str:
    return str(key).replace("~", "~0").replace("/", "~1")
