"""Durations and sizes as people write them: "1h30m", "250ms", "512MiB"."""

from __future__ import annotations

import math
import re

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_DURATION_PART = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)")
_DURATION_RULE = 'a duration such as "30s", "5m", "1h30m", "250ms", "7d", or a number of seconds'

_BYTES = {
    "": 1,
    "b": 1,
    **{f"{letter}b": 1000**power for power, letter in enumerate("kmgt", start=1)},
    **{f"{letter}ib": 1024**power for power, letter in enumerate("kmgt", start=1)},
}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*\Z")
_SIZE_RULE = 'a size such as "512MiB", "8MB", "1GiB", or a number of bytes'


def parse_duration(value: object) -> float:
    """Seconds. Plain numbers are seconds. Raises ValueError that says what is allowed."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        seconds = float(value)
    elif isinstance(value, str):
        seconds = _seconds_of(value)
    else:
        raise ValueError(f"expected {_DURATION_RULE}; found {value!r}")  # noqa: TRY004
    if not math.isfinite(seconds) or seconds < 0:
        raise ValueError(f"expected {_DURATION_RULE}, not negative; found {value!r}")
    return seconds


def _seconds_of(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        pass  # not a plain number: units follow
    total, position = 0.0, 0
    while match := _DURATION_PART.match(text, position):
        total += float(match[1]) * _SECONDS[match[2]]
        position = match.end()
    if position == 0 or text[position:].strip():
        raise ValueError(f"expected {_DURATION_RULE}; found {text!r}")
    return total


def format_duration(seconds: float) -> str:
    """The same notation back, the shortest exact form down to milliseconds: 5400 → "1h30m"."""
    milliseconds = round(seconds * 1000)
    if milliseconds == 0:
        return "0s"
    parts: list[str] = []
    for unit in ("d", "h", "m", "s", "ms"):
        count, milliseconds = divmod(milliseconds, round(_SECONDS[unit] * 1000))
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts)


def parse_size(value: object) -> int:
    """Bytes. KB, MB, GB, TB count in 1000s and KiB, MiB, GiB, TiB in 1024s.

    Raises ValueError that says what is allowed ("512M" is refused as ambiguous).
    """
    if isinstance(value, int) and not isinstance(value, bool):
        if value < 0:
            raise ValueError(f"expected {_SIZE_RULE}, not negative; found {value!r}")
        return value
    match = _SIZE.match(value) if isinstance(value, str) else None
    factor = _BYTES.get(match[2].lower()) if match else None
    if match is None or factor is None:
        raise ValueError(f"expected {_SIZE_RULE}; found {value!r}")
    size = float(match[1]) * factor if "." in match[1] else int(match[1]) * factor
    if size != int(size):
        raise ValueError(f"expected a whole number of bytes; found {value!r}")
    return int(size)


def format_size(size: int) -> str:
    """The largest binary unit that divides it exactly: 536870912 → "512MiB"."""
    for power, letter in ((4, "T"), (3, "G"), (2, "M"), (1, "K")):
        if size and size % 1024**power == 0:
            return f"{size // 1024**power}{letter}iB"
    return f"{size}B"
