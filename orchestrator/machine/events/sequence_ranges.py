"""A set of stream sequences that stays small: ranges, neighbours joined.

When there are too many ranges the lowest ones are joined into one: what lies between them counts
as known. That can only concern an event that comes after thousands of later ones.
"""

from __future__ import annotations

from bisect import bisect_right

Ranges = list[list[int]]  # [first, last], in order

MAX_RANGES = 2000


def has(ranges: Ranges, sequence: int) -> bool:
    at = bisect_right(ranges, sequence, key=lambda one: one[0]) - 1
    return at >= 0 and sequence <= ranges[at][1]


def added(ranges: Ranges, sequence: int) -> Ranges:
    """A new set with `sequence`; the given one is not changed."""
    if has(ranges, sequence):
        return ranges
    at = bisect_right(ranges, sequence, key=lambda one: one[0])
    before, after = ranges[:at], ranges[at:]
    first = last = sequence
    if before and before[-1][1] == sequence - 1:
        first = before.pop()[0]
    if after and after[0][0] == sequence + 1:
        last = after[0][1]
        after = after[1:]
    joined = [*before, [first, last], *after]
    if len(joined) > MAX_RANGES:
        joined[:2] = [[joined[0][0], joined[1][1]]]
    return joined
