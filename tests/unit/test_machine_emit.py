"""emit: what is published, and what is refused."""

import pytest

from orchestrator.dispatch import effects
from orchestrator.machine import Send
from tests.support.machine import ERRORS, Driver, define, run_through
from wf.errors import DefinitionError
from wf.jetstream import topology
from wf.protocol import cloudevents

PLACED = {"type": "com.example.placed.v1", "data": {"n": "${ .n }"}}


def emit(**properties):
    return {"emit": {"event": {"with": properties}}}


def test_the_output_is_the_event_and_the_event_is_published():
    driver = run_through(define({"tell": emit(**PLACED)}), {"n": 7})
    event = {
        "specversion": "1.0",
        "id": "i-1:1",
        "source": "/workflows/default/flow",
        "time": "1970-01-01T00:16:40.000Z",
        "type": "com.example.placed.v1",
        "data": {"n": 7},
    }
    assert driver.state["output"] == event
    (send,) = [command for command in driver.commands if isinstance(command, Send)]
    stream, message = effects.build(send.kind, driver.state, send.body, "m")
    assert stream == topology.CLOUD_EVENTS
    assert message.subject == "cloudevents.com.example.placed.v1"
    assert message.message_id == "m"
    assert cloudevents.read(message.subject, message.data, message.headers) == event


def test_events_of_one_instance_have_ids_of_their_own():
    driver = run_through(define({"a": emit(type="x")}, {"b": emit(type="x")}))
    ids = [c.body["event"]["id"] for c in driver.commands if isinstance(c, Send)]
    assert ids == ["i-1:1", "i-1:2"]
    assert driver.replay() == driver.state


def test_what_the_definition_gives_wins_over_what_would_be_filled_in():
    given = {"id": "${ .id }", "source": "https://shop", "time": "2026-01-01T00:00:00Z"}
    driver = run_through(define({"a": emit(type="x", subject="s", ext=3, **given)}), {"id": "e-1"})
    output = driver.state["output"]
    assert (output["id"], output["source"]) == ("e-1", "https://shop")
    assert (output["time"], output["subject"], output["ext"]) == ("2026-01-01T00:00:00Z", "s", 3)


@pytest.mark.parametrize(
    "properties", [{"id": "${ 5 }"}, {"time": '${ "noon" }'}, {"ext": "${ {} }"}]
)
def test_a_property_that_no_event_may_have_is_a_validation_error(properties):
    driver = Driver(define({"a": emit(type="x", **properties)}))
    driver.start()
    assert driver.state["error"]["type"] == f"{ERRORS}validation"
    assert driver.state["error"]["instance"] == "/do/0/a"
    assert not any(isinstance(command, Send) for command in driver.commands)


@pytest.mark.parametrize(
    ("task", "says"),
    [
        ({"emit": {}}, "/do/0/a/emit/event: `event` must be an object"),
        ({"emit": {"event": {}}}, "/do/0/a/emit/event/with: `with` must be an object"),
        (emit(source="/s"), "needs `type`"),
        (emit(type=5), "`type` must be a non-empty string"),
        (emit(type="x", specversion="2.0"), "must be '1.0'"),
        (emit(type="x", Subject="y"), 'did you mean "subject"'),
        (emit(type="x", ext=[]), "extension attribute"),
        (emit(type="x", subject="${ $nobody }"), "`$nobody` is not known"),
        ({"emit": {"event": {"with": {"type": "x"}, "cc": 1}}}, 'unknown key "cc"'),
    ],
)
def test_a_definition_that_cannot_be_an_event_is_refused(task, says):
    with pytest.raises(DefinitionError) as refused:
        define({"a": task})
    assert says in str(refused.value)


def test_events_within_events_end_before_nothing_can_write_them():
    """Each is small, and nests one level deeper than the one before."""
    emit = {"emit": {"event": {"with": {"type": "x", "data": "${ . }"}}}}
    driver = run_through(define({"a": emit}, {"b": {**emit, "then": "a"}}), 1)
    assert driver.status == "faulted"
    assert "nests deeper than 200 levels" in driver.state["error"]["detail"]
    assert len(driver.sent("emit")) <= 200
