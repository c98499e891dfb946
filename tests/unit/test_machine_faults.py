"""Errors: raised, caught, tried again, and what happens to runs that fail, crash or get lost."""

import pytest

from orchestrator.expressions.jq import ExpressionLimits
from orchestrator.machine import (
    DEFAULT_LIMITS,
    CancelTimer,
    DeadLetter,
    Dispatch,
    Finished,
    SetTimer,
)
from tests.support.machine import ERRORS, Driver, define, run_through

DOWN = {"type": ERRORS + "communication", "status": 503, "title": "Down"}
OLD = "https://serverlessworkflow.io/spec/1.0.0/errors/communication"
POLICY = {"max_attempts": 3, "delay_s": 1.0, "backoff": "exponential", "max_delay_s": 60.0,
          "jitter": 0.0}  # fmt: skip


SMALL = DEFAULT_LIMITS._replace(expressions=ExpressionLimits(max_result_bytes=1000))
SWITCH = {"switch": [{"all": {"then": "continue"}}]}


def flow(catch, block=None, **more):
    block = block or [{"pay": {"call": "charge"}}]
    return define({"t": {"try": block, "catch": catch, **more}}, {"after": {"call": "after"}})


def started(definition, input=None):
    driver = Driver(definition)
    driver.start(input)
    return driver


def calling():
    return started(define({"a": {"call": "work"}}), {"k": 1})


# --- raise and catch ------------------------------------------------------------------------------


def test_raise_faults_with_the_pointer_of_the_task():
    error = {"type": ERRORS + "validation", "status": 400, "title": "Bad", "detail": "${ .why }"}
    driver = run_through(define({"o": {"do": [{"r": {"raise": {"error": error}}}]}}), {"why": "x"})
    assert driver.status == "faulted"
    assert driver.state["error"] == {**error, "detail": "x", "instance": "/do/0/o/do/0/r"}
    assert driver.types()[-3:] == ["task.faulted", "task.faulted", "instance.faulted"]
    assert driver.last.commands == [Finished()]


def test_raise_may_name_a_reusable_error():
    body = {"r": {"raise": {"error": "down"}}}
    driver = run_through(define(body, use={"errors": {"down": DOWN}}))
    assert driver.state["error"] == {**DOWN, "instance": "/do/0/r"}


@pytest.mark.parametrize(
    ("wanted", "caught"),
    [
        ({"status": 503}, True),
        ({"status": 500}, False),
        ({"type": ERRORS + "communication"}, True),
        ({"type": OLD, "status": 503}, True),
        ({"type": ERRORS + "runtime"}, False),
        ({"instance": "/do/0/t/try/0/r"}, True),
        ({"title": "${ .title }"}, True),
    ],
)
def test_catch_matches_all_the_properties_it_names(wanted, caught):
    definition = define(
        {"t": {"try": [{"r": {"raise": {"error": DOWN}}}], "catch": {"errors": {"with": wanted}}}}
    )
    driver = run_through(definition, {"title": "Down"})
    assert driver.status == ("completed" if caught else "faulted")


def test_old_names_of_error_types_are_matched_by_new_ones():
    definition = define(
        {"t": {"try": [{"r": {"raise": {"error": {"type": OLD, "status": 1}}}}],
               "catch": {"errors": {"with": {"type": ERRORS + "communication"}}}}}
    )  # fmt: skip
    assert run_through(definition).status == "completed"


@pytest.mark.parametrize(
    ("conditions", "caught"),
    [
        ({"when": "$error.status == 503"}, True),
        ({"when": "${ $error.status == 1 }"}, False),
        ({"exceptWhen": "$error.status == 503"}, False),
        ({"exceptWhen": ".no", "when": ".yes"}, True),
        ({"as": "problem", "when": '$problem.title == "Down"'}, True),
    ],
)
def test_when_and_except_when_see_the_error(conditions, caught):
    definition = define({"t": {"try": [{"r": {"raise": {"error": DOWN}}}], "catch": conditions}})
    driver = run_through(definition, {"yes": True})
    assert driver.status == ("completed" if caught else "faulted")


def test_catch_do_sees_the_error_and_the_input_and_its_output_goes_on():
    catch = {"as": "e", "do": [{"s": {"set": {"e": "${ $e.status }", "in": "${ .k }"}}}]}
    driver = started(flow(catch), {"k": 1})
    driver.failed()
    assert driver.state["runs"]["2"]["input"] == {"e": 503, "in": 1}
    assert all("variables" not in frame for frame in driver.state["frames"].values())


def test_without_a_handler_the_input_goes_on():
    driver = started(flow({}), {"k": 1})
    driver.failed()
    assert driver.state["runs"]["2"]["input"] == {"k": 1}


def test_catch_then_counts_only_when_something_was_caught():
    definition = define(
        {"t": {"try": [{"a": {"if": ".bad", "raise": {"error": DOWN}}}],
               "catch": {"then": "repair"}, "then": "end"}},
        {"never": {"set": {"at": "never"}, "then": "end"}},
        {"repair": {"set": {"at": "repair"}}},
    )  # fmt: skip
    assert run_through(definition, {"bad": True}).state["output"] == {"at": "repair"}
    assert run_through(definition, {"bad": False}).state["output"] == {"bad": False}


def test_an_error_inside_the_handler_is_not_caught_by_its_own_try():
    catch = {"do": [{"r": {"raise": {"error": {**DOWN, "status": 418}}}}]}
    inner = {"t": {"try": [{"r": {"raise": {"error": DOWN}}}], "catch": catch}}
    assert run_through(define(inner)).state["error"]["instance"] == "/do/0/t/catch/do/0/r"
    outer = define({"o": {"try": [inner], "catch": {"errors": {"with": {"status": 418}}}}})
    assert run_through(outer).status == "completed"


def test_a_failing_expression_is_an_error_that_can_be_caught():
    catch = {"errors": {"with": {"type": ERRORS + "expression", "status": 400}}}
    definition = define({"t": {"try": [{"s": {"set": {"x": "${ .a.b }"}}}], "catch": catch}})
    assert run_through(definition, {"a": 1}).status == "completed"


def test_a_failing_condition_of_the_catch_faults_the_try():
    catch = {"when": ".a.b"}
    definition = define({"t": {"try": [{"r": {"raise": {"error": DOWN}}}], "catch": catch}})
    assert run_through(definition, {"a": 1}).state["error"]["instance"] == "/do/0/t"


# --- the policy of a try --------------------------------------------------------------------------


def test_a_try_runs_its_whole_block_again_and_counts_attempts_in_all():
    block = [{"one": {"call": "one"}}, {"two": {"call": "two"}}]
    catch = {"retry": {"limit": {"attempt": {"count": 3}}}, "do": [{"s": {"set": {"gave": "up"}}}]}
    driver = started(flow(catch, block), {"k": 1})
    for attempt in (1, 2, 3):
        assert driver.state["runs"][str(driver.only_run)]["activity"] == "one"
        assert driver.state["runs"][str(driver.only_run)]["input"] == {"k": 1}
        assert driver.only_run == 1
        assert driver.state["runs"]["1"]["attempt"] == attempt
        driver.done({})
        driver.failed()
        assert ("task.retried" in driver.types()) is (attempt < 3)
    assert driver.state["runs"]["3"]["input"] == {"gave": "up"}


@pytest.mark.parametrize(
    ("backoff", "delays"),
    [({}, [100, 100, 100]), ({"backoff": {"constant": {}}}, [100, 100, 100]),
     ({"backoff": {"linear": {}}}, [100, 200, 300]),
     ({"backoff": {"exponential": {}}}, [100, 200, 400])],
)  # fmt: skip
def test_backoff_waits_by_durable_timers(backoff, delays):
    driver = started(flow({"retry": {"delay": {"milliseconds": 100}, **backoff}}))
    for delay in delays:
        driver.failed()
        assert driver.status == "waiting"
        assert driver.state["timers"][str(driver.only_timer)]["due_ms"] - driver.now_ms == delay
        assert [type(command) for command in driver.last.commands] == [SetTimer]
        driver.fire()
        assert [type(command) for command in driver.last.commands] == [Dispatch]


def test_jitter_is_within_its_range_and_the_same_each_time():
    retry = {"delay": "PT1S", "jitter": {"from": "PT1S", "to": "PT3S"}}
    due = set()
    for _ in range(2):
        driver = started(flow({"retry": retry}))
        driver.failed()
        due.add(driver.state["timers"]["1"]["due_ms"] - driver.now_ms)
    assert len(due) == 1
    assert 2000 <= due.pop() < 4000


def test_a_duration_limit_ends_the_attempts():
    policy = {"delay": "PT10S", "limit": {"duration": "PT15S"}}
    driver = started(flow({"retry": policy, "then": "continue"}))
    driver.failed()
    driver.fire()
    driver.failed()
    assert driver.state["runs"]["2"]["activity"] == "after"


def test_conditions_of_the_policy_decide_on_retries_not_on_catching():
    driver = started(flow({"retry": {"when": "$error.status == 1"}, "then": "continue"}))
    driver.failed()
    assert driver.state["runs"]["2"]["activity"] == "after"


def test_a_policy_may_be_named_and_sees_the_variable_of_the_catch():
    use = {"retries": {"twice": {"when": "$e.status == 503", "limit": {"attempt": {"count": 2}}}}}
    body = {"try": [{"a": {"call": "a"}}], "catch": {"as": "e", "retry": "twice"}}
    driver = started(define({"t": body}, use=use))
    driver.failed()
    assert driver.state["runs"]["1"]["attempt"] == 2
    driver.failed()
    assert driver.status == "faulted"


def test_an_error_that_the_retries_did_not_mend_goes_on():
    driver = started(flow({"retry": {"limit": {"attempt": {"count": 2}}}}))
    driver.failed()
    driver.failed()
    assert driver.status == "faulted"
    assert driver.state["error"]["title"] == "Down"
    assert driver.replay() == driver.snapshot


def test_what_cannot_be_retried_goes_on_too_when_a_retry_was_all_there_was():
    driver = started(flow({"retry": {}}))
    driver.failed(retryable=False)
    assert driver.status == "faulted"


def test_an_outer_try_catches_what_the_inner_one_could_not_mend():
    inner = {
        "try": [{"pay": {"call": "charge"}}],
        "catch": {"retry": {"limit": {"attempt": {"count": 1}}}},
    }
    driver = started(flow({"do": [{"h": {"set": {"e": "${ $error.title }"}}}]}, [{"in": inner}]))
    driver.failed()
    assert driver.state["runs"]["2"]["input"] == {"e": "Down"}


def test_what_another_attempt_cannot_mend_is_not_tried_again_but_handled():
    driver = started(flow({"retry": {}, "then": "continue"}))
    driver.failed(retryable=False)
    assert driver.state["runs"]["2"]["activity"] == "after"


def test_a_try_around_the_call_overrules_the_policy_of_the_activity():
    driver = started(flow({"errors": {"with": {"status": 1}}}))
    driver.failed(retry=POLICY)
    assert driver.status == "faulted"


def test_a_handler_is_not_governed_by_its_own_try():
    driver = started(flow({"do": [{"fix": {"call": "fix"}}]}))
    driver.failed()
    driver.failed(retry=POLICY)
    assert driver.state["runs"]["2"]["attempt"] == 2


def test_an_endless_retry_of_a_raise_is_stopped():
    definition = define({"t": {"try": [{"r": {"raise": {"error": DOWN}}}], "catch": {"retry": {}}}})
    assert run_through(definition).state["error"]["title"] == "Too many steps"


# --- the policy of the activity -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("backoff", "delays"),
    [("constant", [1000, 1000]), ("linear", [1000, 2000]), ("exponential", [1000, 2000])],
)
def test_without_a_try_the_activity_is_retried_by_its_own_policy(backoff, delays):
    driver = calling()
    for attempt, delay in enumerate(delays, 1):
        driver.failed(retry={**POLICY, "backoff": backoff})
        assert driver.state["timers"][str(attempt)]["due_ms"] == driver.now_ms + delay
        assert driver.state["runs"]["1"]["attempt"] == attempt + 1
        driver.fire()
        assert driver.last.commands == [Dispatch(1)]
    driver.failed(retry={**POLICY, "backoff": backoff})
    assert driver.status == "faulted"
    assert driver.state["error"]["status"] == 503
    assert driver.state["error"]["instance"] == "/do/0/a"


def test_b_fails_once_and_then_succeeds():
    driver = started(define({"a": {"call": "A"}}, {"b": {"call": "B"}}))
    driver.done("from a")
    driver.failed(retry=POLICY)
    driver.fire()
    driver.done("from b")
    assert driver.state["output"] == "from b"


def test_a_delay_of_nothing_needs_no_timer():
    driver = calling()
    driver.failed(retry={"max_attempts": 2})
    assert driver.last.commands == [Dispatch(1)]
    assert driver.state["runs"]["1"]["attempt"] == 2


def test_delays_are_capped_and_jitter_only_shortens():
    driver = calling()
    driver.failed(retry={**POLICY, "delay_s": 1e9, "max_delay_s": 5})
    assert driver.state["timers"]["1"]["due_ms"] == driver.now_ms + 5000
    driver = calling()
    driver.failed(retry={**POLICY, "jitter": 0.5})
    assert 500 <= driver.state["timers"]["1"]["due_ms"] - driver.now_ms <= 1000


@pytest.mark.parametrize("retry", [{}, {"max_attempts": "x"}, {"max_attempts": 5, "delay_s": -1,
                                   "jitter": "a", "max_delay_s": None, "backoff": 3}])  # fmt: skip
def test_an_odd_policy_does_no_harm(retry):
    driver = calling()
    driver.failed(retry=retry)
    assert driver.status in ("faulted", "running")


def test_what_is_not_retryable_fails_at_once():
    driver = calling()
    driver.failed(retry=POLICY, retryable=False)
    assert driver.status == "faulted"


# --- late, duplicate, reordered -------------------------------------------------------------------


def test_a_success_of_any_attempt_completes_a_run_that_is_open():
    driver = calling()
    driver.failed(retry=POLICY)
    driver.result(1, 1, output="late but good")
    assert driver.state["output"] == "late but good"
    assert driver.last.commands == [CancelTimer(1), Finished()]


def test_a_failure_of_an_earlier_attempt_is_late():
    driver = calling()
    driver.failed(retry={"max_attempts": 9})
    assert driver.failed(1, 1, retry=POLICY).ignored == "late"


def test_a_failure_of_an_attempt_that_was_not_dispatched_yet_is_late():
    driver = calling()
    driver.failed(retry=POLICY)
    assert driver.failed(1, 2, retry=POLICY).ignored == "late"


def test_results_of_unknown_runs_and_timers_are_late():
    driver = calling()
    assert driver.result(7).ignored == "late"
    assert driver.fire(7).ignored == "late"
    assert driver.result(1, 9, output=1).ignored == "late"


def test_a_result_of_another_activity_does_not_count():
    assert calling().result(1, activity="other").ignored == "activity"


def test_a_duplicate_result_is_late():
    driver = started(define({"a": {"call": "A"}}, {"b": {"call": "B"}}))
    event = {"kind": "result", "activity": "A", "run": 1, "attempt": 1, "outcome": "completed",
             "output": 1}  # fmt: skip
    assert driver.feed(event).ignored is None
    assert driver.feed(event).ignored == "late"


# --- crashes, timeouts, lost tasks ----------------------------------------------------------------


@pytest.mark.parametrize("outcome", ["crashed", "out-of-memory"])
def test_a_crash_is_dispatched_again_at_once_up_to_the_limit(outcome):
    driver = calling()
    for attempt in (1, 2):
        driver.failed(outcome=outcome, retry={"max_attempts": 1})
        assert driver.last.commands == [Dispatch(1)]
        assert driver.state["runs"]["1"]["attempt"] == attempt + 1
    driver.failed(outcome=outcome, evidence={"signal": 9})
    assert driver.status == "faulted"
    error = driver.state["error"]
    assert (error["type"], error["status"], error["title"]) == (
        ERRORS + "runtime", 500, "Worker crashed")  # fmt: skip
    (letter,) = [command for command in driver.last.commands if isinstance(command, DeadLetter)]
    assert (letter.kind, letter.name) == (outcome, "work")
    assert letter.evidence["signal"] == 9
    assert letter.evidence["input"] == {"k": 1}
    assert (letter.evidence["run"], letter.evidence["attempt"]) == (1, 3)


def test_a_death_in_company_sends_the_task_out_alone_and_does_not_count():
    driver = calling()
    driver.failed(outcome="crashed", suspects=4, crash_limit=2)
    assert driver.state["runs"]["1"] | {"alone": 1, "crashes": 0} == driver.state["runs"]["1"]
    driver.failed(outcome="crashed", suspects=1, crash_limit=2)
    assert driver.status == "running"
    driver.failed(outcome="crashed", suspects=1, crash_limit=2)
    assert driver.status == "faulted"


def test_a_worker_that_runs_others_beside_a_task_sent_out_alone_does_not_save_it():
    driver = calling()
    for _ in range(3):
        assert driver.status == "running"
        driver.failed(outcome="crashed", suspects=2, crash_limit=2)
    assert driver.status == "faulted"


def test_a_task_that_only_happened_to_be_there_is_sent_out_again_as_it_was():
    driver = calling()
    for _ in range(5):
        driver.failed(outcome="crashed", suspects=0, crash_limit=1)
    run = driver.state["runs"]["1"]
    assert (run["attempt"], run.get("crashes", 0), "alone" in run) == (6, 0, False)


def test_crashes_do_not_count_as_failures_of_the_policy():
    driver = calling()
    driver.failed(outcome="crashed")
    driver.failed(retry={**POLICY, "max_attempts": 2})
    assert driver.state["runs"]["1"]["attempt"] == 3
    driver.fire()
    driver.failed(retry={**POLICY, "max_attempts": 2})
    assert driver.status == "faulted"


def test_the_crash_limit_comes_from_the_activity():
    driver = calling()
    driver.failed(outcome="crashed", crash_limit=1)
    assert driver.status == "faulted"


def test_a_crash_inside_a_try_is_handled_but_not_tried_again_past_the_limit():
    driver = started(flow({"retry": {}, "do": [{"s": {"set": {"e": "${ $error.title }"}}}]}))
    driver.failed(outcome="crashed", crash_limit=1)
    assert driver.state["runs"]["2"]["input"] == {"e": "Worker crashed"}


def test_an_undeliverable_task_fails_the_run_and_is_set_aside():
    driver = calling()
    driver.failed(outcome="undeliverable", retry=POLICY, evidence={"deliveries": 20})
    assert driver.status == "faulted"
    letter = driver.last.commands[0]
    assert (letter.kind, letter.name) == ("undeliverable", "work")
    assert letter.evidence["deliveries"] == 20
    assert letter.evidence["instance"] == "i-1"


def test_a_timeout_is_a_408_and_is_retried():
    driver = calling()
    driver.failed(outcome="timed-out", error={"detail": "after 5 s"}, retry=POLICY)
    assert driver.status == "running"
    driver.fire()
    driver.failed(outcome="timed-out", error=None)
    error = driver.state["error"]
    assert (error["type"], error["status"]) == (ERRORS + "timeout", 408)


@pytest.mark.parametrize("error", [None, "text", 3, [1], {"status": "x", "type": 5}])
def test_an_odd_error_becomes_an_error_object(error):
    driver = calling()
    driver.failed(error=error)
    found = driver.state["error"]
    assert found["type"] == ERRORS + "runtime"
    assert found["status"] == 500
    assert found["instance"] == "/do/0/a"


# --- faults from the shell ------------------------------------------------------------------------


def test_the_shell_may_fail_one_run():
    driver = started(flow({"retry": {}, "do": [{"s": {"set": {"e": "${ $error.title }"}}}]}))
    driver.feed({"kind": "fault", "run": 1, "error": {"title": "Too large", "status": 413}})
    assert driver.state["runs"]["2"]["input"] == {"e": "Too large"}
    assert driver.feed({"kind": "fault", "run": 1, "error": {}}).ignored == "late"


def test_the_shell_may_fault_the_instance():
    driver = started(define({"w": {"wait": "PT1S"}}))
    driver.feed({"kind": "fault", "error": {"title": "Poison"}, "evidence": {"sequence": 5}})
    assert driver.state["error"]["title"] == "Poison"
    kinds = [type(command) for command in driver.last.commands]
    assert kinds == [DeadLetter, CancelTimer, Finished]


def test_an_instance_whose_definition_is_gone_faults_with_its_name():
    driver = calling()
    driver.definition = None
    driver.done(1)
    assert "default.flow 1.0.0" in driver.state["error"]["detail"]


# --- facts ----------------------------------------------------------------------------------------


# hypothesis has a callback of the collector, in which the deadline may strike.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_what_depended_on_the_machine_is_recorded_and_replayed_as_a_fact():
    slow = define({"ok": {"set": {"x": "${ .x }"}}}, {"t": {
        "try": [{"s": {"set": {"x": "${ [recurse(.x + 1 | {x: .})] }"}}}],
        "catch": {"do": [{"h": {"set": {"e": "${ $error.detail }"}}}]}}})  # fmt: skip
    driver = started(slow, {"x": 1})
    (entry,) = [entry for entry in driver.last.history if entry["type"] == "expression.faulted"]
    assert entry["fact"]["evaluation"] == 2
    assert entry["fact"]["kind"] in ("deadline", "depth", "memory")
    # The replay would not fault by itself with this definition:
    fast = define({"ok": {"set": {"x": "${ .x }"}}}, {"t": {
        "try": [{"s": {"set": {"x": "${ 1 }"}}}],
        "catch": {"do": [{"h": {"set": {"e": "${ $error.status }"}}}]}}})  # fmt: skip
    again = started(fast, {"x": 1})
    assert again.state["output"] == {"x": 1}
    replayed = Driver(fast)
    replayed.start({"x": 1}, facts=[entry["fact"], "garbage", {"kind": 3}])
    assert replayed.state["output"] == {"e": 400}
    assert driver.replay() == driver.state


# --- the same run, tried again by a try -----------------------------------------------------------


def retried(*block: dict, **catch: object) -> Driver:
    policy = {"limit": {"attempt": {"count": 5}}}
    return started(flow({"retry": policy, **catch}, list(block)), {"k": 1})


def test_a_call_keeps_its_run_when_the_try_around_it_is_tried_again():
    driver = retried({"pay": {"call": "pay"}})
    for attempt in (1, 2, 3):
        assert driver.only_run == 1
        assert driver.state["runs"]["1"]["attempt"] == attempt
        driver.failed()
    driver.done({})
    assert driver.replay() == driver.snapshot


def test_an_old_result_does_not_count_for_a_call_that_is_done_again():
    driver = retried({"one": {"call": "one"}}, {"two": {"call": "two"}})
    driver.done({"first": True})
    driver.failed()
    assert driver.only_run == 1
    assert driver.result(1, 1, output={"first": True}).ignored == "late"
    driver.result(1, 2, output={"second": True})
    assert driver.state["runs"]["2"]["input"] == {"second": True}
    assert driver.state["runs"]["2"]["attempt"] == 2


def test_a_call_that_jumps_back_inside_the_block_is_a_run_of_its_own_each_time():
    again = {"switch": [{"more": {"when": ".n < 3", "then": "poll"}}, {"on": {"then": "last"}}]}
    driver = retried({"poll": {"call": "poll"}}, {"look": again}, {"last": {"call": "last"}})
    for n in (1, 2, 3):
        assert driver.only_run == n
        driver.done({"n": n})
    driver.failed()
    for n in (1, 2, 3):
        assert (driver.only_run, driver.state["runs"][str(n)]["attempt"]) == (n, 2)
        driver.done({"n": n})
    assert driver.only_run == 4


def test_the_outermost_try_remembers_across_new_frames_of_the_inner_one():
    up = {"raise": {"error": {"type": "about:up", "status": 500, "title": "Up"}}}
    inner = {
        "try": [{"pay": {"call": "pay"}}],
        "catch": {"retry": {"limit": {"attempt": {"count": 2}}}, "do": [{"up": up}]},
    }
    driver = retried({"inner": inner})
    for attempt in (1, 2, 3, 4):
        assert (driver.only_run, driver.state["runs"]["1"]["attempt"]) == (1, attempt)
        driver.failed()


def test_a_handler_is_not_taken_for_the_block():
    driver = retried({"pay": {"call": "pay"}}, do=[{"undo": {"call": "undo"}}])
    driver.failed(retryable=False)
    assert driver.only_run == 2
    assert driver.state["runs"]["2"]["attempt"] == 1


def test_what_doubles_with_each_round_is_stopped():
    """No expression is too large by itself: it is what the fork makes of them."""
    both = {"fork": {"branches": [{"a": {"do": [{"x": SWITCH}]}}, {"b": {"do": [{"x": SWITCH}]}}]}}
    driver = Driver(define({"both": both}, {"again": {"switch": [{"all": {"then": "both"}}]}}))
    driver.start({"n": "x" * 100})
    assert driver.status == "faulted"
    assert driver.state["error"]["instance"] == "/do/0/both"
    assert "too large" in driver.state["error"]["detail"]
    assert driver.replay() == driver.state


def test_what_a_template_puts_together_has_a_limit_that_a_replay_knows():
    driver = Driver(define({"both": {"set": {"a": "${ . }", "b": "${ . }"}}}), SMALL)
    driver.start("x" * 700)
    assert driver.state["error"]["type"].endswith("/expression")
    driver.limits = DEFAULT_LIMITS  # they may change meanwhile
    assert driver.replay() == driver.state
