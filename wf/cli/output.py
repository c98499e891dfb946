"""Printing: results to standard output, everything said about them to standard error."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from wf.cli import shapes

if TYPE_CHECKING:
    from rich.console import RenderableType

PIPE_WIDTH = 200  # columns when nobody's terminal says how many


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    sys.stdout.write(shapes.text(value) + "\n")


def print_line(text: str) -> None:
    """A line of plain text on standard output."""
    sys.stdout.write(text + "\n")


def print_rich(renderable: RenderableType) -> None:
    """A table or a timeline: coloured on a terminal, plain and wide in a pipe."""
    from rich.console import Console

    # COLUMNS and the terminal itself decide; a pipe has neither, and cutting at 80 loses data.
    wide = not sys.stdout.isatty() and "COLUMNS" not in os.environ
    Console(width=PIPE_WIDTH if wide else None, highlight=False, markup=False).print(renderable)


def say(text: str) -> None:
    """Raw text on standard error."""
    sys.stderr.write(text)


def note(text: str) -> None:
    """Something a person should know; never part of the result."""
    sys.stderr.write(text + "\n")


def complain(text: str) -> None:
    """`error: …`, one per line of a message with several problems."""
    first, *rest = text.splitlines() or [""]
    sys.stderr.write("".join([f"error: {first}\n", *(f"       {line}\n" for line in rest)]))
