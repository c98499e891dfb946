"""run: workflow. A child is started, its end is the task's, and it never outlives its task."""

import pytest

from orchestrator.dispatch import effects
from orchestrator.machine import DEFAULT_LIMITS
from orchestrator.machine.calls.child_workflow import CANCEL_CHILD
from orchestrator.machine.kernel.step import CHILD_ENDED, START_CHILD
from tests.support.machine import ERRORS, Driver, define
from wf.protocol.ids import child_id
from wf.protocol.subjects import is_name

CHILD = {"workflow": {"namespace": "default", "name": "ship", "input": {"n": "${ .n }"}}}
RUN = {"ship": {"run": CHILD}}


def running(*tasks, limits=DEFAULT_LIMITS, **more):
    driver = Driver(define(*(tasks or [RUN])), limits)
    driver.start({"n": 1}, **more)
    return driver


def ended(driver, status="completed", **more):
    return driver.child(driver.only_run, status, **more)


def test_a_child_is_started_with_an_id_of_its_parents_and_its_output_is_the_tasks():
    driver = running()
    (start,) = driver.sent(START_CHILD)
    assert start["id"] == child_id("i-1", 1)
    assert start["input"] == {"n": 1}
    assert start["parent"] == {"id": "i-1", "run": 1, "awaited": True}
    assert "version" not in start  # the latest, whichever that is when it starts
    assert driver.status == "running"
    ended(driver, output={"parcel": 7})
    assert driver.status == "completed"
    assert driver.state["output"] == {"parcel": 7}
    assert driver.sent(CANCEL_CHILD) == []  # it has ended by itself
    assert driver.replay() == driver.state


def test_the_version_is_the_one_asked_for_and_latest_means_none():
    for version, expected in (("1.2.3", "1.2.3"), ("latest", None)):
        run = {"workflow": {**CHILD["workflow"], "version": version}}
        (start,) = running({"ship": {"run": run}}).sent(START_CHILD)
        assert start.get("version") == expected


def test_without_input_the_child_gets_the_tasks():
    run = {"workflow": {"namespace": "sales", "name": "ship"}}
    (start,) = running({"ship": {"run": run}}).sent(START_CHILD)
    assert (start["namespace"], start["workflow"], start["input"]) == ("sales", "ship", {"n": 1})


def test_a_child_that_is_not_awaited_passes_the_input_on_at_once():
    driver = running({"ship": {"run": {**CHILD, "await": False}}})
    assert driver.status == "completed"
    assert driver.state["output"] == {"n": 1}
    (start,) = driver.sent(START_CHILD)
    assert start["parent"]["awaited"] is False
    assert driver.sent(CANCEL_CHILD) == []  # it lives on


def test_return_none_outputs_null():
    driver = running({"ship": {"run": {**CHILD, "return": "none"}}})
    ended(driver, output=5)
    assert driver.state["output"] is None
    assert driver.status == "completed"


def test_the_end_of_a_child_counts_once():
    driver = running(RUN, {"pause": {"wait": "PT1M"}})
    event = {"kind": "child", "run": 1, "child": child_id("i-1", 1), "status": "completed"}
    driver.feed(event)
    assert driver.feed(event).ignored == "late"


@pytest.mark.parametrize(
    "event",
    [
        {"run": 1, "child": "other", "status": "completed"},
        {"run": 9, "child": child_id("i-1", 1), "status": "completed"},
        {"run": 1, "child": child_id("i-1", 1), "status": "running"},
        {"run": "1", "child": child_id("i-1", 1), "status": "completed"},
        {},
    ],
)
def test_what_is_not_the_end_of_this_child_changes_nothing(event):
    driver = running()
    assert driver.feed({"kind": "child", **event}).ignored in ("late", "malformed")


def test_no_result_of_an_activity_ends_a_child():
    driver = running()
    event = {"kind": "result", "run": 1, "attempt": 1, "outcome": "completed"}
    assert driver.feed({**event, "activity": "ship"}).ignored == "activity"
    assert driver.feed(event).ignored == "activity"


def test_the_error_of_a_child_is_the_tasks_with_the_place_in_the_child():
    driver = running()
    error = {
        "type": f"{ERRORS}communication",
        "status": 503,
        "title": "Down",
        "detail": "no answer",
        "instance": "/do/4/book",
    }
    ended(driver, "faulted", error=error)
    assert driver.status == "faulted"
    child = {"id": child_id("i-1", 1), "workflow": "ship", "instance": "/do/4/book"}
    assert driver.state["error"] == {**error, "instance": "/do/0/ship", "child": child}
    assert "child.faulted" in driver.types()


def test_a_cancelled_child_is_an_error_that_try_may_catch():
    handle = {"catch": {"as": "error", "do": [{"say": {"set": {"got": "${ $error.detail }"}}}]}}
    driver = running({"safe": {"try": [RUN], **handle}})
    ended(driver, "cancelled", reason="by hand")
    assert driver.status == "completed"
    child = child_id("i-1", 1)
    assert driver.state["output"] == {"got": f"instance {child} of ship was cancelled: by hand"}


def test_a_try_starts_another_child_for_each_attempt():
    retry = {"catch": {"retry": {"limit": {"attempt": {"count": 2}}}}}
    driver = running({"safe": {"try": [RUN], **retry}})
    ended(driver, "faulted", error={})
    assert [start["id"] for start in driver.sent(START_CHILD)] == [
        child_id("i-1", 1),
        child_id("i-1", 2),
    ]
    ended(driver, output="at last")
    assert driver.state["output"] == "at last"


def test_cancelling_the_parent_cancels_the_child():
    driver = running()
    driver.command("cancel")
    assert driver.sent(CANCEL_CHILD) == [{"id": child_id("i-1", 1), "run": 1}]


def test_a_fault_of_the_parent_cancels_the_child():
    driver = running()
    driver.feed({"kind": "fault", "error": {"title": "shell"}})
    assert driver.sent(CANCEL_CHILD) == [{"id": child_id("i-1", 1), "run": 1}]


def test_while_suspended_the_end_of_a_child_is_held():
    driver = running()
    driver.command("suspend")
    ended(driver, output=3)
    assert driver.status == "suspended"
    assert ended(driver, output=4).ignored == "duplicate"
    driver.command("resume")
    assert driver.state["output"] == 3


def test_a_child_tells_its_parent_how_it_ended():
    parent = {"id": "p", "run": 4, "awaited": True}
    driver = Driver(define({"a": {"set": {"x": 1}}}))
    driver.start({}, parent=parent, depth=1)
    assert driver.sent(CHILD_ENDED) == [{"parent": "p", "run": 4, "status": "completed"}]
    driver = Driver(define({"a": {"wait": "PT1M"}}))
    driver.start({}, parent=parent)
    driver.command("cancel", reason="why")
    (told,) = driver.sent(CHILD_ENDED)
    assert (told["status"], told["reason"]) == ("cancelled", "why")
    driver = Driver(define({"a": {"set": {"x": 1}}}))
    driver.start({}, parent=parent, refused={"title": "Unknown workflow", "status": 404})
    (told,) = driver.sent(CHILD_ENDED)
    assert (told["status"], told["error"]["status"]) == ("faulted", 404)


def test_a_child_that_nobody_awaits_tells_nobody():
    driver = Driver(define({"a": {"set": {"x": 1}}}))
    driver.start({}, parent={"id": "p", "run": 4, "awaited": False})
    assert driver.sent(CHILD_ENDED) == []
    assert driver.state["parent"] == {"id": "p", "run": 4, "awaited": False}


@pytest.mark.parametrize("parent", [None, 3, {}, {"id": "p"}, {"id": "a b", "run": 1}])
def test_an_odd_parent_is_none(parent):
    driver = Driver(define({"a": {"set": {"x": 1}}}))
    driver.start({}, parent=parent, depth="x")
    assert driver.status == "completed"
    assert "parent" not in driver.state


def test_workflows_run_each_other_only_so_deep():
    limits = DEFAULT_LIMITS._replace(max_depth=3)
    driver = running(limits=limits, depth=2)
    assert driver.sent(START_CHILD)[0]["depth"] == 3
    driver = running({"ship": {"run": {**CHILD, "await": False}}}, limits=limits, depth=3)
    assert driver.status == "faulted"
    assert driver.state["error"]["title"] == "Too many workflows deep"
    assert driver.sent(START_CHILD) == []


def test_child_ids_are_names_and_differ_by_parent_and_run():
    parents = ["a", "a-1", "x" * 64, "x" * 63 + "y"]
    ids = {child_id(parent, run) for parent in parents for run in (1, 11, 2**40)}
    assert len(ids) == 12
    assert all(is_name(one) for one in ids)
    assert child_id("order-4711", 2).startswith("order-4711-2-")


def test_a_child_started_and_cancelled_by_one_commit_is_neither():
    kept: list = []
    effects.merge(kept, START_CHILD, {"id": "a"})
    effects.merge(kept, START_CHILD, {"id": "b"})
    effects.merge(kept, CANCEL_CHILD, {"id": "a", "run": 1})
    effects.merge(kept, CANCEL_CHILD, {"id": "c", "run": 2})
    assert kept == [(START_CHILD, {"id": "b"}), (CANCEL_CHILD, {"id": "c", "run": 2})]
