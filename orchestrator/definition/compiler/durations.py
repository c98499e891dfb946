"""Durations: ISO 8601 (`PT1H30M`) and the object form (`{hours: 1, minutes: 30}`)."""

from __future__ import annotations

import re
from typing import Any

MAX_MS = 100 * 366 * 86_400_000  # a century: beyond it is a mistake, and dates would overflow
RULE = 'write an ISO 8601 duration such as "PT30S", or an object such as {seconds: 30}'

_UNITS_MS = {
    "days": 86_400_000,
    "hours": 3_600_000,
    "minutes": 60_000,
    "seconds": 1_000,
    "milliseconds": 1,
}
UNITS = tuple(_UNITS_MS)

_NUMBER = r"([0-9]{1,15}(?:[.,][0-9]{1,9})?)"
_ISO = re.compile(
    rf"P(?=[0-9T])(?:{_NUMBER}W)?(?:{_NUMBER}D)?"
    rf"(?:T(?=[0-9])(?:{_NUMBER}H)?(?:{_NUMBER}M)?(?:{_NUMBER}S)?)?\Z"
)
_ISO_MS = (7 * 86_400_000, 86_400_000, 3_600_000, 60_000, 1_000)
_CALENDAR = re.compile(r"P[0-9.,]+[YM]")


class DurationError(Exception):
    """The value is no duration; the text is a sentence with its remedy."""


def from_text(text: str) -> int:
    """Milliseconds of an ISO 8601 duration. Raises DurationError."""
    match = _ISO.match(text.strip())
    if match is None:
        if _CALENDAR.match(text.strip()):
            raise DurationError(f'"{text}": years and months have no fixed length: use days')
        raise DurationError(f'"{text[:60]}" is not a duration: {RULE}')
    total = 0.0
    for amount, unit_ms in zip(match.groups(), _ISO_MS, strict=True):
        if amount is not None:
            total += float(amount.replace(",", ".")) * unit_ms
    return _checked(round(total))


def from_object(value: dict[str, Any]) -> int:
    """Milliseconds of the object form, all keys known and numbers. Raises DurationError."""
    if not value:
        raise DurationError(f"an empty object is not a duration: {RULE}")
    total = 0.0
    for unit, amount in value.items():
        if unit not in _UNITS_MS:
            raise DurationError(f'unknown unit "{unit}": allowed: {", ".join(UNITS)}')
        if type(amount) not in (int, float) or not 0 <= amount <= MAX_MS:
            raise DurationError(f"{unit} must be a number from 0 up, found {amount!r:.60}")
        total += amount * _UNITS_MS[unit]
    return _checked(round(total))


def from_value(value: Any) -> int:
    """Milliseconds of either form. Raises DurationError."""
    if type(value) is str:
        return from_text(value)
    if type(value) is dict:
        return from_object(value)
    raise DurationError(f"{str(value)[:60]} is not a duration: {RULE}")


def _checked(total_ms: int) -> int:
    if total_ms > MAX_MS:
        raise DurationError("is longer than a century")
    return total_ms
