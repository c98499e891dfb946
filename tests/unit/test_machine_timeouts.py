"""Timeouts: what they span, what they fence, and what counts when a result comes as well."""

import pytest

from orchestrator.machine import CancelTimer, SetTimer
from tests.support.machine import ERRORS, Driver, define, run_through


def started(*tasks, input=None, **more):
    driver = Driver(define(*tasks, **more))
    driver.start(input)
    return driver


def after(duration):
    return {"timeout": {"after": duration}}


def timed_out(error, place):
    assert (error["type"], error["status"]) == (f"{ERRORS}timeout", 408)
    assert error["instance"] == place


def test_a_call_that_is_not_done_in_time_faults_and_its_result_comes_too_late():
    tasks = {"c": {"call": "w", **after("PT5S")}}
    catch = {"as": "e", "do": [{"m": {"call": "mend", "with": "${ $e }"}}]}
    driver = started({"t": {"try": [tasks], "catch": catch}})
    assert driver.state["timers"]["1"]["due_ms"] == driver.now_ms + 5000
    driver.fire()
    timed_out(driver.state["runs"]["2"]["input"], "/do/0/t/try/0/c")
    assert driver.result(1, 1, activity="w", output=1).ignored == "late"
    assert driver.fire(1).ignored == "late"


def test_a_result_in_time_takes_the_timer_back():
    driver = started({"c": {"call": "w", **after("PT5S")}}, {"d": {"call": "x"}})
    driver.done(1)
    assert CancelTimer(1) in driver.last.commands
    assert driver.fire(1).ignored == "late"
    assert driver.status == "running"


def test_without_a_timeout_there_is_no_timer():
    driver = started({"c": {"call": "w"}})
    assert not driver.state["timers"]


def test_a_task_that_waits_for_nothing_sets_no_timer():
    driver = run_through(define({"s": {"set": {"a": 1}, **after("PT5S")}}))
    assert not [one for one in driver.last.commands if isinstance(one, SetTimer | CancelTimer)]


def test_a_skipped_task_has_no_timeout():
    driver = started({"c": {"if": "false", "call": "w", **after("PT5S")}}, {"d": {"call": "x"}})
    assert not driver.state["timers"]


def test_timeouts_have_names_and_expressions():
    use = {"use": {"timeouts": {"short": {"after": "${ .limit }"}}}}
    driver = started({"c": {"call": "w", "timeout": "short"}}, input={"limit": "PT7S"}, **use)
    assert driver.state["timers"]["1"]["due_ms"] == driver.now_ms + 7000
    driver = started({"c": {"call": "w", "timeout": "short"}}, input={"limit": "soon"}, **use)
    assert driver.state["error"]["type"] == f"{ERRORS}expression"


@pytest.mark.parametrize(
    "inside",
    [
        {"wait": "PT1H"},
        {"do": [{"w": {"wait": "PT1H"}}]},
        {"fork": {"branches": [{"a": {"call": "a"}}, {"b": {"wait": "PT1H"}}]}},
        {"for": {"in": "[1, 2]"}, "do": [{"w": {"wait": "PT1H"}}]},
        {
            "for": {"in": "[1, 2]"},
            "do": [{"w": {"call": "x"}}],
            "metadata": {"wf": {"concurrency": 2}},
        },
        {"try": [{"c": {"call": "w", **after("PT1H")}}], "catch": {}},
    ],
)
def test_the_timeout_of_a_task_ends_all_that_is_inside(inside):
    driver = started({"t": {**inside, **after("PT5S")}})
    due = {timer["due_ms"]: int(number) for number, timer in driver.state["timers"].items()}
    driver.fire(due[min(due)])
    timed_out(driver.state["error"], "/do/0/t")


def test_the_timeout_of_the_workflow_faults_it_and_no_try_sees_it():
    driver = started({"t": {"try": [{"c": {"call": "w"}}], "catch": {}}}, **after("PT5S"))
    driver.fire()
    assert driver.status == "faulted"
    timed_out(driver.state["error"], "/")
    driver = started({"c": {"call": "w"}}, **after("${ .limit }"), input={"limit": "PT5S"})
    driver.done(1)
    assert driver.status == "completed"
    assert CancelTimer(1) in driver.last.commands


def test_an_attempt_that_takes_too_long_is_tried_again_with_its_run():
    retry = {"limit": {"attempt": {"count": 2, "duration": "PT5S"}}}
    catch = {"errors": {"with": {"status": 408}}, "retry": retry}
    driver = started({"t": {"try": [{"c": {"call": "w"}}], "catch": catch}})
    driver.fire(1)
    # It may have been done all the same: its idempotency key stays, and its result is fenced.
    assert driver.state["runs"]["1"]["attempt"] == 2
    assert driver.result(1, 1, output="late").ignored == "late"
    assert list(driver.state["timers"]) == ["2"]
    driver.fire(2)
    assert driver.status == "faulted"
    timed_out(driver.state["error"], "/do/0/t")
    assert "limit.attempt.duration" in driver.state["error"]["detail"]


def test_an_attempt_in_time_takes_its_limit_back():
    retry = {"delay": "PT1S", "limit": {"attempt": {"count": 3, "duration": "PT5S"}}}
    driver = started(
        {"t": {"try": [{"c": {"call": "w"}}], "catch": {"retry": retry}}}, {"d": {"call": "x"}}
    )
    driver.failed()
    assert list(driver.state["timers"]) == ["2"]  # the delay
    driver.fire(2)
    driver.done(1)
    assert not driver.state["timers"]
    assert driver.status == "running"


def test_what_the_handler_of_a_catch_does_has_the_timeout_of_the_whole_task():
    catch = {"do": [{"slow": {"call": "slow"}}]}
    driver = started({"t": {"try": [{"c": {"call": "w"}}], "catch": catch, **after("PT5S")}})
    driver.failed()
    driver.fire()
    timed_out(driver.state["error"], "/do/0/t")


@pytest.mark.parametrize("first", ["result", "timer"])
def test_while_suspended_what_was_stored_first_counts(first):
    driver = started({"c": {"call": "w", **after("PT5S")}})
    driver.command("suspend")
    if first == "result":
        driver.done("in time")
        driver.fire()
    else:
        driver.fire()
        driver.done("too late")
    driver.command("resume")
    assert driver.status == ("completed" if first == "result" else "faulted")


def test_a_wait_and_its_timeout_do_not_take_each_other_s_timer():
    driver = started({"w": {"wait": "PT1S", **after("PT5S")}}, {"d": {"call": "x"}})
    timers = {timer["due_ms"]: int(number) for number, timer in driver.state["timers"].items()}
    driver.fire(timers[min(timers)])
    assert driver.status == "running"
    assert not driver.state["timers"]


def test_a_raised_expression_is_the_error_it_gives():
    catch = {"do": [{"again": {"raise": {"error": '${ $error + {title: "Again"} }'}}}]}
    driver = started({"t": {"try": [{"c": {"call": "w"}}], "catch": catch}})
    driver.failed()
    assert driver.state["error"]["title"] == "Again"
    assert driver.state["error"]["status"] == 503
    driver = run_through(define({"r": {"raise": {"error": "${ .x }"}}}), {"x": [1]})
    assert driver.status == "faulted"
    assert driver.state["error"]["instance"] == "/do/0/r"
