"""retry: a faulted instance goes on, and nothing that came before it counts twice."""

import orjson
import pytest

from orchestrator.engine.apply import fault_event
from orchestrator.machine import Dispatch, Send
from orchestrator.machine.control.retry import places
from tests.support.machine import Driver, define

CALL = {"call": "work"}
RAISE = {"raise": {"error": {"type": "about:x", "status": 400}}}


def faulted(*tasks, input=None, answers=()):
    """An instance that was started, whose runs were answered in turn, and then failed."""
    driver = Driver(define(*tasks))
    driver.start(input)
    for answer in answers:
        driver.done(answer)
    if not driver.terminal:
        driver.failed(retryable=False)
    assert driver.status == "faulted"
    return driver


def dispatched(driver):
    return [command.run for command in driver.last.commands if isinstance(command, Dispatch)]


def test_the_failed_call_is_dispatched_again_as_the_next_attempt_of_its_run():
    driver = faulted(
        {"a": CALL}, {"b": {"call": "work", "with": {"x": "${ .n }"}}}, answers=[{"n": 1}]
    )
    assert "ended_ms" in driver.state
    driver.command("retry")
    assert driver.status == "running"
    assert not {"error", "ended_ms", "failed"} & driver.state.keys()
    assert driver.types() == ["instance.retried", "run.dispatched"]
    assert driver.state["runs"]["2"]["input"] == {"x": 1}
    assert driver.state["runs"]["2"]["attempt"] == 2
    driver.done("fine")
    assert (driver.status, driver.state["output"]) == ("completed", "fine")
    assert driver.replay() == driver.state


def test_a_late_result_of_an_attempt_before_the_fault_does_not_count():
    driver = faulted({"a": CALL})
    driver.command("retry")
    assert driver.result(1, 1, output="late").ignored == "late"
    assert driver.failed(1, 1).ignored == "late"
    driver.done("new")
    assert driver.state["output"] == "new"


def test_what_is_around_the_failed_task_is_as_it_was():
    inner = [{"c": CALL}, {"d": {"set": {"e": "${ $error.status }", "c": "${ $context.k }"}}}]
    driver = faulted(
        {"a": {"set": {"k": 5}, "export": {"as": "."}}},
        {"t": {"try": [{"b": RAISE}], "catch": {"do": inner}}},
    )
    driver.command("retry")
    driver.done(None)
    assert driver.state["output"] == {"e": 400, "c": 5}


def test_a_task_that_failed_while_it_was_entered_begins_with_what_it_was_given():
    tasks = [{"a": CALL}, {"b": {"call": "work", "with": {"x": "${ .n + 1 }"}}}]
    driver = faulted(*tasks, answers=[{"n": {}}])
    assert driver.state["failed"]["raw"] == [{"n": {}}]
    driver.command("retry")
    assert driver.status == "faulted"  # nothing has changed
    assert driver.types()[-1] == "instance.faulted"


def test_a_call_whose_output_could_not_be_used_is_made_again():
    driver = Driver(define({"a": {**CALL, "output": {"as": ".n + 1"}}}))
    driver.start({})
    driver.done({"n": {}})
    assert driver.status == "faulted"
    driver.command("retry")
    driver.done({"n": 1})
    assert driver.state["output"] == 2


def test_a_try_around_keeps_count():
    policy = {"retry": {"limit": {"attempt": {"count": 2}}}}
    driver = Driver(define({"t": {"try": [{"a": CALL}], "catch": policy}}))
    driver.start({})
    driver.failed()
    driver.failed()
    assert driver.status == "faulted"
    driver.command("retry")
    assert driver.state["runs"]["1"]["attempt"] == 3
    driver.failed()
    assert driver.status == "faulted"
    driver.command("retry")
    driver.done("ok")
    assert driver.state["output"] == "ok"
    assert driver.replay() == driver.state


def test_branches_that_the_fault_cancelled_go_on_and_those_that_had_ended_stay():
    branches = [{"a": CALL}, {"b": CALL}, {"c": {"wait": "PT1H"}}, {"d": CALL}]
    driver = Driver(define({"f": {"fork": {"branches": branches}}}))
    driver.start({})
    driver.done("a", 1)
    driver.now_ms += 1_800_000
    driver.failed(2, retryable=False)
    assert driver.status == "faulted"
    driver.now_ms += 86_400_000
    driver.command("retry")
    assert sorted(driver.state["runs"]) == ["2", "3"]
    assert [run["attempt"] for run in driver.state["runs"].values()] == [2, 2]
    (timer,) = driver.state["timers"].values()
    assert timer["due_ms"] == driver.now_ms + 1_800_000  # what was left of it
    driver.done("b", 2)
    driver.done("d", 3)
    driver.fire()
    assert driver.state["output"] == ["a", "b", {}, "d"]
    assert driver.replay() == driver.state


@pytest.mark.parametrize("concurrency", [None, 2])
def test_an_iteration_goes_on_with_its_variables(concurrency):
    task = {"for": {"in": "[1, 2, 3]"}, "do": [{"a": {**CALL, "with": {"n": "${ $item }"}}}]}
    if concurrency:
        task["metadata"] = {"wf": {"concurrency": concurrency}}
    driver = Driver(define({"f": task}))
    driver.start({})
    driver.done("one", 1)
    driver.failed(2, retryable=False)
    assert driver.status == "faulted"
    driver.command("retry")
    inputs = {}
    while not driver.terminal:
        run = int(min(driver.state["runs"], key=int))
        inputs[run] = driver.state["runs"][str(run)]["input"]["n"]
        driver.done(run, run)
    assert sorted(inputs.values()) == [2, 3]
    assert driver.status == "completed"
    assert driver.replay() == driver.state


def test_a_task_that_was_not_done_in_time_gets_its_time_once_more():
    driver = Driver(define({"a": {**CALL, "timeout": {"after": "PT10S"}}}))
    driver.start({})
    driver.fire()
    assert driver.state["error"]["status"] == 408
    driver.command("retry")
    assert driver.state["runs"]["1"]["attempt"] == 2
    (timer,) = driver.state["timers"].values()
    assert timer["due_ms"] == driver.now_ms + 10_000
    driver.done("in time")
    assert driver.state["output"] == "in time"
    assert driver.replay() == driver.state


def test_the_workflow_that_was_not_done_in_time_too():
    driver = Driver(define({"a": CALL}, {"b": {"wait": "PT1S"}}, timeout={"after": "PT10S"}))
    driver.start({})
    driver.fire()
    assert driver.status == "faulted"
    driver.command("retry")
    driver.done(1)
    assert len(driver.state["timers"]) == 2
    driver.fire(int(max(driver.state["timers"], key=int)))
    assert driver.status == "completed"


def test_a_deadline_around_has_the_time_that_it_had_left():
    driver = Driver(define({"d": {"do": [{"a": CALL}], "timeout": {"after": "PT10S"}}}))
    driver.start({})
    driver.now_ms += 4_000
    driver.failed(retryable=False)
    driver.now_ms += 100_000
    driver.command("retry")
    (timer,) = driver.state["timers"].values()
    assert timer["due_ms"] == driver.now_ms + 6_000


def test_a_fault_of_the_shell_lets_all_that_was_open_go_on():
    driver = Driver(define({"f": {"fork": {"branches": [{"a": CALL}, {"b": {"wait": "PT1S"}}]}}}))
    driver.start({})
    driver.feed(fault_event("Engine error", "a bug"))
    assert driver.status == "faulted"
    driver.command("retry")
    driver.done(1)
    driver.fire()
    assert driver.state["output"] == [1, {}]


def test_what_was_too_large_is_not_kept():
    driver = Driver(define({"a": CALL}))
    driver.start({})
    driver.feed(fault_event("Task too large", "8 MiB", run=1))
    assert "failed" not in driver.state
    assert driver.command("retry").ignored == "from"


def test_from_a_named_task_with_its_input():
    tasks = [{name: CALL} for name in "abc"]
    driver = faulted(*tasks, answers=["A", "B"])
    assert places(driver.definition, driver.state) == ["/do/0/a", "/do/1/b", "/do/2/c"]
    assert driver.command("retry", **{"from": "/do/1/b"}).ignored == "input"
    assert driver.command("retry", **{"from": "/do/9/x", "input": 1}).ignored == "from"
    driver.command("retry", **{"from": "/do/1/b", "input": "given"})
    (run,) = driver.state["runs"].values()
    assert (run["pointer"], run["input"], run["attempt"]) == ("/do/1/b", "given", 1)
    assert driver.only_run == 4  # numbers are never used again
    driver.done(1)
    driver.done(2)
    assert driver.state["output"] == 2
    assert driver.replay() == driver.state


def test_from_a_task_around_drops_what_was_inside():
    inner = {"do": [{"x": CALL}, {"y": CALL}]}
    driver = faulted({"a": {"set": {"n": 1}}}, {"b": inner}, answers=[1])
    assert places(driver.definition, driver.state) == [
        "/do/1/b/do/0/x",
        "/do/1/b/do/1/y",
        "/do/0/a",
        "/do/1/b",
    ]
    driver.command("retry", **{"from": "/do/1/b", "input": {"n": 2}})
    assert [run["pointer"] for run in driver.state["runs"].values()] == ["/do/1/b/do/0/x"]
    driver.done(1)
    driver.done(2)
    assert driver.status == "completed"


def test_from_within_a_branch_lets_the_others_go_on_too():
    branches = [{"a": {"do": [{"x": CALL}, {"y": CALL}]}}, {"b": CALL}]
    driver = Driver(define({"f": {"fork": {"branches": branches}}}))
    driver.start({})
    driver.done("x", 2)
    driver.failed(3, retryable=False)
    driver.command("retry", **{"from": "/do/0/f/fork/branches/0/a/do/0/x", "input": 0})
    assert sorted(run["pointer"].rsplit("/", 1)[1] for run in driver.state["runs"].values()) == [
        "b",
        "x",
    ]


def test_a_raise_at_the_top_can_be_passed_by_naming_another_task():
    driver = faulted({"a": RAISE}, {"b": {"set": {"done": True}}})
    driver.command("retry", **{"from": "/do/1/b", "input": None})
    assert driver.state["output"] == {"done": True}


def test_once_is_enough_and_only_the_faulted_go_on():
    driver = faulted({"a": CALL})
    driver.command("retry", 7)
    assert driver.command("retry", 7).ignored in ("duplicate", "not faulted")
    assert driver.command("retry", 8).ignored == "not faulted"
    driver.done(1)
    assert driver.command("retry", 9).ignored == "not faulted"
    driver.command("cancel")
    cancelled = Driver(define({"a": CALL}))
    cancelled.start({})
    cancelled.command("cancel")
    assert cancelled.command("retry").ignored == "not faulted"
    assert cancelled.command("retry", **{"from": "/do/0/a", "input": 1}).ignored == "not faulted"


def test_a_fault_repeated_may_be_retried_repeatedly_and_the_same_command_counts_once():
    driver = faulted({"a": CALL})
    driver.command("retry", 7)
    driver.failed(retryable=False)
    assert driver.command("retry", 7).ignored == "duplicate"
    driver.command("retry", 8)
    driver.done(1)
    assert driver.status == "completed"


def test_an_older_suspend_that_comes_late_does_not_hold_it_up():
    driver = faulted({"a": CALL})
    driver.command("retry", 20)
    assert driver.command("suspend", 10).ignored == "stale"


def test_without_the_definition_nothing_goes_on():
    driver = faulted({"a": CALL})
    driver.definition = None
    assert driver.command("retry").ignored == "definition"


CHILD = {"run": {"workflow": {"namespace": "default", "name": "c", "version": "1.0.0"}}}


def child_ended(driver, run=1, **more):
    child = driver.state["runs"][str(run)]["child"]
    return driver.feed({"kind": "child", "run": run, "child": child, **more})


def sends(driver):
    return [
        (command.kind, command.body)
        for command in driver.last.commands
        if isinstance(command, Send)
    ]


def test_a_child_that_faulted_is_asked_to_go_on_and_its_end_counts():
    driver = Driver(define({"a": CHILD}))
    driver.start({"n": 1})
    child = driver.state["runs"]["1"]["child"]
    child_ended(driver, status="faulted", error={"title": "x"})
    assert driver.status == "faulted"
    driver.command("retry")
    assert sends(driver) == [("retry-child", {"id": child, "run": 1})]
    child_ended(driver, status="completed", output="done")
    assert driver.state["output"] == "done"
    assert driver.replay() == driver.state


def test_a_child_that_was_cancelled_with_its_parent_is_followed_by_a_new_one():
    driver = Driver(define({"f": {"fork": {"branches": [{"a": CHILD}, {"b": CALL}]}}}))
    driver.start({"n": 1})
    first = driver.state["runs"]["1"]["child"]
    driver.failed(2, retryable=False)
    assert ("cancel-child", {"id": first, "run": 1}) in sends(driver)
    driver.command("retry")
    ((kind, start),) = sends(driver)
    assert (kind, start["input"]) == ("start-child", {"n": 1})
    assert start["id"] != first
    child_ended(driver, 3, status="completed", output=1)
    driver.done(2, 2)
    assert driver.state["output"] == [1, 2]


def as_child(*tasks):
    driver = Driver(define(*tasks))
    driver.start({}, parent={"id": "p", "run": 4, "awaited": True}, depth=1)
    return driver


def test_a_child_goes_on_for_its_parent_and_tells_it_again():
    driver = as_child({"a": CALL})
    driver.failed(retryable=False)
    driver.command("retry", parent=True)
    assert driver.status == "running"
    driver.done(1)
    assert sends(driver) == [("child-ended", {"parent": "p", "run": 4, "status": "completed"})]


@pytest.mark.parametrize("end", ["done", "cancel"])
def test_a_child_that_has_ended_otherwise_still_answers_its_parent(end):
    driver = as_child({"a": CALL})
    if end == "done":
        driver.done(1)
    else:
        driver.command("cancel")
    driver.command("retry", parent=True)
    ((kind, body),) = sends(driver)
    assert (kind, body["status"]) == ("child-ended", driver.status)
    assert driver.types() == ["parent.told"]
    assert driver.replay() == driver.state


def test_a_child_that_cannot_go_on_answers_that_it_faulted():
    driver = as_child({"a": CALL})
    driver.feed(fault_event("Task too large", "8 MiB", run=1))
    driver.command("retry", parent=True)
    ((kind, body),) = sends(driver)
    assert (kind, body["status"], body["error"]["title"]) == (
        "child-ended",
        "faulted",
        "Task too large",
    )


def test_the_faulted_snapshot_grows_by_what_was_open_only():
    tasks = [{name: {**CALL, "export": {"as": "$context"}}} for name in "abc"]
    driver = Driver(define(*tasks))
    driver.start({"x": "y" * 1000})
    driver.done("z" * 1000)
    before = len(orjson.dumps(driver.state))
    driver.failed(retryable=False)
    assert len(orjson.dumps(driver.state)) < before + 600


def test_a_listen_that_the_fault_closed_listens_again_for_the_same():
    one = {
        "with": {"type": "x.done"},
        "correlate": {"order": {"from": ".data.order", "expect": "${ .n }"}},
    }
    branches = [{"l": {"listen": {"to": {"one": one}}}}, {"b": CALL}]
    driver = Driver(define({"f": {"fork": {"branches": branches}}}))
    driver.start({"n": 5})
    (opened,) = [body for kind, body in sends(driver) if kind == "listen"]
    driver.failed(1, retryable=False)
    assert ("unlisten", {"key": opened["key"]}) in sends(driver)
    driver.command("retry")
    (again,) = [body for kind, body in sends(driver) if kind == "listen"]
    assert again["key"] == f"{opened['key']}-1", "what is late about the old one harms nobody"
    assert driver.event("x.done", 8, {"order": 5}, listener=driver.only_listener).ignored == "late"
    driver.done("b", 1)
    driver.event("x.done", 9, {"order": 5})
    assert driver.state["output"] == [[{"order": 5}], "b"]
    assert driver.replay() == driver.state


def test_a_row_of_instances_has_one_successor_however_often_one_is_retried():
    driver = Driver(define({"a": CALL}, schedule={"after": "PT1M"}))
    driver.start({})
    driver.failed(retryable=False)
    assert [kind for kind, _ in sends(driver)] == ["start-later"]
    driver.command("retry")
    driver.done(1)
    assert sends(driver) == []


def test_branches_that_were_cut_off_in_the_very_step_of_the_fault_are_not_waited_for():
    """The second branch had not begun when the first one failed: only a named task can go on."""
    deep = {"do": [{"c": {"do": [{"d": CALL}]}}]}
    driver = faulted({"f": {"fork": {"branches": [{"a": RAISE}, {"b": deep}]}}}, {"after": CALL})
    assert "failed" not in driver.state
    assert driver.command("retry").ignored == "from"
    driver.command("retry", **{"from": "/do/1/after"}, input=7)
    driver.done("fine")
    assert (driver.status, driver.state["output"]) == ("completed", "fine")
    assert driver.replay() == driver.state


def test_branches_that_fail_in_one_step_are_not_waited_for():
    driver = faulted({"f": {"fork": {"branches": [{"a": RAISE}, {"b": RAISE}]}}})
    assert driver.command("retry").ignored == "from"


@pytest.mark.parametrize("last", [RAISE, CALL], ids=["raise", "call"])
def test_the_competitor_that_failed_last_is_in_the_race_again(last):
    driver = Driver(
        define({"f": {"fork": {"compete": True, "branches": [{"a": CALL}, {"b": last}]}}})
    )
    driver.start({})
    while not driver.terminal:
        driver.failed(int(max(driver.state["runs"], key=int)), retryable=False)
    for _ in range(2):
        driver.command("retry")
        if last is not RAISE or driver.state["runs"]:
            driver.failed(retryable=False)
        assert driver.status == "faulted"
    assert driver.replay() == driver.state
