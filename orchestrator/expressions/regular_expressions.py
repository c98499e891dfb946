"""jq's regular expressions (Oniguruma, Perl_NT syntax) in terms of Python's. Pure.

What a pattern may have: pattern_reader.py. Bounded in time: see docs/decisions/0208.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache

from orchestrator.expressions.pattern_reader import FEW, PatternReader
from orchestrator.expressions.pattern_reader import PatternRefused as PatternRefused

# Python looks for signals after 4,096 steps, and one step may read the whole text.
MAX_TEXT = 65_536  # characters, for what may match any number of them
_FLAGS = {
    "l": "put the longest alternative first instead",
    "n": 'use `match(…; "g") | select(.length > 0)` instead',
    "m": "jq has none of that name: begin the pattern with `(?m)` for `^` and `$` at each line",
}


class Pattern:
    """One compiled pattern with its flags, as purejq's functions use it."""

    __slots__ = ("_full", "_plain", "_unbounded", "is_global", "source")

    def __init__(self, source: str, flags: str) -> None:
        """Raises PatternRefused."""
        options = _options(flags)
        self.source = source
        self.is_global = "g" in flags
        reader = PatternReader(source, options, ascii_only=True)
        self._plain = _compiled(reader, options)
        self._unbounded = reader.unbounded
        # Classes of all of Unicode are large, and most texts have no need for them.
        self._full: Callable[[], re.Pattern[str]] = lru_cache(maxsize=1)(
            lambda: _compiled(PatternReader(source, options, ascii_only=False), options)
        )

    def search(self, text: str, start: int = 0) -> re.Match[str] | None:
        """The first match from `start` on. Raises PatternRefused for a text that is too long."""
        if self._unbounded and len(text) > MAX_TEXT:
            raise PatternRefused(
                f"`{self.source:.60}` may match any number of characters, and the text has"
                f" {len(text):,} of them: give it at most {MAX_TEXT:,}, as after `split`, or limit"
                f" its repetitions, such as {{0,{FEW}}}"
            )
        pattern = self._plain if text.isascii() else self._full()
        return pattern.search(text, start)


@lru_cache(maxsize=512)
def compile_pattern(source: str, flags: str) -> Pattern:
    """Raises PatternRefused."""
    return Pattern(source, flags)


def _options(flags: str) -> str:
    for flag in flags:
        if flag in _FLAGS:
            raise PatternRefused(f"the flag {flag} is not supported: {_FLAGS[flag]}")
        if flag not in "gixsp":
            raise PatternRefused(f"{flags} is not a valid modifier string")
    # s is what holds anyway: `^` and `$` are those of the whole text.
    return "".join(sorted({"i": "i", "p": "s", "x": "x"}[flag] for flag in flags if flag in "ipx"))


def _compiled(reader: PatternReader, options: str) -> re.Pattern[str]:
    translated = reader.read()
    flags = re.NOFLAG
    for letter in options + reader.inline:
        flags |= {"i": re.I, "s": re.S, "m": re.M, "x": re.NOFLAG}[letter]
    try:
        return re.compile(translated, flags)
    except (re.error, OverflowError) as error:
        why = str(error).partition(" at position")[0]
        told = next((text for begin, text in _REMEDIES.items() if why.startswith(begin)), why)
        raise PatternRefused(told) from None
    except RecursionError:
        raise PatternRefused("it nests too deeply") from None


_REMEDIES = {
    "look-behind requires fixed-width pattern": (
        "a look-behind needs a fixed width: write one for each width, or use a group"
    ),
    "multiple repeat": "two repetitions follow each other: put the first one in `(?:…)`",
    "nothing to repeat": "a repetition has nothing before it: write `\\` before it to mean itself",
    "missing ), unterminated subpattern": "a `(` has no partner: close it, or write `\\(`",
    "redefinition of group name": "two groups have one name: rename one",
    "invalid group reference": "it refers to a group that is not there, or comes later",
    "unknown group name": "it refers to a name that is not there, or comes later",
    "cannot refer to an open group": "a group cannot refer to itself",
    "bad character range": "a range is empty: turn it round",
    "min repeat greater": "a repetition ends before it begins: turn `{m,n}` round",
    "unbalanced parenthesis": "a `)` has no partner: remove it, or write `\\)`",
}


# The functions that take a pattern: name and number of arguments → where the flags are, if any.
FUNCTIONS: dict[tuple[str, int], int | None] = {
    **{(name, 1): None for name in ("test", "match", "capture", "scan", "splits")},
    **{(name, 2): 1 for name in ("test", "match", "capture", "scan", "splits", "split")},
    **{(name, 2): None for name in ("sub", "gsub")},
    **{(name, 3): 2 for name in ("sub", "gsub")},
}


def problem(source: str, flags: str) -> str | None:
    """Why a pattern is refused; None when it can be used."""
    try:
        compile_pattern(source, flags)
    except PatternRefused as refusal:
        return f"has the regular expression `{source[:60]}`: {refusal}"
    return None
