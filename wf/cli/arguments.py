"""What people type: JSON, @file or - for standard input; durations."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from wf.errors import MessageError
from wf.protocol import gate, subjects
from wf.protocol.durations import parse_duration


class UsageError(Exception):
    """The command line is wrong; says what to type instead."""


def check_name(kind: str, text: str) -> str:
    """`text`, or UsageError when it cannot name a `kind` (instance, workflow, signal)."""
    if not subjects.is_name(text):
        raise UsageError(f"{kind} {text!r} is not a valid name: use {subjects.NAME_RULE}")
    return text


def check_text(kind: str, text: str) -> str:
    """`text`, or UsageError when it is empty or too long to name a `kind`."""
    try:
        return subjects.check_text(kind, text)
    except MessageError as error:
        raise UsageError(str(error)) from None


def read_json(text: str | None, option: str) -> Any:
    """The value of `--input` or `--data`: JSON itself, `@path`, or `-` for standard input.

    None (not given) is JSON null. Raises UsageError.
    """
    if text is None:
        return None
    place = f"{option} - (standard input)" if text == "-" else option
    place = f"{option} {text}" if text.startswith("@") else place
    return parse_json(read_bytes(text, option), place)


def read_bytes(text: str, option: str) -> bytes:
    """The bytes of an option: the text itself, `@path`, or `-`. Raises UsageError."""
    if text == "-":
        try:
            return sys.stdin.buffer.read()
        except OSError as error:
            raise UsageError(
                f"{option} -: standard input cannot be read: {error.strerror}"
            ) from error
    if not text.startswith("@"):
        return os.fsencode(text)  # as it was typed, also what is no UTF-8
    path = Path(text[1:])
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{option} {text}: cannot read {path}: {error.strerror}") from error


def parse_json(data: bytes, place: str) -> Any:
    """JSON, or UsageError that shows where it breaks, or what would be changed without a word."""
    try:
        return gate.decode(data, place)
    except MessageError as error:
        raise UsageError(
            f"{error}; write JSON, @file or - "
            f"""(in a shell: {place.split()[0]} '{{"order_id": 4711}}')"""
        ) from error


def read_duration(text: str | None, option: str) -> float | None:
    """Seconds of `30s`, `5m`, `1h30m`; None when not given. Raises UsageError."""
    if text is None:
        return None
    try:
        return parse_duration(text)
    except ValueError as error:
        raise UsageError(f"{option}: {error}") from error
