"""`metadata.wf.scheduleToStart` and `heartbeat`: what the engine makes of hearing, or not hearing,
of a call's worker."""

from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.dispatch import effects, outbox
from orchestrator.ingest import messages_in
from orchestrator.machine import CancelTimer, Dispatch, Send, SetTimer
from orchestrator.machine.calls.call import LOST_LIMIT
from orchestrator.machine.calls.heartbeat import MARGIN_MS
from orchestrator.machine.kernel.limits import DEFAULT_LIMITS
from orchestrator.state.commit import Commit
from tests.support.machine import ERRORS, Driver, define
from wf.errors import DefinitionError

START = {"scheduleToStart": "PT30S"}
BEAT = {"heartbeat": "PT10S"}
POLICY = {"max_attempts": 3, "delay_s": 0}


def call(name="w", **keys):
    return {"call": name, "metadata": {"wf": keys}}


def started(*tasks, **more):
    driver = Driver(define(*tasks, **more))
    driver.start()
    return driver


def sign(driver, outcome, attempt=None, run=1, **more):
    return driver.result(run, attempt, outcome=outcome, **more)


def overdue(driver):
    """The engine's own word, as it was sent last, comes back among the results."""
    body = [one.body for one in driver.commands if type(one) is Send and one.kind == "overdue"][-1]
    message = effects.build("overdue", driver.state, body, "m")[1]
    event = messages_in.to_event(message.subject, message.data, 1, 0)[1]
    return driver.feed(event)


def fire(driver, late_ms=0):
    driver.now_ms = driver.state["timers"][str(driver.only_timer)]["due_ms"] + late_ms
    return driver.feed({"kind": "timer", "timer": driver.only_timer})


def probes(driver):
    return [one.body for one in driver.last.commands if type(one) is Send]


def dispatched(driver):
    return [one for one in driver.last.commands if type(one) is Dispatch]


def task(driver, run=1):
    commit = Commit(1, "token", tasks=[run])
    (message,) = outbox.task_messages(driver.state, commit)
    return orjson.loads(message.data)


# --- the definition ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "place", "sentence"),
    [
        (call(heartbeat="soon"), "heartbeat", "is not a duration"),
        (call(scheduleToStart=30), "scheduleToStart", "is not a duration"),
        (call(scheduleToStart="PT0S"), "scheduleToStart", "must be from 0.001 s to a year"),
        (call(heartbeat="PT0.5S"), "heartbeat", "must be from 1 s to a year"),
        (call(heartbeat="P800D"), "heartbeat", "must be from 1 s to a year"),
        (call(heartbeat="${ .h }"), "heartbeat", "is no expression"),
        (call(heartbeat={"seconds": "${ .h }"}), "heartbeat", "is no expression"),
        (call(heartBeat="PT5S"), "heartBeat", 'did you mean "heartbeat"?'),
        ({"wait": "PT1S", "metadata": {"wf": BEAT}}, "heartbeat", "write it at a `call`"),
        ({"do": [{"a": {"call": "b"}}], "metadata": {"wf": START}}, "scheduleToStart", "`call`"),
        (
            {
                "call": "http",
                "with": {"method": "get", "endpoint": "http://a/"},
                "metadata": {"wf": BEAT},
            },
            "heartbeat",
            "calls that are built in send no heartbeats",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_place_and_a_remedy(body, place, sentence):
    with pytest.raises(DefinitionError) as caught:
        define({"t": body})
    (problem,) = map(str, caught.value.problems)
    assert f"/do/0/t/metadata/wf/{place}: " in problem
    assert sentence in problem


# --- scheduleToStart --------------------------------------------------------------------------


def test_a_call_without_the_keys_costs_nothing():
    driver = started({"c": {"call": "w"}})
    assert not driver.state["timers"]
    assert set(driver.state["runs"]["1"]) == {"activity", "attempt", "pointer", "input", "frame"}
    assert "liveness" not in task(driver)


def test_the_task_says_until_when_it_may_be_begun_and_a_timer_waits_a_little_longer():
    driver = started({"c": call(**START)})
    assert task(driver)["liveness"] == {"start_by_ms": driver.now_ms + 30_000}
    assert driver.state["timers"]["1"]["due_ms"] == driver.now_ms + 30_000 + MARGIN_MS


def test_a_task_that_nobody_begins_in_time_is_a_timeout_that_a_try_may_catch():
    catch = {"as": "e", "do": [{"m": {"call": "mend", "with": {"e": "${ $e }"}}}]}
    driver = started({"t": {"try": [{"c": call(**START)}], "catch": catch}})
    fire(driver)
    assert driver.state["runs"]["1"]["attempt"] == 1, "the timer alone decides nothing"
    assert probes(driver) == [{"run": 1, "attempt": 1, "activity": "w"}]
    overdue(driver)
    error = driver.state["runs"]["2"]["input"]["e"]
    assert (error["type"], error["status"]) == (f"{ERRORS}timeout", 408)
    assert error["title"] == "Not started in time"
    assert "no worker began w within 30 s (scheduleToStart)" in error["detail"]
    assert error["instance"] == "/do/0/t/try/0/c"
    assert driver.result(1, 1, activity="w", output=1).ignored == "late"
    assert sign(driver, "started", 1, activity="w").ignored == "late"


def test_a_start_takes_the_timer_back_and_the_task_may_take_its_time():
    driver = started({"c": call(**START)})
    timer = driver.only_timer
    sign(driver, "started", retry=POLICY)
    assert driver.last.commands == [CancelTimer(timer)]
    assert not driver.state["timers"]
    assert sign(driver, "started").ignored == "duplicate"
    driver.now_ms += 3_600_000
    driver.done("done")
    assert (driver.status, driver.state["output"]) == ("completed", "done")


def test_a_start_that_was_stored_before_the_timer_s_word_counts_though_the_timer_came_first():
    driver = started({"c": call(**START)})
    fire(driver)
    sign(driver, "started")
    assert overdue(driver).ignored == "late"
    driver.done(1)
    assert driver.status == "completed"


def test_a_result_that_was_stored_before_the_timer_s_word_counts():
    driver = started({"c": call(**START)}, {"d": {"call": "x"}})
    fire(driver)
    driver.done(1)
    assert overdue(driver).ignored == "late"
    assert driver.only_run == 2


def test_a_worker_that_got_the_task_too_late_says_so_and_the_timer_is_taken_back():
    driver = started({"c": call(**START)})
    timer = driver.only_timer
    sign(driver, "expired")
    assert driver.status == "faulted"
    assert driver.state["error"]["title"] == "Not started in time"
    assert CancelTimer(timer) in driver.last.commands


def test_the_activity_s_policy_does_not_try_again_what_nobody_began_but_a_try_does():
    driver = started({"c": call(**START)})
    sign(driver, "expired", retry=POLICY)
    assert driver.status == "faulted"
    retry = {"retry": {"limit": {"attempt": {"count": 2}}}}
    driver = started({"t": {"try": [{"c": call(**START)}], "catch": retry}})
    fire(driver)
    overdue(driver)
    driver.fire() if driver.state["timers"] and not driver.state["runs"] else None
    assert driver.state["runs"]["1"]["attempt"] == 2, "the same run, its next attempt"
    assert task(driver)["liveness"] == {"start_by_ms": driver.now_ms + 30_000}


def test_an_attempt_that_had_begun_and_comes_again_too_late_is_done_once_more():
    driver = started({"c": call(**START)})
    sign(driver, "started")
    driver.now_ms += 60_000
    sign(driver, "expired")
    assert driver.state["runs"]["1"]["attempt"] == 2
    assert task(driver)["liveness"] == {"start_by_ms": driver.now_ms + 30_000}
    assert dispatched(driver) == [Dispatch(1)]
    assert len(driver.state["timers"]) == 1


def test_a_task_whose_workers_are_always_lost_is_given_up():
    driver = started({"c": call(**BEAT)})
    for _ in range(LOST_LIMIT - 1):
        sign(driver, "started")
        sign(driver, "redelivered")
        assert driver.status == "running"
    sign(driver, "started")
    sign(driver, "redelivered")
    assert driver.status == "faulted"
    assert driver.state["error"]["title"] == "Worker lost"


def test_each_attempt_has_the_whole_time_to_be_begun():
    driver = started({"c": call(**START)})
    sign(driver, "started")
    driver.now_ms += 5000
    driver.failed(retry={**POLICY, "delay_s": 60})
    assert len(driver.state["timers"]) == 1, "while it is put off, nobody is waited for"
    driver.fire()
    assert task(driver)["liveness"] == {"start_by_ms": driver.now_ms + 30_000}
    driver.failed(outcome="crashed")
    assert task(driver)["attempt"] == 3
    assert len(driver.state["timers"]) == 1


def test_too_many_timers_fail_the_task_and_not_the_engine():
    limits = DEFAULT_LIMITS._replace(max_timers=0)
    driver = Driver(define({"c": call(**START)}), limits)
    driver.start()
    assert driver.state["error"]["title"] == "Too many timers"
    driver = Driver(define({"c": call(**BEAT)}), limits)
    driver.start()
    sign(driver, "started")
    assert driver.state["error"]["title"] == "Too many timers"


# --- heartbeat --------------------------------------------------------------------------------


def test_a_heartbeat_is_waited_for_once_the_task_has_begun():
    driver = started({"c": call(**BEAT)})
    assert task(driver)["liveness"] == {"heartbeat_ms": 10_000}
    assert not driver.state["timers"]
    sign(driver, "started")
    assert driver.state["timers"]["1"]["due_ms"] == driver.now_ms + 10_000 + MARGIN_MS


def test_heartbeats_set_no_timers_and_the_timer_goes_on_from_the_last():
    driver = started({"c": call(**BEAT)})
    sign(driver, "started")
    for _ in range(3):
        driver.now_ms += 3000
        sign(driver, "heartbeat")
        assert driver.last.commands == []
    heard_ms = driver.now_ms
    fire(driver)
    (timer,) = driver.state["timers"].values()
    assert timer["due_ms"] == heard_ms + 10_000 + MARGIN_MS
    assert not probes(driver)


def test_a_worker_of_which_nothing_is_heard_times_out_and_the_activity_s_policy_holds():
    driver = started({"c": call(**BEAT)})
    sign(driver, "started", retry=POLICY)
    driver.now_ms += 4000
    sign(driver, "heartbeat", details={"page": 7})
    fire(driver)
    fire(driver)
    assert probes(driver)[0]["heard_ms"] == 1_004_000
    overdue(driver)
    assert driver.state["runs"]["1"]["attempt"] == 2
    assert task(driver)["liveness"] == {"heartbeat_ms": 10_000, "details": {"page": 7}}
    entry = next(one for one in driver.last.history if one["type"] == "task.retried")
    assert entry["error"]["title"] == "Heartbeat missed"
    assert "nothing was heard of the worker of w for 10 s (heartbeat)" in entry["error"]["detail"]
    assert sign(driver, "heartbeat", 1).ignored == "late"
    assert driver.failed(attempt=1).ignored == "late"


def test_a_heartbeat_that_was_stored_before_the_timer_s_word_counts():
    driver = started({"c": call(**BEAT)})
    sign(driver, "started")
    fire(driver)
    assert probes(driver)
    sign(driver, "heartbeat")
    assert overdue(driver).ignored == "late"
    assert len(driver.state["timers"]) == 1, "it is watched again"


def test_a_silence_of_the_broker_itself_is_forgiven_once():
    driver = started({"c": call(**BEAT)})
    sign(driver, "started")
    fire(driver, late_ms=60_000)
    assert not probes(driver)
    fire(driver, late_ms=60_000)
    assert probes(driver)


def test_details_reach_the_next_attempt_however_it_comes_about():
    driver = started({"c": call(**BEAT)})
    sign(driver, "started")
    driver.failed(heartbeat_details=[1], retry=POLICY)
    assert task(driver)["liveness"]["details"] == [1]
    sign(driver, "started")
    sign(driver, "heartbeat", details=[2])
    driver.failed(outcome="crashed")
    assert task(driver)["liveness"]["details"] == [2]
    sign(driver, "redelivered")
    assert task(driver)["liveness"]["details"] == [2]
    driver.feed({"kind": "fault", "error": {"title": "shell"}})
    driver.feed({"kind": "command", "verb": "retry", "sequence": 9})
    assert task(driver)["liveness"]["details"] == [2]


def test_details_outlast_a_try_that_begins_again():
    retry = {"retry": {"limit": {"attempt": {"count": 3}}}}
    driver = started({"t": {"try": [{"c": call(**BEAT)}], "catch": retry}})
    sign(driver, "started")
    sign(driver, "heartbeat", details={"page": 3})
    driver.failed()
    assert task(driver)["attempt"] == 2
    assert task(driver)["liveness"]["details"] == {"page": 3}


def test_a_task_that_comes_again_before_anybody_began_it_keeps_its_time():
    driver = started({"c": call(**START, **BEAT)})
    first = task(driver)["liveness"]["start_by_ms"]
    driver.now_ms += 5000
    sign(driver, "redelivered")
    assert task(driver)["attempt"] == 2
    assert task(driver)["liveness"]["start_by_ms"] == first
    assert [one["due_ms"] for one in driver.state["timers"].values()] == [first + MARGIN_MS]


def test_both_keys_together_wait_for_the_start_and_then_for_heartbeats():
    driver = started({"c": call(**START, **BEAT)})
    sign(driver, "started")
    (timer,) = driver.state["timers"].values()
    assert timer["due_ms"] == driver.now_ms + 10_000 + MARGIN_MS


def test_what_a_call_did_not_ask_for_is_ignored():
    driver = started({"c": {"call": "w"}})
    for outcome in ("started", "heartbeat", "expired", "redelivered", "overdue"):
        assert sign(driver, outcome).ignored == "unasked"
    driver = started({"c": call(**START)})
    assert sign(driver, "heartbeat").ignored == "unasked"


# --- suspended --------------------------------------------------------------------------------


def command(driver, verb, sequence):
    return driver.feed({"kind": "command", "verb": verb, "sequence": sequence})


def test_signs_of_life_count_while_the_instance_is_suspended_and_are_not_piled_up():
    driver = started({"c": call(**BEAT)})
    sign(driver, "started")
    command(driver, "suspend", 1)
    for _ in range(20):
        driver.now_ms += 3000
        sign(driver, "heartbeat")
        assert driver.status == "suspended"
    assert driver.state["held"] == []
    fire(driver)
    assert len(driver.state["held"]) == 1
    command(driver, "resume", 2)
    assert not probes(driver)
    assert driver.status == "running"


def test_what_is_overdue_does_not_keep_a_result_out_while_suspended():
    driver = started({"c": call(**BEAT)})
    sign(driver, "started")
    fire(driver)
    command(driver, "suspend", 1)
    overdue(driver)
    sign(driver, "heartbeat")
    assert driver.failed().ignored is None
    command(driver, "resume", 2)
    assert driver.status == "faulted"
    assert driver.state["error"]["title"] == "Down"


# --- together with the rest -------------------------------------------------------------------


def test_a_call_that_is_awaited_before_it_is_undone_is_still_watched():
    undo = {"compensate": [{"u": {"call": "undo"}}]}
    driver = started({"c": call(**BEAT, **undo)})
    sign(driver, "started")
    driver.feed({"kind": "command", "verb": "cancel", "sequence": 1})
    assert driver.status == "compensating"
    fire(driver)
    overdue(driver)
    assert driver.status == "cancelled"


def test_the_loser_of_a_race_is_waited_for_no_more():
    fork = {"compete": True, "branches": [{"a": call(**START)}, {"b": call("x")}]}
    driver = started({"f": {"fork": fork}})
    driver.result(2, output=1)
    assert driver.status == "completed"


def test_a_faulted_instance_that_goes_on_waits_anew():
    driver = started({"c": call(**START)})
    sign(driver, "expired")
    driver.now_ms += 100_000
    command(driver, "retry", 5)
    assert task(driver)["liveness"] == {"start_by_ms": driver.now_ms + 30_000}
    assert len([one for one in driver.last.commands if type(one) is SetTimer]) == 1


# --- races ------------------------------------------------------------------------------------

SAID = ["started", "heartbeat", "expired", "redelivered", "overdue", "failed", "crashed"]
AROUND = ["fire", "late", "suspend", "resume", "old", "pass"]
MOVES = st.lists(st.sampled_from([*SAID, *AROUND]), max_size=30)
KEYS = st.sampled_from([START, BEAT, {**START, **BEAT}])


class Race:
    """A worker and an engine that talk past each other: what is stored is the truth."""

    def __init__(self, keys: dict[str, str], governed: bool) -> None:
        retry = {"retry": {"limit": {"attempt": {"count": 100}}}}
        body: dict[str, Any] = {"c": call(**keys)}
        if governed:
            body = {"t": {"try": [body], "catch": retry}}
        self.driver = started(body)
        self.sequence = 0
        self.heard: dict[int, int] = {}  # attempt → when it was last heard of

    @property
    def attempt(self) -> int:
        return next((run["attempt"] for run in self.driver.state["runs"].values()), 0)

    def move(self, what: str) -> None:
        driver = self.driver
        driver.now_ms += 500
        if what in ("suspend", "resume"):
            self.sequence += 1
            command(driver, what, self.sequence)
        elif what == "pass":
            driver.now_ms += 20_000
        elif what in ("fire", "late"):
            for timer in list(driver.state["timers"]):
                driver.fire(int(timer))
                driver.now_ms += 60_000 * (what == "late")
        elif what == "overdue":
            if any(type(one) is Send for one in driver.commands):
                self.overdue()
        elif what == "old":
            old = max(self.attempt - 1, 1)  # the first attempt is no older than itself
            if sign(driver, "started", old).ignored is None:
                self.heard[old] = driver.now_ms
        elif driver.state["runs"]:
            failed = what in ("failed", "crashed")
            retry = {"retry": {**POLICY, "max_attempts": 100}}
            more = {**retry, "crash_limit": 100, "suspects": 0} if failed else {}
            if sign(driver, what, **more).ignored is None and what in ("started", "heartbeat"):
                self.heard[self.attempt] = driver.now_ms

    def overdue(self) -> None:
        driver, before = self.driver, self.attempt
        said = [one.body for one in driver.commands if type(one) is Send][-1]
        ignored = overdue(driver).ignored
        if ignored is None and driver.status != "suspended" and self.attempt != before:
            assert said["attempt"] == before
            assert said.get("heard_ms") == self.heard.get(before), "it was heard of since"


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(KEYS, st.booleans(), MOVES)
def test_whatever_comes_in_whatever_order_an_attempt_is_watched_or_over(keys, governed, moves):
    race = Race(keys, governed)
    driver = race.driver
    for what in moves:
        if not driver.terminal:
            race.move(what)
        for run in driver.state["runs"].values():
            frame = driver.state["frames"][run["frame"]]
            timers = driver.state["timers"]
            assert len(timers) <= 1, "one clock at a time"
            waits = "timer" in frame or "heard_ms" in run or "scheduleToStart" not in keys
            asked = any(type(one) is Send for one in driver.commands)
            if not asked and not waits and driver.status == "running":
                assert timers, "nobody would notice that it is not begun"
    if not driver.terminal and driver.status != "suspended" and driver.state["runs"]:
        driver.result(1, race.attempt, output="done")
        assert driver.status in ("completed", "running", "waiting")


def test_a_heartbeat_that_comes_again_after_a_crash_counts_once():
    driver = started({"c": call(**BEAT)})
    sign(driver, "started")
    driver.now_ms += 1000
    sign(driver, "heartbeat", details=1)
    driver.now_ms += 1000
    sign(driver, "heartbeat", details=2)
    driver.now_ms -= 1000
    assert sign(driver, "heartbeat", details=1).ignored == "duplicate"
    driver.now_ms += 1000
    assert sign(driver, "heartbeat", details=2).ignored == "duplicate"
    driver.failed()
    assert driver.replay() == driver.state
