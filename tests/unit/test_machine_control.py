"""Cancel, suspend, resume: applied once, in order, and nothing that came meanwhile is lost."""

import pytest

from orchestrator.machine import CancelTimer, Dispatch, Finished
from orchestrator.machine.applied import KEEP_COUNT, KEEP_MS
from tests.support.machine import Driver, define


def two_calls():
    driver = Driver(define({"a": {"call": "A"}}, {"b": {"call": "B"}}))
    driver.start({})
    return driver


def waiting():
    driver = Driver(define({"w": {"wait": "PT10S"}}, {"b": {"call": "B"}}))
    driver.start({})
    return driver


def test_cancel_ends_the_instance_and_its_timers():
    driver = waiting()
    driver.command("cancel", reason="not needed")
    assert driver.status == "cancelled"
    assert driver.last.commands == [CancelTimer(1), Finished()]
    assert driver.last.history == [
        {"type": "task.cancelled", "pointer": "/do/0/w", "name": "w"},
        {"type": "instance.cancelled", "status": "cancelled", "reason": "not needed"},
    ]
    assert driver.state["ended_ms"] == driver.now_ms


@pytest.mark.parametrize("verb", ["cancel", "suspend", "resume"])
def test_after_the_end_everything_is_ignored(verb):
    driver = two_calls()
    driver.command("cancel")
    assert driver.command(verb).ignored == "terminal"
    assert driver.result(1, 1, activity="A", output=1).ignored == "terminal"
    assert driver.fire(1).ignored == "terminal"
    assert driver.feed({"kind": "fault", "error": {}}).ignored == "terminal"


def test_results_are_held_while_suspended_and_applied_on_resume():
    driver = two_calls()
    driver.command("suspend")
    assert driver.status == "suspended"
    driver.done({"x": 1})
    assert driver.types() == ["run.held"]
    assert driver.last.commands == []
    assert driver.status == "suspended"
    driver.command("resume")
    assert driver.types()[0] == "instance.resumed"
    assert driver.last.commands == [Dispatch(2)]
    assert driver.state["runs"]["2"]["input"] == {"x": 1}
    assert "held" not in driver.state


def test_timers_that_fire_while_suspended_are_held():
    driver = waiting()
    driver.command("suspend")
    driver.fire()
    assert driver.types() == ["timer.held"]
    assert driver.fire(1).ignored == "duplicate"
    driver.command("resume")
    assert driver.last.commands == [Dispatch(1)]


def test_one_event_is_held_for_each_run_and_a_success_takes_the_place_of_a_failure():
    driver = two_calls()
    driver.command("suspend")
    driver.failed()
    assert driver.failed().ignored == "duplicate"
    driver.done("good")
    assert driver.result(1, output="again").ignored == "duplicate"
    driver.command("resume")
    assert driver.state["runs"]["2"]["input"] == "good"


def test_a_failure_held_is_decided_on_resume():
    driver = two_calls()
    driver.command("suspend")
    driver.failed(retry={"max_attempts": 2, "delay_s": 3})
    driver.now_ms += 60_000
    driver.command("resume")
    assert driver.state["timers"]["1"]["due_ms"] == driver.now_ms + 3000


def test_cancel_works_while_suspended():
    driver = two_calls()
    driver.command("suspend")
    driver.done(1)
    driver.command("cancel")
    assert driver.status == "cancelled"
    assert "held" not in driver.state


def test_resuming_into_the_end_stops_there():
    driver = Driver(define({"a": {"call": "A"}}))
    driver.start({})
    driver.command("suspend")
    driver.done("out")
    driver.command("resume")
    assert driver.status == "completed"
    assert driver.types()[-1] == "instance.completed"


def test_commands_are_applied_once_and_never_after_a_later_one():
    driver = two_calls()
    driver.command("suspend", 10)
    assert driver.command("suspend", 10).ignored == "duplicate"
    driver.command("resume", 12)
    assert driver.command("suspend", 10).ignored == "duplicate"
    assert driver.command("suspend", 9).ignored == "stale"


def test_a_command_that_changes_nothing_still_outdates_the_older_ones():
    """Two orchestrators: the resume may be applied before the suspend that it is for."""
    driver = two_calls()
    driver.command("resume", 12)
    assert driver.types() == ["command.redundant"]
    assert driver.command("suspend", 11).ignored == "stale"
    assert driver.status == "running"
    driver.command("suspend", 13)
    driver.command("suspend", 15)
    assert driver.command("resume", 14).ignored == "stale"
    assert driver.status == "suspended"


def test_what_is_not_a_command_is_ignored():
    driver = two_calls()
    assert driver.command("explode").ignored == "verb"
    assert driver.feed({"kind": "command", "verb": "cancel"}).ignored == "malformed"
    assert driver.feed({"kind": "command", "verb": ["x"], "sequence": 1}).ignored == "verb"
    assert driver.feed({"kind": "dance"}).ignored == "kind"
    assert driver.feed({"kind": {}}).ignored == "kind"
    assert driver.feed({}).ignored == "kind"


def test_before_the_start_nothing_is_known():
    driver = Driver(define({"a": {"call": "A"}}))
    assert driver.command("cancel").ignored == "unknown"
    assert driver.feed({"kind": "result"}).ignored == "unknown"


def test_sequences_are_kept_for_ten_minutes_and_the_last_hundred_for_good():
    driver = two_calls()
    for number in range(1, 3 * KEEP_COUNT, 2):
        driver.command("suspend", number)
        driver.command("resume", number + 1)
    assert len(driver.state["applied"]) == 3 * KEEP_COUNT
    driver.now_ms += KEEP_MS + 1
    driver.command("suspend", 10_000)
    assert len(driver.state["applied"]) == KEEP_COUNT
    assert driver.command("suspend", 3 * KEEP_COUNT).ignored == "duplicate"


def test_resume_without_the_definition_faults():
    driver = two_calls()
    driver.command("suspend")
    driver.definition = None
    driver.command("resume")
    assert driver.status == "faulted"
