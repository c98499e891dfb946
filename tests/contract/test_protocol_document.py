"""The examples of docs/protocol.md are what the builders make, byte for byte."""

import json
import re
from pathlib import Path

import pytest

from orchestrator.machine.events.trigger_sets import identity
from tests.support import protocol_schemas
from wf.jetstream.cloud_event_message import cloud_event_message
from wf.protocol import messages
from wf.protocol.ids import child_id

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "protocol.md").read_text()
EXAMPLES = dict(re.findall(r"^```json (\w+)\n(.*)\n```$", TEXT, flags=re.MULTILINE))

RETRY = {
    "max_attempts": 3,
    "delay_s": 0.5,
    "backoff": "exponential",
    "max_delay_s": 60.0,
    "jitter": 0.1,
}
ERROR = {
    "type": "https://open-workflow-specification.org/spec/1.0.0/errors/runtime",
    "status": 500,
    "title": "ConnectionError",
    "detail": "no answer",
}
PLACED = {"specversion": "1.0", "id": "1", "source": "/shop", "type": "order.placed"}
BUILT = {
    "collection": messages.collection_body(
        seen=[[17, identity(PLACED)]],
        open=[{"values": {"order": 4711}, "events": {"0": [17, PLACED]}}],
        done=[],
    ),
    "start": messages.start_body(instance="order-4711", input={"order_id": 4711}, version="1.0.0"),
    "task": messages.task_body(
        instance="order-4711",
        workflow="order",
        version="1.0.0",
        run=2,
        attempt=1,
        pointer="/do/4/pay/try/0/charge",
        input={"card": "4242"},
    ),
    "completed": messages.completed_body(run=2, attempt=1, output={"payment": "P-1"}),
    "failed": messages.failed_body(run=2, attempt=1, outcome="failed", error=ERROR, retry=RETRY),
    "crashed": messages.failed_body(
        run=2,
        attempt=1,
        outcome="crashed",
        error=ERROR,
        crash_limit=3,
        suspects=2,
        evidence={"signal": "SIGKILL"},
    ),
    "watched": messages.task_body(
        instance="order-4711",
        workflow="order",
        version="1.0.0",
        run=2,
        attempt=3,
        pointer="/do/4/pay",
        input={},
        liveness={"start_by_ms": 1763716532123, "heartbeat_ms": 10000, "details": {"page": 7}},
    ),
    "started": messages.sign_body(run=2, attempt=3, outcome="started", retry=RETRY),
    "heartbeat": messages.sign_body(run=2, attempt=3, outcome="heartbeat", details={"page": 8}),
    "command": messages.command_body(reason="customer called"),
    "retry": messages.command_body(
        reason="mended", **{"from": "/do/3/reserve", "input": {"order_id": 4711}}
    ),
    "place": messages.place_body(),
    "admit": messages.admit_body(
        turn=1, entry="default.order.9f86d081884c7d659a2feaa0.order-4711.1"
    ),
    "signal": messages.signal_body(data={"approved": True}),
    "child_start": messages.start_body(
        instance=child_id("order-4711", 3),
        input={"weight": 2},
        parent={"id": "order-4711", "run": 3, "awaited": True},
        depth=1,
    ),
    "child": messages.child_body(
        child=child_id("order-4711", 3), status="completed", output={"parcel": 7}
    ),
    "matched": messages.matched_body(
        event={"specversion": "1.0", "id": "1", "source": "/shop", "type": "com.example.paid"},
        sequence=17,
        time_ms=1763716502123,
        entry="com.example.paid.9f86d081884c7d659a2feaa0.order-4711.12",
    ),
    "listener": messages.listener_body(from_ms=1763716502123, correlate=[("order", ".data.order")]),
    "worker": messages.worker_body(
        host="mars",
        name="mars-4711",
        pid=4711,
        started_ms=1763716502123,
        written_ms=1763716512123,
        activities={"charge_card": {"running": 2, "concurrency": 4}},
    ),
    "timer": messages.timer_body(timer=3),
    "schedule": messages.schedule_body(schedule="every 1h", due_ms=1_763_719_200_000),
}


EVENT = {
    "specversion": "1.0",
    "id": "order-4711:1",
    "source": "/workflows/default/order",
    "time": "2026-01-31T12:00:00.000Z",
    "type": "com.example.order.placed.v1",
    "data": {"order": 4711},
}


def test_a_cloud_event_is_what_the_builder_makes():
    message = cloud_event_message(EVENT, "id")
    assert EXAMPLES["cloudevent"] == message.data.decode()
    assert message.subject == "cloudevents.com.example.order.placed.v1"


@pytest.mark.parametrize("name", BUILT)
def test_an_example_is_what_the_builder_makes(name):
    assert EXAMPLES[name] == messages.encode(BUILT[name]).decode()


def test_every_example_is_tested_and_of_this_version():
    assert set(EXAMPLES) == {*BUILT, "cloudevent"}
    for block in re.findall(r"^ *```json.*\n(.*)\n *```$", TEXT, flags=re.MULTILINE):
        body = json.loads(block)
        assert "specversion" in body or body["v"] == messages.VERSION


def test_every_outcome_is_explained():
    for outcome in messages.OUTCOMES | messages.SIGNS:
        assert f"`{outcome}`" in TEXT


# The name of an example → the body that the published schemas have for it.
SCHEMAS = {
    "child_start": "start",
    "watched": "task",
    "completed": "result",
    "failed": "result",
    "crashed": "result",
    "started": "result",
    "heartbeat": "result",
    "retry": "command",
    "cloudevent": "cloud_event",
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_as_its_schema_says(name):
    validator = protocol_schemas.validator(SCHEMAS.get(name, name))
    assert [wrong.message for wrong in validator.iter_errors(json.loads(EXAMPLES[name]))] == []


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("start", {"v": 2}),
        ("start", {"v": True}),
        ("start", {"id": "a.b"}),
        ("start", {"depth": "1"}),
        ("task", {"run": 0}),
        ("completed", {"outcome": "done"}),
        ("failed", {"error": "no"}),
        ("command", {"reason": 7}),
        ("child", {"status": "over"}),
    ],
)
def test_a_schema_refuses_what_the_engine_refuses(name, change):
    body = {**json.loads(EXAMPLES[name]), **change}
    assert not protocol_schemas.validator(SCHEMAS.get(name, name)).is_valid(body)
