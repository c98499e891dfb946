"""The classes of regular expressions as ranges of code points, after Unicode's general categories.

Pure. Python's own `\\w` and `\\s` differ from Oniguruma's for marks and some control characters.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable
from functools import cache

Ranges = tuple[tuple[int, int], ...]

_LAST = 0x10FFFF
_ENCLOSED_LETTERS = ((0x24B6, 0x24E9), (0x1F130, 0x1F149), (0x1F150, 0x1F169), (0x1F170, 0x1F189))
_SUPERSCRIPTS = frozenset("²³¹¼½¾")
_SPACES = frozenset("\t\n\v\f\r\x85")


def _is_alphabetic(character: str, category: str) -> bool:
    """Letters, letter numbers, and the marks that are vowels, which have no combining class."""
    if category in ("Mc", "Mn"):
        return unicodedata.combining(character) == 0
    return category[0] == "L" or category == "Nl" or _is_enclosed_letter(character, category)


def _is_enclosed_letter(character: str, category: str) -> bool:
    return category == "So" and any(a <= ord(character) <= b for a, b in _ENCLOSED_LETTERS)


def _is_word(character: str, category: str) -> bool:
    return (
        category[0] in "LM"
        or category in ("Nd", "Nl", "Pc")
        or _is_enclosed_letter(character, category)
    )


def _is_space(character: str, category: str) -> bool:
    return category[0] == "Z" or character in _SPACES


_NAMED: dict[str, Callable[[str, str], bool]] = {
    "alpha": _is_alphabetic,
    "digit": lambda character, category: category == "Nd",
    "alnum": lambda character, category: category == "Nd" or _is_alphabetic(character, category),
    "upper": lambda character, category: character.isupper(),
    "lower": lambda character, category: character.islower(),
    "space": _is_space,
    "blank": lambda character, category: category == "Zs" or character == "\t",
    "cntrl": lambda character, category: category == "Cc",
    "punct": lambda character, category: category[0] in "PS",
    "graph": lambda character, category: (
        category not in ("Cc", "Cn", "Cs") and not _is_space(character, category)
    ),
    "print": lambda character, category: category not in ("Cc", "Cn", "Cs", "Zl", "Zp"),
    "xdigit": lambda character, category: character in "0123456789abcdefABCDEF",
    "ascii": lambda character, category: ord(character) < 0x80,
    "word": _is_word,
}
POSIX = frozenset(_NAMED)
_NAMED["w"] = lambda character, category: (
    character in _SUPERSCRIPTS or _is_word(character, category)
)
_CATEGORIES = frozenset(
    {
        *(
            "C",
            "Cc",
            "Cf",
            "Cn",
            "Co",
            "Cs",
            "L",
            "Ll",
            "Lm",
            "Lo",
            "Lt",
            "Lu",
            "M",
            "Mc",
            "Me",
            "Mn",
        ),
        *("N", "Nd", "Nl", "No", "P", "Pc", "Pd", "Pe", "Pf", "Pi", "Po", "Ps"),
        *("S", "Sc", "Sk", "Sm", "So", "Z", "Zl", "Zp", "Zs"),
    }
)
_LONG = {
    "letter": "L", "mark": "M", "number": "N", "punctuation": "P", "symbol": "S", "separator": "Z",
    "other": "C",
}  # fmt: skip


def property_of(name: str, *, ascii_only: bool = False) -> Ranges | None:
    """What `\\p{name}` stands for: a general category or a POSIX class. None when it is neither."""
    plain = name.replace("_", "").replace(" ", "").replace("-", "").lower()
    if plain == "punct":
        return category("P", ascii_only=ascii_only)  # unlike [[:punct:]], which has symbols too
    if plain in POSIX:
        return named(plain, ascii_only=ascii_only)
    found = _LONG.get(plain) or plain.capitalize()
    return category(found, ascii_only=ascii_only) if found in _CATEGORIES else None


@cache
def named(name: str, *, ascii_only: bool = False) -> Ranges:
    """Those of `[[:name:]]`; `w` is `\\w`, which has six numbers more than `word`."""
    return _where(_NAMED[name], ascii_only)


@cache
def category(prefix: str, *, ascii_only: bool = False) -> Ranges:
    return _where(lambda character, category: category.startswith(prefix), ascii_only)


def inverted(ranges: Iterable[tuple[int, int]]) -> Ranges:
    """All that is in none of them."""
    found, start = [], 0
    for first, last in sorted(ranges):
        if first > start:
            found.append((start, first - 1))
        start = max(start, last + 1)
    if start <= _LAST:
        found.append((start, _LAST))
    return tuple(found)


def _where(belongs: Callable[[str, str], bool], ascii_only: bool) -> Ranges:
    found: list[tuple[int, int]] = []
    for first, last in _ASCII if ascii_only else _runs():
        if not belongs(chr(first), unicodedata.category(chr(first))):
            continue
        if found and found[-1][1] == first - 1:
            first = found.pop()[0]
        found.append((first, last))
    return tuple(found)


_ASCII = tuple((code, code) for code in range(0x80))


@cache
def _runs() -> Ranges:
    """Code points one by one; where Unicode has nothing by now, or private use, in large blocks."""
    block = 0x1000
    return tuple(
        (code, code + step - 1)
        for start in range(0, _LAST + 1, block)
        for step in [1 if start < 0x40000 or start == 0xE0000 else block]
        for code in range(start, start + block, step)
    )
