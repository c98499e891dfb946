"""What is wrong with the settings, in whole sentences: place, key, remedy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any

from wf.settings.models import SECTIONS, PoolSettings, RetrySettings, keys_of
from wf.settings.sources import Key, Layer

_SECRETS = frozenset({"password", "proxy"})

# pydantic error type, or how it begins → what was expected
_EXPECTED = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "string": "text",
    "path": "a path",
    "list": "a list",
    "dict": "a table",
    "model": "a table",
}
_BOUNDS = {
    "greater_than": "must be above",
    "greater_than_equal": "must be at least",
    "less_than": "must be below",
    "less_than_equal": "must be at most",
}


def located(layers: Sequence[Layer], key: Key, message: str) -> str:
    """`message` behind the place that set `key`; the strongest layer that holds it wins."""
    dotted = ".".join(key)
    holders = [layer for layer in layers if layer.holds(key)]
    # a table may be there only because of a key in it: name a layer that knows the table itself
    layer = next((one for one in holders if one.place(key)), (holders or layers)[-1])
    if holders and holders[0].label == "command line":
        layer = holders[0]
    place = layer.place(key)
    separator = " " if layer.label == "environment" else ":"
    return f"{layer.label}{separator + place if place else ''}: {dotted}: {message}"


def suggestion(word: str, allowed: Iterable[str]) -> str:
    """ " did you mean `x`?", or nothing."""
    close = difflib.get_close_matches(word.lower(), list(allowed), n=1, cutoff=0.6)
    return f" did you mean `{close[0]}`?" if close else ""


def explain(error: Any, key: Key) -> str:
    """What a pydantic error at `key` means in the words of pool.toml."""
    kind, value, context = error["type"], error.get("input"), error.get("ctx", {})
    if kind == "extra_forbidden":
        return _unknown_key(key)
    shadowed = key[0] == "workers" and len(key) == 2 and isinstance(value, dict)
    is_range = key[-1] == "processes" and bool({"min", "max"} & set(value if shadowed else ()))
    if shadowed and key[1] in PoolSettings.model_fields and not is_range:
        return _reserved_pool(key[1])
    if kind == "value_error":
        return _shown(str(context["error"]), key)
    found = "" if key[-1] in _SECRETS else f"; found {value!r}"
    if kind in _BOUNDS:
        bound = next(iter(context.values()))
        return f"{_BOUNDS[kind]} {bound if isinstance(bound, int) else f'{bound:g}'}{found}"
    if kind == "literal_error":
        return f"expected one of {context['expected']}{found}"
    expected = _EXPECTED.get(kind.partition("_")[0])
    return f"expected {expected}{found}" if expected else error["msg"] + found


def _shown(message: str, key: Key) -> str:
    return "not valid" if key[-1] in _SECRETS else message


def _reserved_pool(name: str) -> str:
    return (
        f"a pool cannot be named `{name}`, which is a key of [workers]: name the table otherwise"
        f' and say activities = ["{name}"] in it'
    )


def _unknown_key(key: Key) -> str:
    table, name = key[:-1], key[-1]
    if table == ("workers", "retry") and name in PoolSettings.model_fields:
        holds = ", ".join(RetrySettings.model_fields)
        return f"[workers.retry] is the default retry policy ({holds}); {_reserved_pool('retry')}"
    allowed = keys_of(table)
    text = "unknown key;"
    if hint := suggestion(name, allowed):
        text += hint
    elif homes := [section for section in SECTIONS if name in keys_of((section,))]:
        text += f" it belongs in [{homes[0]}]."
    where = f"[{'.'.join(table)}]" if table else "the top level"
    return f"{text} Allowed in {where}: {', '.join(allowed)}"
