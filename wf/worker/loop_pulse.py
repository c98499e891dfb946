"""The pulse: the event loop says in the slot that it turns, and how late it did.

It comes from the loop on purpose: whatever stops the loop stops the pulse, and the supervisor sees
it (docs/design.md §9).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from wf.process.status_page import SlotWriter

LONGEST_S = 1.0
_PER_LIMIT = 4  # beats within the time after which a loop is taken for hanging


async def beat(slot: SlotWriter, held: Callable[[], int], hang_s: float) -> None:
    """For ever. `held`: how many tasks are in hand."""
    interval_s = min(LONGEST_S, hang_s / _PER_LIMIT)
    expected_s = time.monotonic()
    while True:
        now_s = time.monotonic()
        slot.tick(now_s, held(), max(0.0, now_s - expected_s))
        expected_s = now_s + interval_s
        await asyncio.sleep(interval_s)
