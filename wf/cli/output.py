"""Printing: results to standard output, everything said about them to standard error.

What cannot be written never ends a command half-way: the work is done, so `main` is told of it at
the end (`lost`), and the exit status still speaks of the instance. Text that the terminal's
encoding lacks is escaped: in JSON as JSON does it, elsewhere as Python does.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from rich.console import RenderableType

PIPE_WIDTH = 200  # columns when nobody's terminal says how many
_STREAMS = (("stdin", os.O_RDONLY), ("stdout", os.O_WRONLY), ("stderr", os.O_WRONLY))

_lost: list[OSError] = []  # why standard output did not take everything


def prepare() -> None:
    """Make the standard streams usable whatever the shell has made of them.

    A closed one is replaced by one that is empty and takes nothing, so that no socket gets its
    number; nothing that is printed can fail for its characters.
    """
    _lost.clear()
    for number, (name, flags) in enumerate(_STREAMS):
        try:
            os.fstat(number)
        except OSError:
            # Opened for the other direction: every use fails, as it does with a closed one.
            os.open(os.devnull, os.O_RDONLY if flags == os.O_WRONLY else os.O_WRONLY)
        if getattr(sys, name) is None:
            mode = "r" if flags == os.O_RDONLY else "w"
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def lost() -> OSError | None:
    """Why not all of the result could be printed, if so. Flushes standard output."""
    if not _lost:
        _write(sys.stdout.flush)
    return _lost[0] if _lost else None


def forget() -> None:
    """Let the interpreter's last flush go nowhere: what was to be said about it is said."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def json_text(value: Any) -> str:
    """Indented JSON."""
    return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    text = json_text(value)
    if not _is_unicode(sys.stdout.encoding):
        text = "".join(_escaped(character) for character in text)
    _print(text + "\n")


def print_line(text: str) -> None:
    """A line of plain text on standard output."""
    _print(text + "\n")


def print_rich(renderable: RenderableType) -> None:
    """A table or a timeline: coloured on a terminal, plain and wide in a pipe."""
    from rich.console import Console

    # COLUMNS and the terminal itself decide; a pipe has neither, and cutting at 80 loses data.
    wide = not sys.stdout.isatty() and "COLUMNS" not in os.environ
    console = Console(width=PIPE_WIDTH if wide else None, highlight=False, markup=False)
    _write(lambda: console.print(renderable))


def say(text: str) -> None:
    """Raw text on standard error. Where that takes nothing, nobody can be told."""
    with contextlib.suppress(OSError):
        sys.stderr.write(text)
        sys.stderr.flush()


def note(text: str) -> None:
    """Something a person should know; never part of the result."""
    say(text + "\n")


def complain(text: str) -> None:
    """`error: …`, one per line of a message with several problems."""
    first, *rest = text.splitlines() or [""]
    say("".join([f"error: {first}\n", *(f"       {line}\n" for line in rest)]))


def _print(text: str) -> None:
    _write(lambda: sys.stdout.write(text))


def _write(work: Callable[[], Any]) -> None:
    try:
        work()
    except OSError as error:
        _lost.append(error)


def _is_unicode(encoding: str) -> bool:
    return encoding.lower().replace("-", "").startswith("utf")


def _escaped(character: str) -> str:
    """As JSON writes it in ASCII: beyond 16 bits, as two halves."""
    if character < "\x80":
        return character
    pair = character.encode("utf-16-be")
    return "".join(f"\\u{pair[n]:02x}{pair[n + 1]:02x}" for n in range(0, len(pair), 2))
