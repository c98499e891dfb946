"""Lifecycle CloudEvents: what is made of which history."""

import orjson
import pytest

from orchestrator.dispatch import lifecycle_events, outbox
from orchestrator.state import commit
from orchestrator.state.commit import Commit
from tests.support.machine import Driver, define
from wf.jetstream import topology
from wf.protocol import cloudevents, subjects


def lived(driver, **more):
    """The commit that holds all that happened to the driver's instance."""
    history = [
        (now_ms, "WORKFLOW_EVENTS", n, entries, {})
        for n, (_, now_ms, entries) in enumerate(driver.log)
    ]
    return Commit(1, "t", history=history, **more)


def events(driver):
    made = lifecycle_events.messages(driver.state, lived(driver))
    return [cloudevents.read(one.subject, one.data, one.headers) for one in made]


def types(driver):
    return [event["type"].removeprefix("io.serverlessworkflow.") for event in events(driver)]


def ran():
    driver = Driver(define({"ask": {"call": "one"}}))
    driver.start({})
    driver.done({"n": 1})
    return driver


def test_a_life_is_told_in_order():
    assert types(ran()) == [
        "workflow.started.v1",
        "task.created.v1",
        "task.started.v1",
        "task.completed.v1",
        "workflow.completed.v1",
    ]


def test_the_data_are_those_of_the_specification():
    first, created, *_, last = events(ran())
    assert first["data"] == {
        "name": "flow-i-1.default",
        "definition": {"name": "flow", "namespace": "default", "version": "1.0.0"},
        "startedAt": "1970-01-01T00:16:40.000Z",
    }
    assert created["data"]["task"] == "/do/0/ask"
    assert created["data"]["workflow"] == "flow-i-1.default"
    assert last["data"]["output"] == {"n": 1}
    assert (last["subject"], last["source"]) == ("i-1", "/workflows/default/flow")


def test_every_event_has_an_id_of_its_own_and_the_same_one_again():
    driver = ran()
    ids = [event["id"] for event in events(driver)]
    assert len(ids) == len(set(ids))
    assert ids == [event["id"] for event in events(driver)]


def test_errors_suspension_and_correlation_are_told():
    one = {"with": {"type": "t"}, "correlate": {"k": {"from": ".data", "expect": "${ 5 }"}}}
    bad = {"raise": {"error": {"type": "x", "status": 400}}}
    driver = Driver(define({"hear": {"listen": {"to": {"one": one}}}}, {"bad": bad}))
    driver.start({})
    driver.command("suspend")
    driver.command("resume")
    driver.event("t", 1, 5)
    told = types(driver)
    for name in ("suspended", "resumed", "correlation-started", "correlation-completed", "faulted"):
        assert told.count(f"workflow.{name}.v1") == 1
    completed = next(e for e in events(driver) if "correlation-completed" in e["type"])
    assert completed["data"]["correlationKeys"] == {"k": 5}
    assert events(driver)[-1]["data"]["error"]["status"] == 400
    assert "task.faulted.v1" in told


ONE = {"one": {"with": {"type": "t"}}}
OPEN = {
    "call": {"call": "one"},
    "wait": {"wait": {"hours": 1}},
    "listen": {"listen": {"to": ONE}},
    "child": {"run": {"workflow": {"namespace": "default", "name": "c"}}},
    "do": {"do": [{"in": {"wait": {"hours": 1}}}]},
    "for": {"for": {"in": "[1]"}, "do": [{"in": {"wait": {"hours": 1}}}]},
    "fork": {"fork": {"branches": [{"in": {"wait": {"hours": 1}}}]}},
    "try": {"try": [{"in": {"wait": {"hours": 1}}}], "catch": {}},
}


def of_tasks(driver, phase):
    return [
        event["data"]["task"]
        for event in events(driver)
        if event["type"].endswith(f"task.{phase}.v1")
    ]


@pytest.mark.parametrize("kind", OPEN)
def test_a_task_that_is_open_is_suspended_resumed_and_cancelled_with_its_workflow(kind):
    driver = Driver(define({"t": OPEN[kind]}))
    driver.start({})
    driver.command("suspend")
    suspended = of_tasks(driver, "suspended")
    assert suspended[0] == "/do/0/t"
    driver.command("resume")
    assert of_tasks(driver, "resumed") == suspended
    driver.command("cancel")
    assert of_tasks(driver, "cancelled") == suspended
    told = [event["data"] for event in events(driver) if ".task.suspended" in event["type"]]
    assert set(told[0]) == {"workflow", "task", "suspendedAt"}
    assert driver.replay() == driver.state


@pytest.mark.parametrize("kind", OPEN)
def test_what_runs_beside_an_end_is_cancelled_and_what_is_around_it_is_not(kind):
    go = {"listen": {"to": {"one": {"with": {"type": "go"}}}}, "then": "end"}
    around = {"do": [{"g": {"fork": {"branches": [{"t": OPEN[kind]}, {"w": go}]}}}]}
    driver = Driver(define({"f": around}))
    driver.start({})
    driver.event("go", 1, listener=driver.name_of(driver.listeners[-1]))
    assert driver.status == "completed"
    cancelled = of_tasks(driver, "cancelled")
    assert cancelled
    assert all("/branches/0/t" in task for task in cancelled)


def test_a_fault_beside_open_tasks_cancels_them():
    beside = {"fork": {"branches": [{"w": {"wait": {"hours": 1}}}, {"x": {"call": "one"}}]}}
    driver = Driver(define({"f": beside}))
    driver.start({})
    driver.failed(retryable=False)
    assert driver.status == "faulted"
    assert of_tasks(driver, "cancelled") == ["/do/0/f/fork/branches/0/w"]


def test_a_commit_that_was_stored_gives_the_same_events_as_the_one_that_was_made():
    driver = ran()
    made = lived(driver, lifecycle=True)
    encoded = [(*one[:3], orjson.Fragment(orjson.dumps(one[3])), one[4]) for one in made.history]
    fresh = Commit(1, "t", history=encoded, lifecycle=True)
    value = commit.encode(driver.state, fresh)
    stored = commit.decode(commit.Stored(subjects.state("i-1"), value, None, 1, 1)).commit
    wanted = lifecycle_events.messages(driver.state, made)
    assert lifecycle_events.messages(driver.state, fresh) == wanted
    assert lifecycle_events.messages(driver.state, stored) == wanted
    assert stored.lifecycle


def test_without_the_setting_nothing_is_published():
    driver = ran()
    given = [event for event, _, _ in driver.log]
    assert topology.CLOUD_EVENTS not in outbox.build(driver.state, lived(driver), given).streams
    told = outbox.build(driver.state, lived(driver, lifecycle=True), given).streams
    assert len(told[topology.CLOUD_EVENTS]) == 5
