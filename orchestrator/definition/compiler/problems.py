"""Everything that is wrong with a definition, each with its place and its remedy."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from orchestrator.definition.compiler.budget import MAX_COMPARED, MAX_PROBLEMS, MAX_SHOWN
from wf.errors import Problem

Position = tuple[int, int]  # line and column, both from 1


def escape(token: str) -> str:
    """One reference token of a JSON pointer (RFC 6901)."""
    return token.replace("~", "~0").replace("/", "~1")


class Enough(Exception):
    """There are more problems than are told."""


class Problems:
    """Collects problems; `positions` maps JSON pointers to places in the YAML, where known.

    `registered`: an older version of this program may have accepted the definition, and instances
    depend on it.
    """

    def __init__(
        self, file: str, positions: Mapping[str, Position], *, registered: bool = False
    ) -> None:
        self.file = file
        self.positions = positions
        self.registered = registered
        self.found: list[Problem] = []
        self.warnings: list[Problem] = []
        self._known: set[Problem] = set()

    def add(self, pointer: str, sentence: str) -> None:
        """Note a problem at `pointer`; `sentence` says what is wrong and what to do. Raises Enough
        when there are so many that looking for more helps nobody."""
        problem = self.at(pointer, sentence)
        if problem in self._known:
            return
        if len(self.found) >= MAX_PROBLEMS:
            raise Enough
        self._known.add(problem)
        self.found.append(problem)

    def newly(self, pointer: str, sentence: str) -> None:
        """The same, of what only new definitions are refused for."""
        if not self.registered:
            self.add(pointer, sentence)

    def warn(self, pointer: str, sentence: str) -> None:
        """Note what is allowed, and may well mean something else than its author thinks."""
        if len(self.warnings) >= MAX_PROBLEMS:
            return
        warning = self.at(pointer, sentence)
        if warning not in self.warnings:
            self.warnings.append(warning)

    def at(self, pointer: str, sentence: str) -> Problem:
        """A problem, or a warning, with the place of `pointer` in the file."""
        line, column = self._position(pointer) or (0, 0)
        return Problem(self.file, line, column, pointer, sentence)

    def _position(self, pointer: str) -> Position | None:
        """That of the pointer, else that of the nearest thing around it."""
        while pointer and pointer not in self.positions:
            pointer = pointer.rpartition("/")[0]
        return self.positions.get(pointer)

    def ordered(self) -> list[Problem]:
        """All problems, in the order of the file."""
        return sorted(self.found, key=lambda problem: (problem.line, problem.column))

    def keys(
        self,
        pointer: str,
        value: Mapping[str, Any],
        allowed: Iterable[str],
        unsupported: Mapping[str, str] | None = None,
    ) -> None:
        """Note every key of `value` that is neither allowed nor known to be unsupported."""
        allowed = list(allowed)
        for key in value:
            if key in allowed:
                continue
            place = f"{pointer}/{escape(key)}"
            if unsupported is not None and key in unsupported:
                self.add(place, unsupported[key])
            else:
                known = [*allowed, *(unsupported or ())]
                self.add(place, f'unknown key "{key:.200}"{self.meant(key, known, allowed)}')

    @staticmethod
    def meant(word: str, known: Iterable[str], allowed: Iterable[str] | None = None) -> str:
        """`: did you mean "x"?`, or the list of what is allowed."""
        known = list(known)
        compared = known[:MAX_COMPARED]
        close = difflib.get_close_matches(word[:200], compared, n=1, cutoff=0.6) or [
            name for name in compared if name.lower() == word.lower()
        ]
        if close:
            return f': did you mean "{close[0]:.200}"?'
        listed = listing(known if allowed is None else list(allowed))
        return f": allowed here: {listed}" if listed else ""

    def mapping(self, pointer: str, value: Any, what: str) -> dict[str, Any] | None:
        """`value` if it is an object, else None and a problem."""
        if type(value) is dict:
            return value
        self.add(pointer, f"{what} must be an object, found {kind_of(value)}")
        return None

    def text(self, pointer: str, value: Any, what: str) -> str | None:
        """`value` if it is a non-empty string, else None and a problem."""
        if type(value) is str and value:
            return value
        self.add(pointer, f"{what} must be a non-empty string, found {kind_of(value)}")
        return None


def listing(names: Sequence[str]) -> str:
    """The names, or the first of them."""
    more = len(names) - MAX_SHOWN
    shown = ", ".join(f"{name:.100}" for name in names[:MAX_SHOWN])
    return f"{shown} and {more} more" if more > 0 else shown


def kind_of(value: Any) -> str:
    """A JSON value in words, with the value where it is short."""
    if value is None:
        return "nothing (null)"
    if value is True or value is False:
        return "true" if value else "false"
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "an array"
    if isinstance(value, str):
        return "an empty string" if not value else f'"{value[:40]}"'
    return f"the number {value}"


_PATTERN = re.compile(
    r"\.[*+?]|\\[.dDwWsSb/]|^\^|\$$|\[[^\]]+\][*+?{]|\([^)]*\|[^)]*\)|\)[*+?]|[\w.]\*$"
)


def no_pattern(problems: Problems, pointer: str, value: Any, instead: str) -> None:
    """Warn of a filter's constant that looks like a pattern; `instead`: what to write."""
    if type(value) is str and not value.lstrip().startswith("${") and _PATTERN.search(value):
        problems.warn(
            pointer,
            f'"{value:.60}" is compared as it is, not as a pattern: for that write {instead}',
        )


def no_template(problems: Problems, pointer: str, value: Any) -> None:
    """Note an address with variables of a URI template where nothing fills them."""
    if type(value) is str and not value.lstrip().startswith("${") and set("{}") & set(value):
        problems.newly(
            pointer, "is not filled in as a URI template here: make the whole address ${ … }"
        )
