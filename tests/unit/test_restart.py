"""The restart policy: when a place is filled again, and when a pool is held back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.policy.restart import (
    Breaker,
    Cause,
    Exit,
    Policy,
    after_exit,
    after_failure,
    exceeds_budget,
    is_proof,
)

POLICY = Policy()


def ended(
    cause: Cause = Cause.CRASH,
    at: float = 100.0,
    ready: bool = True,
    progress: bool = False,
    ready_for_s: float = 0.0,
) -> Exit:
    return Exit(at, cause, ready, progress, ready_for_s)


def test_first_crash_of_a_ready_process_is_answered_at_once() -> None:
    decision = after_exit(0, ended(), POLICY, draw=0.99)
    assert (decision.delay_s, decision.failures) == (0.0, 1)


def test_a_process_that_never_got_ready_waits_even_the_first_time() -> None:
    decision = after_exit(0, ended(Cause.BOOT, ready=False), POLICY, draw=0.5)
    assert decision.delay_s == pytest.approx(POLICY.first_delay_s / 2)


def test_delays_double_up_to_the_limit() -> None:
    delays = [after_exit(n, ended(), POLICY, draw=1.0).delay_s for n in range(1, 12)]
    assert delays[:4] == [0.5, 1.0, 2.0, 4.0]
    assert delays[-1] == POLICY.max_delay_s


def test_progress_forgets_earlier_failures() -> None:
    decision = after_exit(9, ended(progress=True), POLICY, draw=0.9)
    assert (decision.delay_s, decision.failures) == (0.0, 1)


def test_a_long_time_ready_is_as_good_as_progress() -> None:
    decision = after_exit(9, ended(ready_for_s=POLICY.stable_s), POLICY, draw=0.9)
    assert decision.failures == 1


@pytest.mark.parametrize("cause", [Cause.RECYCLE, Cause.OPERATOR])
def test_a_process_that_was_asked_to_leave_is_not_blamed(cause: Cause) -> None:
    assert after_exit(5, ended(cause, progress=True), POLICY, draw=0.9).delay_s == 0.0
    assert after_failure(Breaker(), ended(cause), 1, POLICY) == Breaker()


def test_recycling_again_and_again_without_any_work_is_slowed_down() -> None:
    idle = ended(Cause.RECYCLE, ready_for_s=0.1)
    assert after_exit(3, idle, POLICY, draw=0.5).delay_s > 0.0
    assert after_failure(Breaker(), idle, 1, POLICY) == Breaker()


def test_recycling_before_ever_being_ready_is_a_failure() -> None:
    assert after_exit(3, ended(Cause.RECYCLE, ready=False), POLICY, draw=0.5).delay_s > 0.0


def test_a_missing_broker_is_waited_for_in_short_steps_and_opens_nothing() -> None:
    gone = ended(Cause.BROKER, ready=False)
    assert after_exit(20, gone, POLICY, draw=1.0).delay_s == POLICY.broker_max_delay_s
    breaker = Breaker()
    for _ in range(100):
        breaker = after_failure(breaker, gone, 1, POLICY)
    assert breaker.state(100.0) == "closed"


@given(
    failures=st.integers(0, 10_000),
    cause=st.sampled_from(Cause),
    ready=st.booleans(),
    progress=st.booleans(),
    draw=st.floats(0, 1, exclude_max=True),
)
def test_no_history_gives_a_delay_outside_the_limits(
    failures: int, cause: Cause, ready: bool, progress: bool, draw: float
) -> None:
    decision = after_exit(failures, ended(cause, 0.0, ready, progress), POLICY, draw)
    assert 0.0 <= decision.delay_s <= POLICY.max_delay_s
    assert decision.failures <= failures + 1


def failing(times: int, every_s: float = 1.0, size: int = 1) -> tuple[Breaker, float]:
    breaker, now = Breaker(), 0.0
    for _ in range(times):
        now += every_s
        breaker = after_failure(breaker, ended(at=now), size, POLICY)
    return breaker, now


def test_failures_within_the_intensity_leave_the_breaker_closed() -> None:
    breaker, now = failing(POLICY.intensity)
    assert breaker.places(now, 0) is None


def test_one_more_failure_opens_the_breaker() -> None:
    breaker, now = failing(POLICY.intensity + 1)
    assert breaker.state(now) == "open"
    assert breaker.places(now, 0) == 0
    assert breaker.cause is Cause.CRASH


def test_slow_failures_never_open_it() -> None:
    breaker, now = failing(1000, every_s=POLICY.window_s / POLICY.intensity)
    assert breaker.state(now) == "closed"


def test_a_large_pool_may_lose_every_place_three_times() -> None:
    assert failing(3 * 64, every_s=0.01, size=64)[0].open_until is None
    assert failing(3 * 64 + 1, every_s=0.01, size=64)[0].open_until is not None


def test_when_half_open_one_process_at_a_time_may_try() -> None:
    breaker, now = failing(POLICY.intensity + 1)
    later = now + POLICY.open_s
    assert breaker.state(later) == "half-open"
    assert breaker.places(later, unproved=0) == 1
    assert breaker.places(later, unproved=1) == 0


def test_a_failed_try_opens_it_for_twice_as_long() -> None:
    breaker, now = failing(POLICY.intensity + 1)
    again = now + POLICY.open_s + 1
    breaker = after_failure(breaker, ended(at=again), 1, POLICY)
    assert breaker.open_until == again + 2 * POLICY.open_s


def test_failures_of_the_last_ones_running_do_not_lengthen_an_open_breaker() -> None:
    breaker, now = failing(POLICY.intensity + 1)
    assert after_failure(breaker, ended(at=now + 1), 1, POLICY).open_until == breaker.open_until


def test_a_config_failure_opens_the_breaker_at_once() -> None:
    breaker = after_failure(Breaker(), ended(Cause.CONFIG, ready=False), 8, POLICY)
    assert breaker.open_until == 100.0 + POLICY.config_open_s


def test_an_opening_never_lasts_longer_than_the_limit() -> None:
    breaker, now = Breaker(), 0.0
    for _ in range(100):
        breaker = after_failure(breaker, ended(Cause.CONFIG, at=now), 1, POLICY)
        assert breaker.open_until is not None
        assert breaker.open_until - now <= POLICY.max_open_s
        now = breaker.open_until


def test_a_finished_task_or_some_seconds_ready_prove_a_pool() -> None:
    assert is_proof(0.1, done=1, policy=POLICY)
    assert is_proof(POLICY.proof_s, done=0, policy=POLICY)
    assert not is_proof(0.1, done=0, policy=POLICY)


def test_an_engine_that_never_gets_ready_is_given_up() -> None:
    boot = ended(Cause.BOOT, ready=False)
    assert not exceeds_budget(POLICY.boots - 1, boot, Breaker(), POLICY)
    assert exceeds_budget(POLICY.boots, boot, Breaker(), POLICY)


def test_an_engine_that_comes_back_each_time_is_given_up_only_past_the_intensity() -> None:
    inside, then = failing(POLICY.intensity)
    beyond, now = failing(POLICY.intensity + 1)
    assert not exceeds_budget(50, ended(at=then), inside, POLICY)
    assert exceeds_budget(1, ended(at=now), beyond, POLICY)


# Every cause has a budget of its own


def repeated(cause: Cause, times: int, every_s: float, size: int = 1) -> str:
    breaker, now = Breaker(), 0.0
    for _ in range(times):
        now += every_s
        breaker = after_failure(breaker, ended(cause, at=now), size, POLICY)
    return breaker.state(now)


@pytest.mark.parametrize("cause", [Cause.HANG, Cause.MEMORY])
def test_slow_failures_have_a_smaller_budget_over_a_longer_time(cause: Cause) -> None:
    assert repeated(cause, POLICY.slow_intensity, every_s=30.0) == "closed"
    assert repeated(cause, POLICY.slow_intensity + 1, every_s=30.0) == "open"
    assert repeated(cause, 100, every_s=POLICY.slow_window_s / POLICY.slow_intensity) == "closed"
    assert repeated(cause, 64, every_s=1.0, size=64) == "closed"


def test_hangs_do_not_use_up_the_budget_of_crashes() -> None:
    breaker = Breaker()
    for n in range(POLICY.slow_intensity):
        breaker = after_failure(breaker, ended(Cause.HANG, at=100.0 + n), 1, POLICY)
    for n in range(POLICY.intensity):
        breaker = after_failure(breaker, ended(Cause.CRASH, at=110.0 + n), 1, POLICY)
    assert breaker.state(130.0) == "closed"
    assert after_failure(breaker, ended(Cause.CRASH, at=130.0), 1, POLICY).state(130.0) == "open"


@pytest.mark.parametrize("cause", [Cause.BROKER, Cause.RECYCLE, Cause.OPERATOR])
def test_what_nobody_is_to_blame_for_has_no_budget(cause: Cause) -> None:
    assert repeated(cause, 1000, every_s=0.01) == "closed"


def test_an_engine_that_hangs_again_and_again_is_given_up() -> None:
    breaker = Breaker()
    for n in range(POLICY.slow_intensity + 1):
        breaker = after_failure(breaker, ended(Cause.HANG, at=60.0 * n), 1, POLICY)
    last = ended(Cause.HANG, at=60.0 * POLICY.slow_intensity)
    assert exceeds_budget(1, last, breaker, POLICY)


@given(
    st.lists(st.tuples(st.floats(0, 50), st.sampled_from(Cause)), max_size=40),
    st.integers(1, 64),
)
def test_an_open_breaker_always_ends_and_never_forgets_why(
    history: list[tuple[float, Cause]], size: int
) -> None:
    breaker, now = Breaker(), 0.0
    for gap_s, cause in history:
        now += gap_s
        breaker = after_failure(breaker, ended(cause, at=now), size, POLICY)
        if breaker.open_until is not None:
            assert breaker.cause is not None
            assert breaker.open_until <= now + POLICY.max_open_s


def test_crashes_while_tasks_ran_have_a_budget_of_their_own_and_short_pauses() -> None:
    breaker = Breaker()
    by_task = Exit(100.0, Cause.CRASH, True, made_progress=False, by_task=True)
    for _ in range(POLICY.task_intensity):
        breaker = after_failure(breaker, by_task, 1, POLICY)
    assert breaker.state(100.0) == "closed"
    assert after_failure(breaker, by_task, 1, POLICY).state(100.0) == "open"
    assert after_failure(breaker, ended(), 1, POLICY).state(100.0) == "closed"
    assert after_exit(20, by_task, POLICY, draw=1.0).delay_s == POLICY.task_max_delay_s
