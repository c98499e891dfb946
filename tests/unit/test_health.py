"""When the supervisor is healthy, and how much time it asks systemd for."""

from __future__ import annotations

from supervisor.health.self_check import OVERDUE_S, busy_until, overdue
from supervisor.policy.spec import ORCHESTRATOR, ChildSpec
from supervisor.processes.process import Process
from supervisor.processes.seat import Place
from supervisor.processes.spawn import Spawned

SPEC = ChildSpec("orchestrator", ORCHESTRATOR, ORCHESTRATOR, 0)
NOW = 1000.0


def process(**more: object) -> Process:
    made = Process(SPEC, 0, Spawned(1, -1, None), NOW - 100, boot_deadline=NOW - 90)
    made.ready_at = NOW - 99
    for name, value in more.items():
        setattr(made, name, value)
    return made


def test_a_tree_that_works_is_healthy() -> None:
    one = process()
    assert overdue([one], [Place(SPEC, one)], NOW) is None


def test_children_in_trouble_within_their_limits_are_no_reason() -> None:
    children = [
        process(stop_deadline=NOW + 5),
        process(stop_deadline=NOW - OVERDUE_S + 1),
        process(ready_at=None, boot_deadline=NOW + 1),
    ]
    assert overdue(children, [Place(SPEC, next_start=NOW + 60)], NOW) is None
    assert overdue(children, [Place(SPEC, next_start=NOW - 1)], NOW) is None


def test_what_was_not_killed_in_time_is_a_reason() -> None:
    late = NOW - OVERDUE_S - 1
    assert overdue([process(stop_deadline=late)], [], NOW) == (
        "orchestrator is past its grace and was not killed"
    )
    assert overdue([process(ready_at=None, boot_deadline=late)], [], NOW) == (
        "orchestrator is past its boot timeout and was not killed"
    )


def test_an_engine_that_is_not_started_when_it_should_be_is_a_reason() -> None:
    empty = Place(SPEC, next_start=NOW - OVERDUE_S - 1)
    assert overdue([], [empty], NOW) == "orchestrator is to be started and was not"
    empty.held = True
    assert overdue([], [empty], NOW) is None


def test_time_is_asked_for_as_long_as_the_slowest_may_take() -> None:
    assert busy_until([]) == 0
    assert busy_until([process()]) == 0
    some = [process(stop_deadline=NOW + 5), process(ready_at=None, boot_deadline=NOW + 9)]
    assert busy_until(some) == NOW + 9


def test_nothing_is_asked_for_what_does_not_end_though_it_was_killed() -> None:
    assert busy_until([process(stop_deadline=NOW + 1, killed=True)]) == 0
