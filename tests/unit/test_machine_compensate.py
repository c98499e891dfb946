"""compensate: what was done is undone, the latest first, when the instance ends badly."""

from typing import Any

import pytest

from orchestrator.definition import parse
from orchestrator.machine import DEFAULT_LIMITS
from orchestrator.machine.kernel.commands import DeadLetter
from tests.support.machine import HEADER, Driver, define
from wf.errors import DefinitionError

Json = dict[str, Any]


def undone_by(*tasks: Json) -> Json:
    return {"wf": {"compensate": list(tasks)}}


def call(name: str, undo: str | None = None, **more: Any) -> Json:
    """{name: a call of the activity `name`, undone by `undo`, which gets what it gave}."""
    task: Json = {"call": name, **more}
    if undo is not None:
        task["metadata"] = undone_by({"undo": {"call": undo, "with": {"of": "${ . }"}}})
    return {name: task}


TRIP = (
    call("flight", "cancel_flight"),
    call("hotel", "cancel_hotel"),
    call("car"),
)


def activity(driver: Driver) -> str:
    name: str = driver.state["runs"][str(driver.only_run)]["activity"]
    return name


def given(driver: Driver) -> Any:
    return driver.state["runs"][str(driver.only_run)]["input"]


def letters(driver: Driver) -> list[DeadLetter]:
    return [command for command in driver.commands if isinstance(command, DeadLetter)]


def broken(driver: Driver, **more: Any) -> None:
    driver.failed(retryable=False, **more)


def trip() -> Driver:
    driver = Driver(define(*TRIP))
    driver.start({})
    driver.done("F1")
    driver.done("H1")
    return driver


def test_a_fault_undoes_what_was_done_in_reverse() -> None:
    driver = trip()
    broken(driver)
    assert driver.status == "compensating"
    assert (activity(driver), given(driver)) == ("cancel_hotel", {"of": "H1"})
    driver.done(None)
    assert (activity(driver), given(driver)) == ("cancel_flight", {"of": "F1"})
    driver.done(None)
    assert driver.status == "faulted"
    assert driver.state["error"]["instance"] == "/do/2/car"
    assert driver.state["compensated"] == {"done": 2, "failed": []}
    assert not {"compensations", "ending"} & driver.state.keys()
    assert driver.replay() == driver.snapshot


def test_the_fault_is_known_while_it_is_being_undone() -> None:
    driver = trip()
    broken(driver)
    assert driver.state["ending"]["status"] == "faulted"
    assert driver.state["ending"]["error"]["status"] == 503
    assert "instance.compensating" in driver.types()


def test_a_cancelled_instance_undoes_too() -> None:
    driver = Driver(define(call("flight", "cancel_flight"), {"think": {"wait": "PT1H"}}))
    driver.start({})
    driver.done("F1")
    driver.command("cancel", reason="changed my mind")
    assert (driver.status, activity(driver)) == ("compensating", "cancel_flight")
    driver.done(None)
    assert (driver.status, driver.state["reason"]) == ("cancelled", "changed my mind")


def test_nothing_is_undone_when_all_goes_well() -> None:
    driver = trip()
    driver.done("C1")
    assert driver.status == "completed"
    assert not {"compensations", "compensated"} & driver.state.keys()


def test_a_task_that_was_skipped_or_has_failed_is_not_undone() -> None:
    skipped = {"skipped": {**call("a", "undo_a")["a"], "if": "false"}}
    driver = Driver(define(skipped, call("b", "undo_b")))
    driver.start({})
    broken(driver)
    assert driver.status == "faulted"
    assert "compensated" not in driver.state


def test_the_workflows_own_deadline_undoes_and_does_not_limit_that() -> None:
    definition = define(call("a", "undo_a"), call("b"), timeout={"after": "PT10S"})
    driver = Driver(definition)
    driver.start({})
    driver.done(1)
    driver.fire()
    assert (driver.status, activity(driver), driver.state["timers"]) == (
        "compensating",
        "undo_a",
        {},
    )
    driver.done(None)
    assert (driver.status, driver.state["error"]["status"]) == ("faulted", 408)


def test_one_that_fails_is_set_aside_and_the_others_go_on() -> None:
    driver = trip()
    broken(driver)
    broken(driver, error={"title": "No such room"})
    assert activity(driver) == "cancel_flight"
    (letter,) = letters(driver)
    assert (letter.kind, letter.name) == ("uncompensated", "flow")
    place = "/do/1/hotel/metadata/wf/compensate"
    assert letter.evidence["pointer"] == place
    assert letter.evidence["error"]["title"] == "No such room"
    driver.done(None)
    assert driver.status == "faulted"
    assert driver.state["compensated"] == {"done": 1, "failed": [place]}
    assert driver.state["error"]["instance"] == "/do/2/car"  # what began it all


def test_what_undoes_may_retry_wait_and_branch() -> None:
    undo = undone_by(
        {"later": {"wait": "PT5S"}},
        {
            "insist": {
                "try": [{"give_back": {"call": "refund"}}],
                "catch": {"retry": {"limit": {"attempt": {"count": 2}}}},
            }
        },
    )
    driver = Driver(define({"pay": {"call": "pay", "metadata": undo}}, call("ship")))
    driver.start({})
    driver.done(1)
    broken(driver)
    assert driver.status == "compensating"
    driver.fire()
    driver.failed()
    assert activity(driver) == "refund"
    driver.done(None)
    assert driver.state["compensated"] == {"done": 1, "failed": []}


def test_end_in_a_list_ends_only_that_list() -> None:
    undo = undone_by({"a": {"set": {}, "then": "end"}}, {"b": {"call": "never"}})
    definition = parse(
        {
            "document": HEADER,
            "do": [
                call("first", "undo_first"),
                {"second": {"call": "second", "metadata": undo}},
                call("third"),
            ],
        },
        registered=True,
    )
    driver = Driver(definition)
    driver.start({})
    driver.done(1)
    driver.done(2)
    broken(driver)
    assert activity(driver) == "undo_first"


def test_the_list_sees_the_task_and_what_was_around_it() -> None:
    undo = undone_by(
        {"undo": {"call": "undo", "with": {"n": "${ $item }", "was": "${ $compensated }"}}}
    )
    loop = {
        "each": {
            "for": {"in": ".items"},
            "do": [{"a": {"call": "a", "with": {"x": 1}, "metadata": undo}}],
        }
    }
    driver = Driver(define(loop, call("b")))
    driver.start({"items": ["p", "q"]})
    driver.done({"ok": 1})
    driver.done({"ok": 2})
    broken(driver)
    was = {"name": "a", "reference": "/do/0/each/do/0/a", "input": {"ok": 1}}
    assert given(driver) == {"n": "q", "was": was}
    driver.done(None)
    assert given(driver)["n"] == "p"
    driver.done(None)
    assert driver.state["compensated"]["done"] == 2


def test_a_task_that_its_try_repeats_is_undone_once() -> None:
    block = [call("a", "undo_a"), call("b")]
    retry = {"retry": {"limit": {"attempt": {"count": 3}}}}
    driver = Driver(define({"try_it": {"try": block, "catch": retry}}))
    driver.start({})
    for attempt in range(3):
        driver.done(f"A{attempt}")
        driver.failed()
    assert (activity(driver), given(driver)) == ("undo_a", {"of": "A2"})
    driver.done(None)
    assert (driver.status, driver.state["compensated"]["done"]) == ("faulted", 1)


def test_what_an_earlier_attempt_has_done_and_the_last_one_has_not_is_undone() -> None:
    block = [call("a", "undo_a"), call("b", "undo_b"), call("c")]
    retry = {"retry": {"limit": {"attempt": {"count": 2}}}}
    driver = Driver(define({"try_it": {"try": block, "catch": retry}}))
    driver.start({})
    driver.done("A1")
    driver.done("B1")
    driver.failed()
    driver.done("A2")
    driver.failed()
    undone = []
    while driver.status == "compensating":
        undone.append(given(driver)["of"])
        driver.done(None)
    assert undone == ["A2", "B1"]


def test_a_task_that_a_jump_repeats_is_undone_as_often() -> None:
    definition = define(
        call("a", "undo_a"),
        {"again": {"switch": [{"more": {"when": ". < 3", "then": "a"}}, {"no": {"then": "b"}}]}},
        call("b"),
    )
    driver = Driver(definition)
    driver.start(0)
    for number in (1, 2, 3):
        driver.done(number)
    broken(driver)
    undone = []
    while driver.status == "compensating":
        undone.append(given(driver)["of"])
        driver.done(None)
    assert undone == [3, 2, 1]


# --- calls that are at work when it ends ----------------------------------------------------------


FORK = {
    "both": {
        "fork": {
            "branches": [
                {"pays": {"do": [call("pay", "refund", export={"as": "${ {paid: .} }"})]}},
                {"packs": {"do": [call("pack")]}},
            ]
        }
    }
}


def test_a_call_at_work_is_awaited_and_then_undone() -> None:
    driver = Driver(define(call("reserve", "release"), FORK))
    driver.start({})
    driver.done("R")
    pay, pack = sorted(driver.state["runs"], key=int)
    broken(driver, run=int(pack))
    assert driver.status == "compensating"
    assert list(driver.state["runs"]) == [pay]
    driver.done("P1", int(pay))
    assert (activity(driver), given(driver)) == ("refund", {"of": "P1"})
    driver.done(None)
    assert activity(driver) == "release"
    driver.done(None)
    assert (driver.status, driver.state["compensated"]["done"]) == ("faulted", 2)
    assert driver.replay() == driver.snapshot


def test_a_call_at_work_that_fails_has_nothing_to_be_undone() -> None:
    driver = Driver(define(FORK))
    driver.start({})
    pay, pack = (int(run) for run in sorted(driver.state["runs"], key=int))
    broken(driver, run=pack)
    broken(driver, run=pay)
    assert (driver.status, driver.state["compensated"]) == ("faulted", {"done": 0, "failed": []})


def test_a_call_at_work_whose_worker_dies_is_run_again_to_know() -> None:
    driver = Driver(define(call("pay", "refund")))
    driver.start({})
    driver.command("cancel")
    assert driver.status == "compensating"
    driver.result(driver.only_run, outcome="crashed")
    driver.done("P1")
    assert activity(driver) == "refund"
    driver.done(None)
    assert driver.status == "cancelled"


def test_a_call_at_work_keeps_its_deadline() -> None:
    driver = Driver(define({"pay": {**call("pay", "refund")["pay"], "timeout": {"after": "PT9S"}}}))
    driver.start({})
    driver.command("cancel")
    assert driver.status == "compensating"
    driver.fire()
    assert driver.status == "cancelled"


def test_a_call_whose_next_attempt_is_put_off_has_failed() -> None:
    driver = Driver(define(call("pay", "refund")))
    driver.start({})
    driver.failed(retry={"max_attempts": 3, "delay_s": 60})
    driver.command("cancel")
    assert driver.status == "cancelled"


# --- commands and faults meanwhile ----------------------------------------------------------------


def test_cancel_once_more_does_not_stop_it() -> None:
    driver = trip()
    driver.command("cancel")
    assert driver.status == "compensating"
    driver.done("C", 3)  # car, which has nothing to undo, is not awaited: late
    assert driver.last.ignored == "late"
    driver.command("cancel")
    assert driver.types() == ["command.redundant"]
    assert driver.status == "compensating"
    driver.done(None)
    driver.done(None)
    assert driver.status == "cancelled"


def test_a_fault_stays_one_when_it_is_cancelled_meanwhile() -> None:
    driver = trip()
    broken(driver)
    driver.command("cancel")
    driver.done(None)
    driver.done(None)
    assert driver.status == "faulted"


def test_cancel_now_ends_it_and_sets_aside_what_is_left() -> None:
    driver = trip()
    driver.command("cancel")
    driver.command("cancel", now=True, reason="the hotel is closed")
    assert driver.status == "cancelled"
    assert [letter.evidence["pointer"] for letter in letters(driver)] == [
        "/do/1/hotel/metadata/wf/compensate",
        "/do/0/flight/metadata/wf/compensate",
    ]
    assert [letter.evidence["input"] for letter in letters(driver)] == ["H1", "F1"]


def test_cancel_now_before_anything_is_undone() -> None:
    driver = trip()
    driver.command("cancel", now=True)
    assert driver.status == "cancelled"
    assert len(letters(driver)) == 2
    assert driver.state["compensated"]["done"] == 0
    assert len(driver.state["compensated"]["failed"]) == 2


def test_suspended_while_it_is_undone() -> None:
    driver = trip()
    broken(driver)
    driver.command("suspend")
    assert driver.status == "suspended"
    driver.done(None)
    assert driver.status == "suspended"
    driver.command("resume")
    assert (driver.status, activity(driver)) == ("compensating", "cancel_flight")


def test_what_was_held_counts_when_a_suspended_instance_is_cancelled() -> None:
    driver = Driver(define(call("pay", "refund"), call("ship")))
    driver.start({})
    driver.command("suspend")
    driver.done("P1")
    driver.command("cancel")
    assert (driver.status, activity(driver), given(driver)) == (
        "compensating",
        "refund",
        {"of": "P1"},
    )


def test_a_fault_of_the_whole_instance_ends_it_with_what_is_left_set_aside() -> None:
    driver = trip()
    broken(driver)
    driver.feed({"kind": "fault", "error": {"title": "Engine error"}})
    assert driver.status == "faulted"
    assert driver.state["error"]["status"] == 503
    assert len(letters(driver)) == 2


def test_a_list_that_never_ends_does_not_hold_up_the_engine() -> None:
    undo = undone_by({"a": {"set": {}}}, {"b": {"set": {}, "then": "a"}})
    limits = DEFAULT_LIMITS._replace(max_steps=200, max_jumps=10_000)
    definition = define(
        call("first", "undo_first"), {"second": {"call": "s", "metadata": undo}}, call("third")
    )
    driver = Driver(definition, limits)
    driver.start({})
    driver.done(1)
    driver.done(2)
    broken(driver)
    assert driver.status == "faulted"
    assert len(letters(driver)) == 2


def test_too_many_steps_are_undone_too() -> None:
    limits = DEFAULT_LIMITS._replace(max_steps=200, max_jumps=10_000)
    driver = Driver(
        define(call("a", "undo_a"), {"b": {"set": {}}}, {"c": {"set": {}, "then": "b"}}), limits
    )
    driver.start({})
    driver.done(1)
    assert (driver.status, activity(driver)) == ("compensating", "undo_a")


def test_without_its_definition_it_is_kept_for_a_retry() -> None:
    driver = trip()
    known, driver.definition = driver.definition, None
    driver.feed({"kind": "fault", "error": {"title": "Definition lost"}})
    assert driver.status == "faulted"
    driver.definition = known
    driver.command("retry")
    assert (driver.status, activity(driver)) == ("running", "car")
    broken(driver)
    assert activity(driver) == "cancel_hotel"


def test_what_has_been_undone_is_not_retried() -> None:
    driver = trip()
    broken(driver)
    driver.done(None)
    driver.done(None)
    driver.command("retry", **{"from": "/do/0/flight", "input": {}})
    assert driver.last.ignored == "compensated"


def test_a_child_tells_its_parent_when_it_has_undone() -> None:
    driver = Driver(define(call("a", "undo_a"), call("b")))
    driver.start({}, parent={"id": "p", "run": 1, "awaited": True})
    driver.done(1)
    broken(driver)
    assert driver.sent("child-ended") == []
    driver.done(None)
    assert [body["status"] for body in driver.sent("child-ended")] == ["faulted"]


def test_thousands_are_undone_in_order_and_kept_in_groups() -> None:
    undo = undone_by({"undo": {"set": {"n": "${ . }"}}})
    loop = {
        "each": {
            "for": {"in": "[range(300)]"},
            "do": [{"a": {"set": "${ $item }", "metadata": undo}}],
        }
    }
    driver = Driver(define(loop, call("b")))
    driver.start({})
    sizes = [len(group["todo"]) for group in driver.state["compensations"].values()]
    assert sizes == [64, 64, 64, 64, 44]
    broken(driver)
    assert driver.state["compensated"] == {"done": 300, "failed": []}


@pytest.mark.parametrize(
    ("tasks", "place", "words"),
    [
        (
            [{"a": {"set": {}, "metadata": {"wf": {"compensate": {}}}}}],
            "/do/0/a/metadata/wf/compensate",
            "list of tasks",
        ),
        (
            [{"a": {"set": {}, "metadata": undone_by({"b": {"cal": "x"}})}}],
            "/do/0/a/metadata/wf/compensate/0/b",
            "cal",
        ),
        (
            [
                {
                    "a": {
                        "set": {},
                        "metadata": undone_by(
                            {"b": {"set": {}, "metadata": undone_by({"c": {"set": {}}})}}
                        ),
                    }
                }
            ],
            "/do/0/a/metadata/wf/compensate/0/b/metadata/wf/compensate",
            "leave `compensate` out",
        ),
        (
            [
                {
                    "a": {
                        "set": {},
                        "metadata": undone_by(
                            {"b": {"set": {}, "then": "end"}}, {"c": {"set": {}}}
                        ),
                    }
                }
            ],
            "/do/0/a/metadata/wf/compensate/1/c",
            "never be reached",
        ),
        (
            [
                {
                    "a": {"set": {}},
                },
                {"b": {"set": {"x": "${ $compensated }"}}},
            ],
            "/do/1/b/set/x",
            "compensated",
        ),
    ],
)
def test_problems_of_the_list_are_told(tasks: list[Json], place: str, words: str) -> None:
    with pytest.raises(DefinitionError) as refused:
        parse({"document": HEADER, "do": tasks})
    found = [p for p in refused.value.problems if place in str(p)]
    assert any(words in str(problem) for problem in found), refused.value.problems
