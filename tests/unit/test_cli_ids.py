"""Ids sort by time, are deterministic, and are valid names on the wire."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wf.protocol import subjects
from wf.protocol.ids import LENGTH, derived_id, new_id

TIMES = st.integers(0, 2**48 - 1)


def test_a_known_id_never_changes():
    assert new_id(0, bytes(10)) == "0" * 26
    assert new_id(2**48 - 1, b"\xff" * 10) == "7" + "Z" * 25
    assert derived_id(4711, 1_700_000_000_000) == "01HF7YAT0000000000000004K7"


@given(TIMES, st.binary(min_size=10, max_size=10))
def test_a_new_id_is_a_valid_name_of_26_characters(now_ms, random_bytes):
    made = new_id(now_ms, random_bytes)
    assert len(made) == LENGTH
    assert subjects.is_name(made)


@given(st.tuples(TIMES, st.integers(0, 2**63)), st.tuples(TIMES, st.integers(0, 2**63)))
def test_derived_ids_sort_by_time_then_sequence(left, right):
    ids = [derived_id(sequence, time_ms) for time_ms, sequence in (left, right)]
    assert (ids[0] < ids[1]) == (left < right)
    assert (ids[0] == ids[1]) == (left == right)


def test_out_of_range_arguments_are_refused():
    with pytest.raises(ValueError, match="10 random bytes"):
        new_id(0, b"short")
    with pytest.raises(ValueError, match="48 bits"):
        new_id(2**48, bytes(10))
    with pytest.raises(ValueError, match="48 bits"):
        derived_id(1, -1)
    with pytest.raises(ValueError, match="80 bits"):
        derived_id(-1, 0)
