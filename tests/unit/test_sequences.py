"""Sets of stream sequences."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.machine.events import sequence_ranges


@given(st.lists(st.integers(1, 60)))
def test_it_holds_what_was_added_in_whatever_order(numbers):
    ranges = []
    for number in numbers:
        before = [list(one) for one in ranges]
        more = sequence_ranges.added(ranges, number)
        assert ranges == before, "the given set was changed"
        ranges = more
    assert {n for n in range(70) if sequence_ranges.has(ranges, n)} == set(numbers)
    assert all(one[1] + 1 < other[0] for one, other in pairwise(ranges))


def test_neighbours_take_no_room():
    ranges = []
    for number in range(1, 10_001):
        ranges = sequence_ranges.added(ranges, number)
    assert ranges == [[1, 10_000]]


def test_it_stays_small_and_forgets_nothing():
    ranges = []
    for number in range(0, 10_000, 2):
        ranges = sequence_ranges.added(ranges, number)
    assert len(ranges) == sequence_ranges.MAX_RANGES
    assert all(sequence_ranges.has(ranges, number) for number in range(0, 10_000, 2))
    assert not sequence_ranges.has(ranges, 9_997)
