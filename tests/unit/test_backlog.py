"""An unreadable backlog is unknown, not empty."""

from supervisor.policy.backlog import FRESH_S, Backlog, Waiting

FIGURES = {"pending": 3, "in_flight": 5, "max_in_flight": 10}


def test_tasks_wait_for_a_worker_that_the_broker_would_give_them_to() -> None:
    backlog = Backlog()
    backlog.take({"mail": FIGURES, "pdf": {**FIGURES, "in_flight": 10}}, 1.0)
    assert backlog.waits(["mail"], 2.0)
    assert not backlog.waits(["pdf"], 2.0), "the broker hands out no more of these"
    assert not backlog.waits(["zip"], 2.0)
    assert backlog.waits(["zip", "mail"], 2.0)


def test_old_figures_are_none() -> None:
    backlog = Backlog()
    assert backlog.of("mail", 0.0) is None
    backlog.take({"mail": FIGURES}, 1.0)
    assert backlog.of("mail", 1.0 + FRESH_S) == FIGURES
    assert backlog.of("mail", 1.1 + FRESH_S) is None
    assert not backlog.waits(["mail"], 1.1 + FRESH_S)


def test_what_is_not_a_reading_changes_nothing() -> None:
    backlog = Backlog()
    backlog.take({"mail": FIGURES}, 1.0)
    backlog.take(None, 2.0)
    assert backlog.of("mail", 2.0) == FIGURES


def test_a_pool_has_the_sum_of_its_activities_and_the_age_of_the_oldest() -> None:
    backlog = Backlog()
    mail = {**FIGURES, "redelivered": 1, "oldest_waiting_s": 3.5, "oldest_open_s": 7.0}
    sms = {**FIGURES, "redelivered": 0, "oldest_waiting_s": 0.0, "oldest_open_s": 1.0}
    backlog.take({"mail": mail, "sms": sms}, 1.0)
    both = backlog.of_pool(["mail", "sms"], 2.0)
    assert both == Waiting(pending=6, in_flight=10, redelivered=1, oldest_s=7.0, waiting_s=3.5)
    assert not both.is_idle


def test_a_pool_with_an_unknown_activity_is_unknown() -> None:
    backlog = Backlog()
    backlog.take({"mail": FIGURES}, 1.0)
    assert backlog.of_pool(["mail", "sms"], 2.0) is None
    assert backlog.of_pool([], 2.0) is None
