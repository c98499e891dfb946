"""Signals: who gets them, how long they are kept, how often they count."""

from orchestrator.machine import DEFAULT_LIMITS
from orchestrator.machine.events.signals import MAX_KEPT
from tests.support.machine import Driver, define

APPROVE = {
    "approve": {"listen": {"to": {"one": {"with": {"type": "approved", "data": "${ .ok }"}}}}}
}
PAUSE = {"pause": {"call": "one"}}


def started(*tasks, limits=DEFAULT_LIMITS):
    driver = Driver(define(*tasks), limits)
    driver.start({})
    return driver


def test_a_signal_by_the_name_of_the_task_is_taken_whatever_its_filters_say():
    driver = started(APPROVE)
    driver.signal("approve", {"ok": False})
    assert driver.state["output"] == [{"ok": False}]


def test_a_signal_by_the_type_of_an_event_must_fit():
    driver = started(APPROVE)
    assert driver.signal("approved", {"ok": False}).ignored is None
    assert driver.types() == ["signal.kept"]
    driver.signal("approved", {"ok": True})
    assert driver.state["output"] == [{"ok": True}]


def test_a_signal_that_no_listen_of_the_definition_can_take_is_ignored():
    assert started(APPROVE).signal("aproved").ignored == "name"


def test_a_signal_counts_once():
    task = {"hear": {"listen": {"to": {"any": [], "until": "length == 2"}}}}
    driver = started(task)
    driver.signal("hear", 1, sequence=7)
    assert driver.signal("hear", 1, sequence=7).ignored == "duplicate"
    driver.signal("hear", 2, sequence=8)
    assert driver.state["output"] == [1, 2]


def test_a_signal_that_comes_before_its_listen_is_kept_for_it():
    driver = started(PAUSE, APPROVE)
    driver.signal("approve", 5)
    assert driver.status == "running"
    driver.done({})
    assert driver.state["output"] == [5]
    assert "signals" not in driver.state
    assert driver.replay() == driver.state


def test_a_kept_signal_is_taken_by_just_one_listen_and_the_next_waits():
    again = {"again": APPROVE["approve"]}
    driver = started(PAUSE, APPROVE, again)
    driver.signal("approve", 1)
    driver.signal("again", 2)
    driver.done({})
    assert driver.state["output"] == [2]
    driver = started(PAUSE, APPROVE, again)
    driver.signal("approved", {"ok": 1 == 1})
    driver.done({})
    assert driver.status == "waiting"
    assert driver.state["signals"] == []


def test_kept_signals_are_offered_one_after_the_other_until_the_listen_has_enough():
    hear = {"listen": {"to": {"any": [{"with": {"type": "t"}}], "until": "length == 2"}}}
    driver = started(PAUSE, {"hear": hear}, {"hear2": hear})
    for n in range(3):
        driver.signal("t", n)
    driver.done({})
    (listener,) = driver.listeners
    assert driver.state["frames"][listener]["outputs"] == [2]


def test_a_signal_is_not_kept_for_longer_than_the_buffer_time():
    driver = started(PAUSE, APPROVE)
    driver.signal("approve", 5)
    driver.now_ms += DEFAULT_LIMITS.event_buffer_ms + 1
    driver.done({})
    assert driver.status == "waiting"
    assert "signal.expired" in driver.types()


def test_no_more_signals_are_kept_than_a_snapshot_can_bear():
    driver = started(PAUSE, APPROVE)
    for _ in range(MAX_KEPT):
        driver.signal("approve")
    driver.signal("approve")
    assert driver.types() == ["signal.dropped"]
    driver = started(PAUSE, APPROVE)
    driver.signal("approve", "x" * 300_000)
    assert driver.types() == ["signal.dropped"]


def test_of_several_listens_of_one_name_the_one_that_waits_longest_gets_it():
    inner = {"do": [APPROVE]}
    driver = started({"both": {"fork": {"branches": [{"a": inner}, {"b": inner}]}}})
    driver.signal("approve", "first")
    driver.signal("approve", "second")
    assert driver.state["output"] == [["first"], ["second"]]


def test_by_its_type_a_signal_is_for_every_listen_that_it_fits():
    branches = [{"a": APPROVE["approve"]}, {"b": APPROVE["approve"]}]
    driver = started({"both": {"fork": {"branches": branches}}})
    driver.signal("approved", {"ok": True})
    assert driver.state["output"] == [[{"ok": True}], [{"ok": True}]]


def test_signals_that_come_while_suspended_are_taken_on_resume():
    driver = started(APPROVE)
    driver.command("suspend", 1)
    driver.signal("approve", 5, sequence=2)
    assert driver.signal("approve", 5, sequence=2).ignored == "duplicate"
    assert driver.signal("nobody", sequence=3).ignored == "name"
    driver.command("resume", 4)
    assert driver.state["output"] == [5]


def test_a_signal_by_name_counts_for_the_filters_of_all_in_order():
    to = {"all": [{"with": {"type": "a"}}, {"with": {"type": "b"}}]}
    driver = started({"hear": {"listen": {"to": to, "read": "envelope"}}})
    driver.signal("hear", 1)
    driver.signal("hear", 2)
    assert [event["type"] for event in driver.state["output"]] == ["a", "b"]
    assert [event["data"] for event in driver.state["output"]] == [1, 2]
