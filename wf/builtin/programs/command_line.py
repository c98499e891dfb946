"""Which program a `run: shell` may start, and with what: words, no shell. Pure.

A command is taken as a shell would take it if there were nothing to expand: words, quotes and
backslashes. What only a shell could carry out is refused, never passed on as if it were a word.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any, NamedTuple

ANY = "*"  # in [builtin.shell] commands: whatever it is, by SHELL
SHELL = "/bin/sh"
PATH = "/usr/local/bin:/usr/bin:/bin"

_UNQUOTED = frozenset("|&;<>()$`*?[]{}~#!\n\r")
_IN_DOUBLE_QUOTES = frozenset("$`")


class Refused(Exception):
    """Why it is not run. The text names the remedy."""


class Program(NamedTuple):
    """What to execute."""

    path: str
    arguments: tuple[str, ...]


def program(command: Any, arguments: Sequence[str], allowed: Sequence[str]) -> Program:
    """The program of a command, if `allowed` (paths) has it. Raises Refused."""
    command = _text(command, "the command")
    if ANY in allowed:
        return Program(SHELL, ("-c", command, SHELL, *arguments))
    first, *more = words(command)
    for path in allowed:
        if first in (path, PurePath(path).name):
            return Program(path, (*more, *arguments))
    raise Refused(
        f"{first!r} is not allowed on this host: add its path to [builtin.shell] commands in"
        f" pool.toml; allowed are {', '.join(allowed) or 'none'}"
    )


def words(command: str) -> list[str]:
    """The words of a command; at least one. Raises Refused for what only a shell can do."""
    found: list[str] = []
    word: list[str] = []
    inside, quote, at = False, "", 0
    while at < len(command):
        character = command[at]
        at += 1
        if quote == "'":
            if character == "'":
                quote = ""
            else:
                word.append(character)
        elif character == "\\":
            following = command[at : at + 1]
            keeps = quote == '"' and following not in ('"', "\\")
            if keeps:
                word.append(character)
            if not following:
                raise Refused("the command ends with a backslash: remove it, or quote it")
            if not keeps:
                word.append(following)
                at += 1
            inside = True
        elif character in (_IN_DOUBLE_QUOTES if quote else _UNQUOTED):
            raise Refused(
                f"the command needs a shell for {character!r}, and none is started: put it into"
                " single quotes or into `arguments`, or allow every command with"
                ' [builtin.shell] commands = ["*"] in pool.toml'
            )
        elif character in "'\"" and quote in ("", character):
            quote = "" if quote else character
            inside = True
        elif character in " \t" and not quote:
            if inside or word:
                found.append("".join(word))
            word, inside = [], False
        else:
            word.append(character)
    if quote:
        raise Refused(f"a quote {quote} of the command has no partner: add it")
    if inside or word:
        found.append("".join(word))
    if not found:
        raise Refused("the command is empty: name a program")
    return found


def texts(values: Any) -> tuple[str, ...]:
    """Arguments as text. Raises Refused for what is none."""
    if not isinstance(values, list):
        raise Refused(f"`arguments` must give a list, found {type(values).__name__}")
    return tuple(_text(value, f"argument {at}") for at, value in enumerate(values, 1))


def environment(given: Any, allowed: Sequence[str] | None) -> dict[str, str]:
    """What a definition adds to the environment. `allowed`: the only names that it may set, None
    for any; programs load and run other things because of theirs. Raises Refused."""
    if not isinstance(given, Mapping):
        raise Refused(f"`environment` must give an object, found {type(given).__name__}")
    found = {}
    for name, value in given.items():
        if not name.isidentifier() or not name.isascii():
            raise Refused(f"{name!r} cannot name a variable of the environment")
        if allowed is not None and name not in allowed:
            raise Refused(
                f"the variable {name} is not allowed on this host: add it to [builtin.shell]"
                f" environment in pool.toml; allowed are {', '.join(allowed) or 'none'}"
            )
        found[name] = _text(value, f"the variable {name}")
    return found


def _text(value: Any, what: str) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    if not isinstance(value, str):
        raise Refused(f"{what} must be a text or a number, found {type(value).__name__}")
    if "\0" in value:
        raise Refused(f"{what} has a NUL in it, which no program can be given")
    return value
