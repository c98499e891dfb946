"""Instances that wait for a place among those of their workflow that may run at once."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.definition import parse
from orchestrator.machine.calls.child_workflow import CANCEL_CHILD
from orchestrator.machine.kernel.concurrency_slot import LEAVE_PLACE, TAKE_PLACE
from tests.support.machine import ERRORS, HEADER, Driver, define
from wf.errors import DefinitionError

CALL = {"work": {"call": "work"}}


def limited(*tasks: dict[str, Any], key: Any = "${ .customer }", **more: Any) -> Any:
    wf: dict[str, Any] = {"concurrency": 2}
    if key is not None:
        wf["concurrencyKey"] = key
    document = {**HEADER, "metadata": {"wf": wf}}
    return parse({"document": document, "do": list(tasks or [CALL]), **more}, registered=True)


def begun(definition: Any = None, input: Any = None) -> Driver:
    driver = Driver(definition or limited())
    driver.start({"customer": "acme"} if input is None else input)
    return driver


def place(driver: Driver, turn: int = 1) -> None:
    driver.feed({"kind": "place", "turn": turn, "entry": "…"})


def keys(driver: Driver, kind: str) -> list[str]:
    return [body["key"] for body in driver.sent(kind)]


def test_it_stands_in_line_before_it_begins() -> None:
    driver = begun()
    assert driver.status == "pending"
    assert driver.types() == ["instance.created", "place.requested"]
    slot = driver.state["slot"]
    assert (slot["key"], slot["turn"], slot["state"]) == ("acme", 1, "waiting")
    assert keys(driver, TAKE_PLACE) == [f"{slot['row']}.i-1.1"]
    assert slot["row"].startswith("default.flow.")
    assert not driver.state["runs"]
    place(driver)
    assert driver.types()[:2] == ["place.taken", "instance.started"]
    assert driver.status == "running"
    driver.done("x")
    assert driver.status == "completed"
    assert driver.state["slot"]["state"] == "released"
    assert keys(driver, LEAVE_PLACE) == keys(driver, TAKE_PLACE)
    assert driver.replay() == driver.state


def test_equal_keys_make_one_row_and_others_another() -> None:
    def row(input: Any, key: Any = "${ .customer }") -> str:
        found: str = begun(limited(key=key), input).state["slot"]["row"]
        return found

    assert row({"customer": "a"}) == row({"customer": "a", "more": 1})
    assert row({"customer": "a"}) != row({"customer": "b"})
    assert row({"customer": 1}) == row({"customer": 1.0})
    assert row({"customer": 1}) != row({"customer": "1"})
    both = {"who": "${ .customer }", "where": "${ .region }"}
    assert row({"customer": 1, "region": 2}, both) != row({"customer": 1, "region": 3}, both)
    assert row({"customer": 1}, None) == row({"customer": 2}, None) == "default.flow.all"
    assert "key" not in begun(limited(key=None)).state["slot"]


def test_a_place_counts_once_and_only_for_its_turn() -> None:
    driver = begun()
    place(driver, 2)
    assert driver.last.ignored == "late"
    driver.feed({"kind": "place", "turn": "1"})
    assert driver.last.ignored == "malformed"
    place(driver)
    place(driver)
    assert driver.last.ignored == "duplicate"
    unlimited = Driver(define(CALL))
    unlimited.start({})
    place(unlimited)
    assert unlimited.last.ignored == "late"
    driver.done(1)
    place(driver)
    assert driver.last.ignored == "terminal"


def test_the_input_is_checked_and_the_key_evaluated_before() -> None:
    schema = {"schema": {"document": {"type": "object", "required": ["n"]}}}
    driver = begun(limited(input=schema))
    assert driver.state["error"]["type"] == f"{ERRORS}validation"
    assert "slot" not in driver.state
    assert not driver.sent(TAKE_PLACE)
    broken = begun(limited(key="${ .customer.name }"))
    assert broken.status == "faulted"
    assert broken.state["error"]["instance"] == "/document/metadata/wf/concurrencyKey"
    large = begun(input={"customer": "x" * 2000})
    assert "1024 are possible" in large.state["error"]["detail"]
    late = begun(limited(input={"from": "${ .customer.name }"}))
    assert late.status == "pending"
    place(late)
    assert late.state["error"]["instance"] == "/input/from"
    assert keys(late, LEAVE_PLACE) == keys(late, TAKE_PLACE)


def test_the_deadline_begins_with_the_place() -> None:
    driver = begun(limited(timeout={"after": {"seconds": 5}}))
    assert not driver.state["timers"]
    driver.now_ms += 60_000
    place(driver)
    assert driver.state["timers"]["1"]["due_ms"] == driver.now_ms + 5000


def test_one_that_is_cancelled_gives_its_turn_up() -> None:
    driver = begun()
    driver.command("cancel")
    assert driver.status == "cancelled"
    assert keys(driver, LEAVE_PLACE) == keys(driver, TAKE_PLACE)
    assert driver.types() == ["place.released", "instance.cancelled"]


def test_a_place_that_comes_while_it_is_suspended_is_kept() -> None:
    driver = begun()
    driver.command("suspend")
    assert driver.status == "suspended"
    driver.command("resume")
    assert driver.status == "pending"
    driver.command("suspend")
    place(driver)
    assert driver.types() == ["place.held"]
    place(driver)
    assert driver.last.ignored == "duplicate"
    driver.command("resume")
    assert driver.status == "running"
    driver.command("suspend")
    assert driver.state["slot"]["state"] == "held"
    assert not driver.sent(LEAVE_PLACE)
    assert driver.replay() == driver.state


def test_a_retry_stands_in_line_again_and_goes_on_where_it_failed() -> None:
    driver = begun(limited({"first": {"call": "first"}}, CALL))
    place(driver)
    driver.done(1)
    driver.failed(retryable=False)
    assert driver.status == "faulted"
    driver.command("retry")
    assert driver.status == "pending"
    assert driver.state["slot"]["turn"] == 2
    assert "error" not in driver.state
    assert "ended_ms" not in driver.state
    place(driver, 1)
    assert driver.last.ignored == "late"
    driver.command("retry")
    assert driver.last.ignored == "not faulted"
    place(driver, 2)
    assert "instance.retried" in driver.types()
    assert [run["activity"] for run in driver.state["runs"].values()] == ["work"]
    driver.done(2)
    assert driver.status == "completed"
    assert keys(driver, LEAVE_PLACE) == keys(driver, TAKE_PLACE)
    assert len(keys(driver, TAKE_PLACE)) == 2
    assert driver.replay() == driver.state


def test_a_retry_that_is_cancelled_while_it_waits_leaves_nothing() -> None:
    driver = begun()
    place(driver)
    driver.failed(retryable=False)
    driver.command("retry")
    driver.command("cancel")
    assert driver.status == "cancelled"
    assert "failed" not in driver.state
    assert "retry" not in driver.state["slot"]
    assert driver.replay() == driver.state


def test_a_retry_from_a_named_task_keeps_what_it_was_told() -> None:
    driver = begun()
    place(driver)
    driver.failed(retryable=False)
    driver.command("retry", **{"from": "/do/0/work", "input": 7})
    place(driver, 2)
    ((_, run),) = driver.state["runs"].items()
    assert run["input"] == 7


def test_a_child_that_waits_is_cancelled_with_its_parent() -> None:
    run = {"run": {"workflow": {"namespace": "default", "name": "other"}}}
    driver = begun(limited({"ask": run}))
    assert not driver.sent(CANCEL_CHILD)
    place(driver)
    driver.command("cancel")
    assert len(driver.sent(CANCEL_CHILD)) == 1
    assert keys(driver, LEAVE_PLACE) == keys(driver, TAKE_PLACE)


@pytest.mark.parametrize(
    ("wf", "text"),
    [
        ({"concurrency": 0}, "/document/metadata/wf/concurrency: `concurrency` must be"),
        ({"concurrency": "2"}, "/document/metadata/wf/concurrency: `concurrency` must be"),
        ({"concurrency": {"limit": 2}}, "must be an integer from 1 up, found an object"),
        ({"concurrencyKey": "${ .a }"}, "without `concurrency`"),
        ({"concurrency": 1, "concurrencyKey": 5}, "/concurrencyKey: must be an expression"),
        ({"concurrency": 1, "concurrencyKey": "${ $context.a }"}, "`$context` is not known here"),
        ({"concurrency": 1, "concurency": 1}, "concurency"),
    ],
)
def test_what_is_wrong_is_refused(wf: dict[str, Any], text: str) -> None:
    with pytest.raises(DefinitionError) as refusal:
        parse({"document": {**HEADER, "metadata": {"wf": wf}}, "do": [CALL]})
    assert text in str(refusal.value)
