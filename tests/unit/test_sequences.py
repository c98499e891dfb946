"""Sets of stream sequences."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.machine import sequences


@given(st.lists(st.integers(1, 60)))
def test_it_holds_what_was_added_in_whatever_order(numbers):
    ranges = []
    for number in numbers:
        before = [list(one) for one in ranges]
        more = sequences.added(ranges, number)
        assert ranges == before, "the given set was changed"
        ranges = more
    assert {n for n in range(70) if sequences.has(ranges, n)} == set(numbers)
    assert all(one[1] + 1 < other[0] for one, other in pairwise(ranges))


def test_neighbours_take_no_room():
    ranges = []
    for number in range(1, 10_001):
        ranges = sequences.added(ranges, number)
    assert ranges == [[1, 10_000]]


def test_it_stays_small_and_forgets_nothing():
    ranges = []
    for number in range(0, 10_000, 2):
        ranges = sequences.added(ranges, number)
    assert len(ranges) == sequences.MAX_RANGES
    assert all(sequences.has(ranges, number) for number in range(0, 10_000, 2))
    assert not sequences.has(ranges, 9_997)
