"""Lifecycle CloudEvents: what is made of which history."""

import orjson

from orchestrator import lifecycle, outbox, record
from orchestrator.record import Commit
from tests.support.machine import Driver, define
from wf import cloudevents
from wf.jetstream import topology


def lived(driver, **more):
    """The commit that holds all that happened to the driver's instance."""
    history = [
        (now_ms, "WORKFLOW_EVENTS", n, entries, {})
        for n, (_, now_ms, entries) in enumerate(driver.log)
    ]
    return Commit(1, "t", history=history, **more)


def events(driver):
    made = lifecycle.messages(driver.state, lived(driver))
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
    assert first["data"] == {"name": "flow-i-1.default", "startedAt": "1970-01-01T00:16:40.000Z"}
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


def test_a_commit_that_was_stored_gives_the_same_events_as_the_one_that_was_made():
    driver = ran()
    made = lived(driver, lifecycle=True)
    encoded = [(*one[:3], orjson.Fragment(orjson.dumps(one[3])), one[4]) for one in made.history]
    fresh = Commit(1, "t", history=encoded, lifecycle=True)
    value = record.encode(driver.state, fresh)
    stored = record.decode(record.Stored("s", value, None, 1, 1)).commit
    wanted = lifecycle.messages(driver.state, made)
    assert lifecycle.messages(driver.state, fresh) == wanted
    assert lifecycle.messages(driver.state, stored) == wanted
    assert stored.lifecycle


def test_without_the_setting_nothing_is_published():
    driver = ran()
    given = [event for event, _, _ in driver.log]
    assert topology.CLOUD_EVENTS not in outbox.build(driver.state, lived(driver), given).streams
    told = outbox.build(driver.state, lived(driver, lifecycle=True), given).streams
    assert len(told[topology.CLOUD_EVENTS]) == 5
