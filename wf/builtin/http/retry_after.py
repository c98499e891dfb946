"""When a service may be asked again: the header Retry-After (RFC 9110, 10.2.3). Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

STATUSES = frozenset({429, 503})
_SECONDS = re.compile(r"[0-9]{1,10}(?:\.[0-9]{1,10})?\Z")  # some services say fractions


def retry_after_s(
    status: int, headers: Mapping[str, str], now_s: float, most_s: float
) -> float | None:
    """Seconds from now on, at most `most_s`; None where nothing usable is said.

    A date counts from the answer's own `Date`, if it has one: the clocks may differ.
    """
    told = headers.get("retry-after", "").strip()
    if status not in STATUSES or not told:
        return None
    if _SECONDS.match(told):
        return min(float(told), most_s)
    until_s = _moment(told)
    if until_s is None:
        return None
    since_s = _moment(headers.get("date", ""))
    return min(max(until_s - (now_s if since_s is None else since_s), 0.0), most_s)


def _moment(text: str) -> float | None:
    try:
        found: datetime = parsedate_to_datetime(text)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
