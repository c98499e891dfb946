"""How many processes a pool gets from its load, and what keeps it from getting more."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.health import host_pressure
from supervisor.policy.backlog import Waiting
from supervisor.policy.scaling import Bounds, Host, Scaling, ScalingPolicy, decide

POLICY = ScalingPolicy()
BOUNDS = Bounds(1, 8)
CALM = Host(0.0, 0.0, 8 * 2**30, 50 * 2**20)


def load(pending: int, in_flight: int = 0, waiting_s: float = 10.0) -> Waiting:
    return Waiting(pending, in_flight, 0, waiting_s, waiting_s if pending else 0.0)


def decided(
    state: Scaling,
    waiting: Waiting | None,
    *,
    now: float = 1000.0,
    ready: int | None = None,
    on: Host = CALM,
    bounds: Bounds = BOUNDS,
) -> Scaling:
    """With ten tasks at a time in each process."""
    ready = state.target if ready is None else ready
    return decide(state, waiting, ready, 10, bounds, on, now, POLICY)


def test_a_backlog_that_waits_gets_more_processes_but_no_more_than_twice_as_many() -> None:
    assert decided(Scaling(1), load(pending=15, in_flight=10)).target == 2
    assert decided(Scaling(2), load(pending=500)).target == 4
    assert decided(Scaling(2), load(pending=15, in_flight=15)).target == 3


def test_there_are_never_more_than_allowed() -> None:
    new = decided(Scaling(8), load(pending=500))
    assert new.target == 8
    assert "8 processes are the most allowed" in new.reason


def test_a_mere_burst_changes_nothing() -> None:
    new = decided(Scaling(1), load(pending=500, waiting_s=0.5))
    assert new.target == 1
    assert "not long enough" in new.reason


def test_a_pool_without_a_process_grows_at_once() -> None:
    assert decided(Scaling(0), load(1, waiting_s=0.0), bounds=Bounds(0, 8)).target == 1


def test_tasks_that_run_long_are_no_reason_to_grow() -> None:
    assert decided(Scaling(1), load(pending=0, in_flight=30, waiting_s=600.0)).target == 1


def test_it_waits_for_those_that_still_start() -> None:
    new = decided(Scaling(4), load(pending=500), ready=2)
    assert new.target == 4
    assert "2 processes are not ready yet" in new.reason


def test_it_grows_again_only_after_a_while() -> None:
    grown = decided(Scaling(1), load(pending=500))
    soon = grown.changed_at + POLICY.grow_again_s - 0.1
    assert decided(grown, load(pending=500), now=soon).target == 2
    later = grown.changed_at + POLICY.grow_again_s
    assert decided(grown, load(pending=500), now=later).target == 4


@pytest.mark.parametrize(
    ("on", "word"),
    [
        (replace(CALM, cpu_pressure=POLICY.cpu_pressure + 1), "CPU pressure"),
        (replace(CALM, memory_pressure=POLICY.memory_pressure + 1), "memory pressure"),
        (replace(CALM, available_bytes=POLICY.reserve_bytes + 2**20), "memory are left"),
    ],
)
def test_a_host_that_has_nothing_to_spare_vetoes(on: Host, word: str) -> None:
    new = decided(Scaling(1), load(pending=500), on=on)
    assert new.target == 1
    assert new.vetoed
    assert word in new.reason


def test_of_several_processes_as_many_come_as_fit_into_memory() -> None:
    on = replace(CALM, available_bytes=POLICY.reserve_bytes + 100 * 2**20)
    assert decided(Scaling(4), load(pending=500), on=on).target == 6


def test_it_shrinks_slowly_and_one_at_a_time() -> None:
    state = decided(Scaling(4), load(0))
    assert state.target == 4
    state = decided(state, load(0), now=1000.0 + POLICY.shrink_after_s - 1)
    assert state.target == 4
    state = decided(state, load(0), now=1000.0 + POLICY.shrink_after_s)
    assert state.target == 3
    state = decided(state, load(0), now=1000.0 + POLICY.shrink_after_s + 1)
    assert state.target == 3
    state = decided(state, load(0), now=1000.0 + POLICY.shrink_after_s + POLICY.shrink_again_s)
    assert state.target == 2


def test_a_moment_of_need_starts_the_wait_anew() -> None:
    state = decided(Scaling(2), load(0))
    state = decided(state, load(pending=0, in_flight=15), now=1050.0)
    state = decided(state, load(0), now=1055.0)
    assert decided(state, load(0), now=1000.0 + POLICY.shrink_after_s).target == 2


@pytest.mark.parametrize("state", [Scaling(3), Scaling(3, low_since=0.0)])
def test_an_unreadable_backlog_holds_and_is_not_taken_for_an_empty_one(state: Scaling) -> None:
    new = decided(state, None)
    assert new.target == 3
    assert new.low_since is None


def test_bounds_that_have_changed_are_obeyed_even_when_nothing_is_known() -> None:
    assert decided(Scaling(12), None).target == 8
    assert decided(Scaling(1), None, bounds=Bounds(3, 8)).target == 3


_loads = st.none() | st.builds(
    load, st.integers(0, 500), st.integers(0, 200), st.floats(0, 100, allow_nan=False)
)
_hosts = st.builds(
    Host,
    st.none() | st.floats(0, 100),
    st.none() | st.floats(0, 100),
    st.none() | st.integers(0, 2**34),
    st.none() | st.integers(1, 2**30),
)


@given(st.lists(st.tuples(_loads, _hosts, st.floats(0, 100), st.integers(0, 8)), max_size=40))
def test_no_history_leaves_the_bounds_or_grows_under_pressure_or_shrinks_below_need(
    history: list[tuple[Waiting | None, Host, float, int]],
) -> None:
    state, now = Scaling(1), 0.0
    for waiting, on, gap_s, ready in history:
        now += gap_s
        new = decided(state, waiting, now=now, ready=ready, on=on)
        assert BOUNDS.fewest <= new.target <= BOUNDS.most
        assert new.target <= 2 * state.target
        assert new.target >= state.target - 1
        if waiting is None:
            assert new.target == state.target
        elif new.target < state.target:
            assert (waiting.pending + waiting.in_flight) <= 10 * new.target
            assert now - (state.low_since or 0.0) >= POLICY.shrink_after_s
        elif new.target > state.target:
            assert (on.cpu_pressure or 0.0) <= POLICY.cpu_pressure
            assert (on.memory_pressure or 0.0) <= POLICY.memory_pressure
            assert waiting.pending > 0
            assert now - state.changed_at >= POLICY.grow_again_s
        assert new.reason
        state = new


# What the host has left


def test_pressure_is_read_as_the_kernel_writes_it(tmp_path: Path) -> None:
    file = tmp_path / "cpu"
    file.write_text("some avg10=12.34 avg60=0.10 avg300=0.26 total=42959266\nfull avg10=0.00\n")
    assert host_pressure.pressure(file) == 12.34
    file.write_text("")
    assert host_pressure.pressure(file) is None
    assert host_pressure.pressure(tmp_path / "none") is None


def test_some_memory_is_available() -> None:
    assert host_pressure.available_bytes()
