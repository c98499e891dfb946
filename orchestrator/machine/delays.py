"""How long to wait before an attempt. Arithmetic only; chance is drawn from a hash."""

from __future__ import annotations

import hashlib

_MAX_DOUBLINGS = 64


def backoff_ms(backoff: str, delay_ms: float, failures: int, max_ms: float) -> float:
    """The delay after the nth failure: constant, linear (n × delay), exponential
    (delay × 2ⁿ⁻¹), at most `max_ms`."""
    if backoff == "linear":
        delay_ms *= failures
    elif backoff == "exponential":
        delay_ms *= 2.0 ** min(failures - 1, _MAX_DOUBLINGS)
    return min(delay_ms, max_ms)


def draw(*parts: object) -> float:
    """A number from 0 up to 1, the same for the same parts, on every machine."""
    text = ":".join(str(part) for part in parts)
    digest = hashlib.blake2b(text.encode(errors="replace"), digest_size=8).digest()
    return (int.from_bytes(digest) >> 11) / (1 << 53)
