"""What is said about an expression that cannot be: what is wrong, where in it, what was meant."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

_POSITION = re.compile(r" at position ([0-9]+)")
_EXPECTED = re.compile(r"Expected \w+ ('.*') but got (?:EOF None|\w+ ('.*'))")


def shorten(source: str, length: int = 120) -> str:
    return source if len(source) <= length else source[: length - 1] + "…"


def syntax(source: str, message: str) -> str:
    """The parser's message in plain words, with the place in the expression where it says one."""
    place = _POSITION.search(message)
    if place is None:
        return message
    said = message[: place.start()]
    return f"{_plain(said)} at {_near(source, said, int(place.group(1)))}"


def _plain(said: str) -> str:
    found = _EXPECTED.fullmatch(said)
    if found is not None:
        return f"expected {found.group(1)}, found {found.group(2) or 'the end'}"
    if said == "Unexpected token None":
        return "something is missing"
    return said[:1].lower() + said[1:]


def _near(source: str, said: str, offset: int) -> str:
    """`character 7, in "== 3"`; with the line where there are several.

    `offset` is where the token ends that `said` names last.
    """
    offset = min(offset, len(source))
    token = said.rpartition(" '")[2].removesuffix("'")
    if said.endswith("'") and source.endswith(token, 0, offset):
        offset -= len(token)
    line = source.count("\n", 0, offset) + 1
    column = offset - (source.rfind("\n", 0, offset) + 1) + 1
    where = f"line {line}, character {column}" if "\n" in source else f"character {column}"
    rest = source[offset:].split("\n", 1)[0].strip()
    return f'{where}, in "{shorten(rest, 30)}"' if rest else f"{where}, where it ends"


def unknown_function(call: str, known: Iterable[str]) -> str:
    """`call` and the `known` ones are name/arity; the nearest known one is named."""
    name, _, arity = call.partition("/")
    known = sorted(set(known))
    text = f"calls `{name}` with {_arguments(arity)}: no such function"
    arities = [one.partition("/")[2] for one in known if one.partition("/")[0] == name]
    if arities:
        return f"{text}, it takes {' or '.join(map(_arguments, arities))}"
    names = [one.partition("/")[0] for one in known]
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.7)
    return f"{text}: did you mean `{close[0]}`?" if close else text


def _arguments(arity: str) -> str:
    return f"{arity} argument{'' if arity == '1' else 's'}"
