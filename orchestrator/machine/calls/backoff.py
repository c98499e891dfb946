"""How long to wait before an attempt. Arithmetic only; chance is drawn from a hash."""

from __future__ import annotations

import hashlib
import math
from typing import Any

_MAX_DOUBLINGS = 64


def backoff_ms(backoff: str, delay_ms: float, failures: int, max_ms: float) -> float:
    """The delay after the nth failure: constant, linear (n × delay), exponential
    (delay × 2ⁿ⁻¹), at most `max_ms`."""
    if backoff == "linear":
        delay_ms *= failures
    elif backoff == "exponential":
        delay_ms *= 2.0 ** min(failures - 1, _MAX_DOUBLINGS)
    return min(delay_ms, max_ms)


def put_off_ms(error: Any, delay_ms: int, max_ms: int) -> int:
    """`delay_ms`, or longer where the error says when another attempt makes sense again: its
    `retry_after_s`, in seconds. At most `max_ms`."""
    after_s = error.get("retry_after_s") if type(error) is dict else None
    if isinstance(after_s, bool) or not isinstance(after_s, int | float):
        return delay_ms
    if not 0 <= after_s < math.inf:
        return delay_ms
    return max(delay_ms, math.ceil(min(after_s * 1000, max_ms)))


def draw(*parts: object) -> float:
    """A number from 0 up to 1, the same for the same parts, on every machine."""
    text = ":".join(str(part) for part in parts)
    digest = hashlib.blake2b(text.encode(errors="replace"), digest_size=8).digest()
    return (int.from_bytes(digest) >> 11) / (1 << 53)
