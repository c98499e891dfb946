"""Waiting for a condition, with a limit, instead of sleeping."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

LIMIT_S = 15.0


async def eventually(
    look: Callable[[], Awaitable[T]], *, limit_s: float = LIMIT_S, what: str = "condition"
) -> T:
    """Await `look()` until it gives something true; that. AssertionError after `limit_s`."""
    limit = time.monotonic() + limit_s
    while True:
        found = await look()
        if found:
            return found
        assert time.monotonic() < limit, f"{what}: not within {limit_s} s, last seen {found!r}"
        await asyncio.sleep(0.005)


def eventually_sync(
    look: Callable[[], T], *, limit_s: float = LIMIT_S, what: str = "condition"
) -> T:
    """Call `look()` until it gives something true; that. AssertionError after `limit_s`."""
    limit = time.monotonic() + limit_s
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < limit, f"{what}: not within {limit_s} s, last seen {found!r}"
        time.sleep(0.005)
