"""Cancel, suspend, resume: applied once, in order, and nothing that came meanwhile is lost."""

from itertools import permutations

import pytest

from orchestrator.machine import CancelTimer, Dispatch, Finished
from orchestrator.machine.kernel.deduplication import KEEP_COUNT, KEEP_MS
from tests.support.machine import HEADER, Driver, define
from wf.protocol.ids import child_id


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


# What is held, each with a task that waits for it.
WATCHED = {"call": "A", "metadata": {"wf": {"scheduleToStart": "PT9S", "heartbeat": "PT9S"}}}
LISTENING = {"listen": {"to": {"any": []}}}
RESULT = {"kind": "result", "activity": "A", "run": 1, "attempt": 1}
EVENT = {"specversion": "1.0", "id": "e", "source": "/s", "type": "t"}
HELD = {
    "timer": ({"wait": "PT1S"}, {"kind": "timer", "timer": 1}),
    "signal": (LISTENING, {"kind": "signal", "name": "a", "sequence": 7, "data": 1}),
    "event": (
        LISTENING,
        {
            "kind": "event",
            "listener": "2",
            "sequence": 7,
            "time_ms": 1_000_000,
            "match": "2:7",
            "event": EVENT,
        },
    ),
    "child": (
        {"run": {"workflow": {"namespace": "default", "name": "c", "version": "1.0.0"}}},
        {"kind": "child", "run": 1, "child": child_id("i-1", 1), "status": "completed"},
    ),
    "fault": (WATCHED, {"kind": "fault", "run": 1, "error": {"title": "No"}}),
    "failed": (WATCHED, {**RESULT, "outcome": "failed", "error": {"title": "Down"}}),
    **{
        outcome: (WATCHED, {**RESULT, "outcome": outcome})
        for outcome in (
            *("completed", "timed-out", "crashed", "out-of-memory", "undeliverable"),
            *("expired", "redelivered", "overdue"),
        )
    },
}


def suspended(*tasks, definition=True, **more):
    driver = Driver(define(*tasks, **more))
    driver.start({})
    driver.command("suspend", 1)
    if not definition:
        driver.definition = None
    return driver


@pytest.mark.parametrize("definition", [True, False])
@pytest.mark.parametrize("kind", HELD)
def test_whatever_is_held_is_held_once(kind, definition):
    task, event = HELD[kind]
    driver = suspended({"a": task}, definition=definition)
    assert driver.feed(event).ignored is None
    driver.now_ms += 1
    assert driver.feed(event).ignored == "duplicate"
    assert len(driver.state["held"]) == 1


def test_a_place_is_held_once():
    limited = {**HEADER, "metadata": {"wf": {"concurrency": 1}}}
    driver = suspended({"a": {"call": "A"}}, document=limited)
    place = {"kind": "place", "turn": driver.state["slot"]["turn"]}
    assert driver.feed(place).ignored is None
    assert driver.feed(place).ignored == "duplicate"
    driver.command("resume", 2)
    assert driver.last.commands == [Dispatch(1)]


SIGNS_OF_LIFE = [{**RESULT, "outcome": outcome} for outcome in ("started", "heartbeat")]
ABOUT_A_RUN = [*(event for task, event in HELD.values() if task is WATCHED), *SIGNS_OF_LIFE]


@pytest.mark.parametrize("definition", [True, False])
@pytest.mark.parametrize(
    ("first", "second"),
    list(permutations(ABOUT_A_RUN, 2)),
    ids=lambda event: event.get("outcome", event["kind"]),
)
def test_what_has_come_about_a_run_has_no_effect_when_it_comes_again(first, second, definition):
    """Whether the first made way for the second or not, and whatever comes again first."""
    driver = suspended({"a": WATCHED}, definition=definition)
    stored_ms = driver.now_ms
    for at_ms, event in enumerate((first, second), stored_ms):
        driver.now_ms = at_ms
        driver.feed(event)
    for event in (first, second, second, first):
        driver.now_ms = stored_ms + (event is second)
        assert driver.feed(event).ignored is not None
    assert len(driver.state["held"]) <= 1


def test_a_signal_and_an_event_of_the_same_number_are_two():
    """They are stored in two streams, each of which numbers its own."""
    for kinds in (("signal", "event"), ("event", "signal")):
        driver = suspended({"a": LISTENING})
        for kind in kinds:
            assert driver.feed(HELD[kind][1]).ignored is None
        assert [event["kind"] for event in driver.state["held"]] == list(kinds)


def test_a_heartbeat_that_has_counted_is_not_held_when_it_comes_again():
    driver = Driver(define({"a": WATCHED}))
    driver.start({})
    driver.feed(SIGNS_OF_LIFE[1])
    driver.definition = None
    driver.command("suspend", 1)
    assert driver.feed(SIGNS_OF_LIFE[1]).ignored == "duplicate"


@pytest.mark.parametrize("sign", ["expired", "redelivered", "failed", "completed"])
def test_silence_that_is_refuted_while_suspended_keeps_nothing_out(sign):
    driver = suspended({"a": WATCHED})
    driver.feed(HELD["overdue"][1])
    driver.feed(SIGNS_OF_LIFE[0])
    assert driver.feed(HELD[sign][1]).ignored is None
    driver.command("resume", 2)
    assert any(what.startswith("run.") for what in driver.types()), "the attempt is not over"


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
