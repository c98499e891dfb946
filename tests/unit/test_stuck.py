"""Telling the kinds of stuck apart."""

from __future__ import annotations

from dataclasses import replace

import pytest

from supervisor.policy.hang_detection import DEADLINE_MARGIN_S, Finding, Kind, Seen, look
from wf.process.status_page import Header, Phase, SlotTask

HANG_S = 18.0
IDLE_S = 30.0
HEADER = Header(1, 0, 10, 1, 0.0, Phase.RUNNING, 0, 0, 0, 0.0, 0, 0.0)


def watch(
    seconds: int,
    *,
    ticks: bool = True,
    tasks: tuple[SlotTask, ...] = (),
    phase: Phase = Phase.RUNNING,
    starving: bool = False,
    step: float = 1.0,
) -> tuple[float, Finding] | None:
    """When something was found, and what, in so many looks from 1000 s on."""
    seen = Seen()
    for n in range(seconds):
        now = 1000.0 + n * step
        header = replace(HEADER, tick_s=now if ticks else 999.0, phase=phase)
        found = look(
            seen, header, tasks, now, hang_s=HANG_S, starving=starving, starved_limit_s=IDLE_S
        )
        if found:
            return now, found
    return None


def test_a_loop_that_turns_is_well() -> None:
    assert watch(600) is None


def test_a_loop_that_stands_still_is_found_after_the_threshold() -> None:
    found = watch(600, ticks=False)
    assert found is not None
    at, finding = found
    assert finding.kind is Kind.LOOP
    assert HANG_S <= at - 1000 <= HANG_S + 2


@pytest.mark.parametrize("phase", [Phase.NONE, Phase.BOOTING, Phase.DRAINING, Phase.LEAVING])
def test_only_a_process_that_works_can_hang(phase: Phase) -> None:
    assert watch(600, ticks=False, phase=phase) is None


def test_time_in_which_nobody_looked_does_not_count() -> None:
    assert watch(8, ticks=False, step=3600.0) is None


def test_a_task_past_its_deadline_is_found_after_a_margin() -> None:
    found = watch(600, tasks=(SlotTask(5, "r", 900.0, 1010.0, False),))
    assert found is not None
    assert found[1].kind is Kind.OVERDUE
    assert found[0] == pytest.approx(1010 + DEADLINE_MARGIN_S + 1)


def test_a_blocked_loop_is_given_less_time_past_a_deadline() -> None:
    found = watch(600, ticks=False, tasks=(SlotTask(5, "r", 900.0, 1003.0, False),))
    assert found is not None
    assert found[1].kind is Kind.OVERDUE
    assert found[0] == 1007.0


def test_a_task_whose_outcome_is_known_has_no_deadline() -> None:
    assert watch(600, tasks=(SlotTask(5, "r", 900.0, 1010.0, True),)) is None


def test_a_worker_that_takes_nothing_though_tasks_wait_is_the_third_kind() -> None:
    found = watch(600, starving=True)
    assert found is not None
    assert found[1].kind is Kind.IDLE
    assert IDLE_S <= found[0] - 1000 <= IDLE_S + 3
