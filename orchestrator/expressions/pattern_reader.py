"""Reads a pattern of jq (Oniguruma, Perl_NT syntax) and writes it as Python's. Pure.

Construct by construct: what both engines understand alike is passed on, what Python says otherwise
is written so, and everything else is refused by name with the remedy. So a pattern never means
another thing silently.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from orchestrator.expressions import character_classes
from orchestrator.expressions.character_classes import Ranges

MAX_PATTERN = 10_000  # characters
MAX_NESTING = 100  # groups
FEW = 100  # repetitions that one step may be of in longer texts

_QUANTIFIER = re.compile(r"[*+?]|\{[0-9]+(?:,[0-9]*)?\}")
_CLASS = re.compile(r"\[:(\^?)([A-Za-z]*):\]")
_PROPERTY = re.compile(r"\{(\^?)([^{}]*)\}")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_INLINE = re.compile(r"\(\?([imsx]*)(?:-([imsx]*))?([:)])")
_HEXADECIMAL = re.compile(r"\{([0-9A-Fa-f]{1,8})\}|([0-9A-Fa-f]{1,2})")
_CONTROL = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "a": "\a", "e": "\x1b"}
_SETS = {"d": "digit", "w": "w", "s": "space"}
_LINE_BREAK = r"(?>\r\n|[\n-\r\x85\u2028\u2029])"

_REFUSED_ESCAPES = {
    "h": r"write `[ \t]` for blanks, `[0-9a-fA-F]` for hexadecimal digits",
    "H": r"write `[^ \t]`, or `[^0-9a-fA-F]`",
    "v": r"write `[\n\x0B\f\r]`",
    "G": "write `^`, or take the text apart first",
    "K": "write a look-behind `(?<=…)`, or a group and its capture",
    "X": r"write `.\p{M}*`",
    "y": r"write `\b`",
    "Y": r"write `\B`",
    "g": "write the expression out: groups cannot be called",
    "u": r"write `\x{…}`",
    "c": r"write `\x…`",
}
_REFUSED_GROUPS = {
    "(?~": "the absent operator: write `(?:(?!…).)*`",
    "(?|": "branch reset: give the groups names of their own",
    "(?{": "code: there is none",
    "(?P": "Python's form of names: write `(?<name>…)` and `\\k<name>`",
    "(?R": "recursion: there is none",
    "(?&": "a call of a group: write the expression out",
    "(*": "a verb: there is none",
}


class PatternRefused(Exception):
    """The pattern is none, or has something that means another thing here; the text says what."""


class _Item(NamedTuple):
    """One member of a bracket: a character, or a set."""

    ranges: Ranges
    is_set: bool


class PatternReader:
    """Writes one pattern anew. `ascii_only`: it is tried on such texts only."""

    def __init__(self, source: str, options: str, *, ascii_only: bool) -> None:
        if len(source) > MAX_PATTERN:
            raise PatternRefused(f"it is longer than {MAX_PATTERN:,} characters")
        self._source = source
        self._at = 0
        self._depth = 0
        self._ascii_only = ascii_only
        self._spaced = "x" in options
        self._any_case = "i" in options
        self.inline = ""
        self.unbounded = False

    def read(self) -> str:
        """Python's form. Raises PatternRefused."""
        found = []
        while found_inline := _INLINE.match(self._source, self._at):
            on, off, end = found_inline.groups()
            if end == ":" or off:
                break
            self.inline += on
            self._any_case = self._any_case or "i" in on
            self._spaced = self._spaced or "x" in on
            self._at = found_inline.end()
        while self._at < len(self._source):
            found.append(self._construct())
        return "".join(found)

    def _construct(self) -> str:
        character = self._source[self._at]
        if self._spaced and (character in " \t\n\r\f\v" or character == "#"):
            return self._skipped(character)
        if character == "\\":
            return self._escape()
        if character == "[":
            return self._bracket()
        if character == "(":
            return self._group()
        if character in "*+?{" and (found := self._quantifier()):
            return found
        self._at += 1
        if character == ")":
            self._depth -= 1
        if character == "^" and "m" in self.inline:
            return r"(?:^(?!\Z)|\A)"  # no line begins after the last line feed
        return character if character in "^$.|)*+?" else self._literal(character)

    def _literal(self, character: str) -> str:
        if self._any_case and len(character.casefold()) > 1:
            raise PatternRefused(
                f"`{character}` stands for more than one character where case does not count:"
                f" leave the flag i out, or write `(?-i:{character})|{character.casefold()}`"
            )
        return re.escape(character)

    def _skipped(self, character: str) -> str:
        end = self._source.find("\n", self._at) if character == "#" else self._at
        self._at = len(self._source) if end < 0 else end + 1
        return ""

    def _quantifier(self) -> str | None:
        found = _QUANTIFIER.match(self._source, self._at)
        if found is None:
            if re.match(r"\{,[0-9]+\}", self._source[self._at : self._at + 12]):
                raise PatternRefused("`{,n}` is no repetition in jq: write `{0,n}`")
            return None
        self._at = found.end()
        last = found[0].strip("{}").rpartition(",")[2]
        few = found[0] == "?" or 0 <= _number(last) <= FEW
        self.unbounded = self.unbounded or not few
        suffix = self._source[self._at : self._at + 1]
        if suffix and suffix in "?+":
            self._at += 1
            return found[0] + suffix
        return found[0]

    # --- groups -----------------------------------------------------------------------------------

    def _group(self) -> str:
        self._depth += 1
        if self._depth > MAX_NESTING:
            raise PatternRefused(f"it has more than {MAX_NESTING} groups inside of each other")
        rest = self._source[self._at : self._at + 4]
        for opening in ("(?:", "(?=", "(?!", "(?<=", "(?<!", "(?>"):
            if rest.startswith(opening):
                self._at += len(opening)
                return opening
        if rest.startswith("(?#"):
            return self._comment()
        for opening, why in _REFUSED_GROUPS.items():
            if rest.startswith(opening):
                raise PatternRefused(f"`{opening}` is not supported, {why}")
        if not rest.startswith("(?"):
            self._at += 1
            return "("
        if rest[2:3] in ("<", "'"):
            return f"(?P<{self._name(3)}>"
        return self._scoped()

    def _comment(self) -> str:
        end = self._source.find(")", self._at)
        if end < 0:
            raise PatternRefused("a comment `(?#` has no end: write `)`")
        self._depth -= 1
        self._at = end + 1
        return ""

    def _name(self, before: int) -> str:
        """The name that begins `before` characters from here, in `<…>` or `'…'`."""
        opening = self._source[self._at + before - 1]
        start = self._at + before
        end = self._source.find(">" if opening == "<" else "'", start)
        name = self._source[start:end] if end >= 0 else ""
        if not _NAME.fullmatch(name):
            raise PatternRefused(
                f"`{name:.40}` cannot name a group here: use letters, digits and _, no digit first"
            )
        self._at = end + 1
        return name

    def _scoped(self) -> str:
        condition = re.compile(r"\(\?\([0-9]{1,2}\)").match(self._source, self._at)
        if condition is not None:
            self._at = condition.end()
            return condition[0]
        found = _INLINE.match(self._source, self._at)
        if found is None:
            raise PatternRefused(f"`{self._source[self._at : self._at + 4]}` begins no known group")
        on, off, end = found.groups(default="")
        if end == ")":
            raise PatternRefused(
                f"`{found[0]}` goes at the very beginning: write `(?{on or 'i'}:…)`"
            )
        if "x" in on + off:
            raise PatternRefused("`x` holds for a whole pattern: begin it with `(?x)`")
        if "m" in on + off:
            raise PatternRefused("`m` holds for a whole pattern: begin it with `(?m)`")
        self._at = found.end()
        return f"(?{on}{f'-{off}' if off else ''}:" if on or off else "(?:"

    def _named(self, name: str) -> Ranges:
        return character_classes.named(name, ascii_only=self._ascii_only)

    # --- escapes ----------------------------------------------------------------------------------

    def _escape(self) -> str:
        letter = self._escaped()
        if letter in "bBAzZ":
            self._at += 2
            return {"A": r"\A", "z": r"\Z", "Z": r"(?=\n?\Z)"}.get(letter) or self._boundary(letter)
        if letter in "RNO":
            self._at += 2
            return {"R": _LINE_BREAK, "N": r"[^\n]", "O": r"(?s:.)"}[letter]
        if letter == "Q":
            return self._quoted()
        if letter == "k":
            return self._reference()
        if letter in "123456789":
            digits = re.compile("[0-9]+").match(self._source, self._at + 1)
            assert digits is not None
            self._at = digits.end()
            return f"(?:\\{digits[0]})"
        if letter in "dDwWsS" and self._ascii_only and letter not in "sS":
            self._at += 2
            return f"\\{letter}"
        item = self._item()
        if letter in "pP":
            return f"(?-i:{_written(item.ranges)})"  # the flag i is not for properties
        return _written(item.ranges) if item.is_set else self._literal(chr(item.ranges[0][0]))

    def _escaped(self) -> str:
        letter = self._source[self._at + 1 : self._at + 2]
        if not letter:
            raise PatternRefused("it ends with `\\`: write `\\\\` for the character")
        return letter

    def _boundary(self, letter: str) -> str:
        if self._ascii_only:
            return f"\\{letter}"
        word = _written(self._named("word"))
        inside, outside = f"(?<={word})(?={word})", f"(?<!{word})(?!{word})"
        begins, ends = f"(?<!{word})(?={word})", f"(?<={word})(?!{word})"
        return f"(?:{begins}|{ends})" if letter == "b" else f"(?:{inside}|{outside})"

    def _quoted(self) -> str:
        end = self._source.find(r"\E", self._at)
        text = self._source[self._at + 2 : end if end >= 0 else None]
        self._at = len(self._source) if end < 0 else end + 2
        return re.escape(text)

    def _reference(self) -> str:
        found = re.compile(r"\\k(?:<([0-9]{1,2})>|'([0-9]{1,2})')").match(self._source, self._at)
        if found is not None:
            self._at = found.end()
            return f"(?:\\{found[1] or found[2]})"
        if self._source[self._at + 2 : self._at + 3] not in ("<", "'"):
            raise PatternRefused(r"`\k` needs the name of a group: write `\k<name>`")
        return f"(?P={self._name(3)})"

    def _item(self) -> _Item:
        """The escape that begins here: a character or a set, in a bracket or not."""
        letter = self._escaped()
        self._at += 2
        if letter in "dDwWsS":
            ranges = self._named(_SETS[letter.lower()])
            return _Item(_signed(ranges, letter.isupper()), True)
        if letter in "pP":
            return self._property(letter == "P")
        if letter in _CONTROL:
            return _one(_CONTROL[letter])
        if letter == "x":
            return self._hexadecimal()
        if letter == "0":
            octal = re.compile("[0-7]{0,2}").match(self._source, self._at)
            assert octal is not None
            self._at = octal.end()
            return _one(chr(int(octal[0] or "0", 8)))
        if letter.isascii() and letter.isalnum():
            why = _REFUSED_ESCAPES.get(letter, f"write `{letter}` for the character")
            raise PatternRefused(f"`\\{letter}` is not supported: {why}")
        return _one(letter)

    def _property(self, negative: bool) -> _Item:
        found = _PROPERTY.match(self._source, self._at)
        if found is None:
            raise PatternRefused(r"`\p` needs braces: write `\p{L}`")
        self._at = found.end()
        ranges = character_classes.property_of(found[2], ascii_only=self._ascii_only)
        if ranges is None:
            raise PatternRefused(
                f"`\\p{{{found[2]:.40}}}` is not known here: use a general category such as L,"
                " Lu or Nd, or a POSIX class such as Alpha"
            )
        return _Item(_signed(ranges, negative != bool(found[1])), True)

    def _hexadecimal(self) -> _Item:
        found = _HEXADECIMAL.match(self._source, self._at)
        code = int(found[1] or found[2], 16) if found is not None else -1
        if found is None or not 0 <= code <= 0x10FFFF:
            raise PatternRefused(r"`\x` needs a code point: write `\x41` or `\x{1F600}`")
        self._at = found.end()
        return _one(chr(code))

    # --- brackets ---------------------------------------------------------------------------------

    def _bracket(self) -> str:
        negative = self._source.startswith("[^", self._at)
        self._at += 2 if negative else 1
        ranges: list[tuple[int, int]] = []
        is_first = True
        while is_first or not self._source.startswith("]", self._at):
            item = self._member()
            ranges += self._extended(item)
            is_first = False
        self._at += 1
        return _written(tuple(ranges), "^" if negative else "")

    def _member(self) -> _Item:
        if self._at >= len(self._source):
            raise PatternRefused("a `[` has no partner: close it, or write `\\[`")
        found = _CLASS.match(self._source, self._at)
        if found is not None:
            name = found[2].lower()
            if name not in character_classes.POSIX:
                listed = ", ".join(sorted(character_classes.POSIX))
                raise PatternRefused(f"`{found[0]}` is no class: known are {listed}")
            self._at = found.end()
            return _Item(_signed(self._named(name), bool(found[1])), True)
        character = self._source[self._at]
        if character == "\\":
            if self._escaped() == "b":
                self._at += 2
                return _one("\b")
            return self._item()
        self._at += 1
        return _one(character)

    def _extended(self, item: _Item) -> Ranges:
        """`item`, or the range that it begins."""
        follows = self._source[self._at : self._at + 2]
        if item.is_set or len(follows) < 2 or follows[0] != "-" or follows[1] == "]":
            return item.ranges
        self._at += 1
        last = self._member()
        if last.is_set:
            raise PatternRefused("a class cannot end a range: write `\\-` for the character -")
        (first,), (end,) = item.ranges, last.ranges
        if end[0] < first[0]:
            raise PatternRefused(
                f"the range {chr(first[0])}-{chr(end[0])} is empty: turn it round, or write `\\-`"
            )
        return ((first[0], end[0]),)


def _number(digits: str) -> int:
    return int(digits) if digits.isdecimal() and len(digits) < 7 else -1


def _one(character: str) -> _Item:
    return _Item(((ord(character), ord(character)),), False)


def _signed(ranges: Ranges, negative: bool) -> Ranges:
    return character_classes.inverted(ranges) if negative else ranges


def _written(ranges: Ranges, sign: str = "") -> str:
    """A bracket of Python's, every character escaped."""
    if not ranges:
        return r"[^\0-\U0010ffff]"
    members = "".join(f"\\U{first:08x}-\\U{last:08x}" for first, last in ranges)
    return f"[{sign}{members}]"
