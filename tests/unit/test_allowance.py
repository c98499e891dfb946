"""Bytes under way: never more than allowed, in the order of coming, none lost."""

from __future__ import annotations

import asyncio

from wf.jetstream import batch
from wf.jetstream.allowance import Allowance
from wf.jetstream.port import Outgoing


def carried(limit: int, sizes: list[int], *, cancel: int | None = None) -> tuple[int, list[int]]:
    """(the most that was under way at once, in which order they came through)."""
    most = under_way = 0
    order: list[int] = []

    async def carry(allowance: Allowance, number: int, size: int) -> None:
        nonlocal most, under_way
        async with allowance.holding(size):
            under_way += min(size, limit)
            most = max(most, under_way)
            await asyncio.sleep(0)
            order.append(number)
            under_way -= min(size, limit)

    async def run() -> None:
        allowance = Allowance(limit)
        tasks = [asyncio.create_task(carry(allowance, n, size)) for n, size in enumerate(sizes)]
        await asyncio.sleep(0)
        if cancel is not None:
            tasks[cancel].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        async with allowance.holding(limit):  # all of it was given back
            pass

    asyncio.run(asyncio.wait_for(run(), 5))
    return most, order


def test_no_more_than_the_limit_is_under_way() -> None:
    most, order = carried(100, [40, 40, 40, 10, 100, 1])
    assert most <= 100
    assert order == [0, 1, 2, 3, 4, 5]


def test_what_is_larger_than_the_limit_goes_alone() -> None:
    assert carried(100, [50, 1000, 50]) == (100, [0, 1, 2])


def test_who_gives_up_waiting_holds_nobody_up() -> None:
    assert carried(100, [100, 100, 100], cancel=1)[1] == [0, 2]


def test_messages_are_cut_into_slices_of_so_many_bytes() -> None:
    messages = [Outgoing("s", b"x" * size) for size in (700, 700, 5000, 1, 1)]
    parts = [len(part) for part, _ in batch.slices(messages, 2000)]
    assert parts == [2, 1, 2]
    assert list(batch.slices([], 2000)) == []
