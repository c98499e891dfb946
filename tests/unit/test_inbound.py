"""Messages become machine events; what breaks the protocol is told apart."""

import orjson
import pytest

from orchestrator.ingest.messages_in import Item, Unreadable, listener_key, read, to_event
from wf.errors import MessageError
from wf.jetstream.port import Delivery
from wf.protocol import messages


def delivery(subject: str, body: object) -> Delivery:
    return Delivery("S", "c", subject, orjson.dumps(body), None, 5, 1, 1_700_000_000_000, 0, "")


def test_a_result_carries_the_activity_of_its_subject() -> None:
    body = {"v": 1, "run": 3, "attempt": 1, "outcome": "completed", "output": 9}
    item = read(delivery("workflow.activity.completed.o-1.pay.11", body))
    assert isinstance(item, Item)
    assert item.instance == "o-1"
    assert item.event == {
        "kind": "result",
        "activity": "pay",
        "run": 3,
        "attempt": 1,
        "outcome": "completed",
        "output": 9,
    }


def test_a_start_without_an_id_always_gets_the_same_one() -> None:
    first = read(delivery("workflow.start.order", {"v": 1, "input": {}}))
    again = read(delivery("workflow.start.order", {"v": 1, "input": {}}))
    assert isinstance(first, Item)
    assert isinstance(again, Item)
    assert first.instance == again.instance
    assert len(first.instance) == 26


def test_a_start_outside_the_default_namespace_names_it_in_its_subject() -> None:
    item = read(delivery("workflow.start.sales.order", {"v": 1, "id": "x", "input": 1}))
    assert isinstance(item, Item)
    assert (item.event["namespace"], item.event["workflow"]) == ("sales", "order")


def test_a_command_carries_its_sequence() -> None:
    _, event = to_event("workflow.command.requested.o-1.cancel", b'{"v":1}', 77, 0)
    assert event == {"kind": "command", "verb": "cancel", "sequence": 77}


def test_a_timer_is_known_by_its_subject_alone() -> None:
    assert to_event("workflow.timer.fired.o-1.5", b"", 1, 0) == (
        "o-1",
        {"kind": "timer", "timer": 5},
    )


def test_a_result_that_breaks_the_protocol_fails_the_run_that_it_names() -> None:
    body = {"v": 1, "run": 3, "attempt": 2, "outcome": ["fine"], "error": 7}
    item = read(delivery("workflow.activity.completed.o.pay", body))
    assert isinstance(item, Item)
    assert item.instance == "o"
    event = item.event
    assert (event["run"], event["attempt"], event["outcome"]) == (3, 2, "failed")
    assert event["error"]["title"] == "Unreadable result"


@pytest.mark.parametrize(
    ("subject", "body"),
    [
        ("workflow.start.order", {"v": 2}),
        ("workflow.start.order", {"v": 1, "id": "a b"}),
        ("workflow.start.order", {"v": 1, "id": 7}),
        (
            "workflow.activity.completed.o.pay",
            {"v": 1, "run": "3", "attempt": 1, "outcome": "failed"},
        ),
        (
            "workflow.activity.completed.o.pay",
            {"v": 1, "run": True, "attempt": 1, "outcome": "failed"},
        ),
        ("workflow.timer.fired.o.x", {"v": 1}),
        ("workflow.timer.fired.o.٣", {"v": 1}),
        ("workflow.timer.fired.o.99999999999999999999", {"v": 1}),
        (f"workflow.child.completed.o.{'9' * 5000}", {"v": 1}),
        ("workflow.timer.fired.*.1", {"v": 1}),
        ("workflow.command.requested.ü.cancel", {"v": 1}),
        ("workflow.timer.fired.start.default.>", {"v": 1, "due_ms": 1}),
        ("workflow.start.order", {"v": True}),
        ("workflow.other.o.x", {"v": 1}),
    ],
)
def test_a_message_that_breaks_the_protocol_is_unreadable(subject: str, body: object) -> None:
    result = read(delivery(subject, body))
    assert isinstance(result, Unreadable)
    assert result.reason


def test_bytes_that_are_no_json_are_refused_with_the_subject() -> None:
    with pytest.raises(MessageError, match=r"workflow\.start\.order: not JSON"):
        to_event("workflow.start.order", b"{", 1, 0)


def test_the_entry_of_an_event_is_only_believed_about_its_own_listener():
    def key(subject, entry):
        body = messages.matched_body(event={}, sequence=1, time_ms=1, entry=entry)
        item = read(delivery(subject, body))
        return listener_key(item)

    subject = "workflow.engine.event.i.12"
    assert key(subject, "paid.all.i.12") == "paid.all.i.12"
    for forged in ("paid.all.j.12", "paid.all.i.13", ">.i.12", "paid.*.i.12", 5, None):
        assert key(subject, forged) is None
    assert key("workflow.command.requested.i.cancel", "paid.all.i.12") is None


@pytest.mark.parametrize(
    ("subject", "body"),
    [
        ("workflow.command.requested.a.explode", {"v": 1}),
        ("workflow.command.requested.a.cancel", {"v": 1, "reason": 7}),
        ("workflow.command.requested.a.cancel", {"v": True}),
        ("workflow.command.requested.a.cancel", {"v": 1.0}),
        ("workflow.start.order", {"v": 1, "id": "a", "depth": "1"}),
        ("workflow.start.order", {"v": 1, "id": "a", "depth": True}),
        ("workflow.start.order", {"v": 1, "id": "a", "parent": "b"}),
        ("workflow.start.order", {"v": 1, "id": "a", "version": 1}),
    ],
)
def test_what_has_the_wrong_type_or_verb_is_set_aside(subject, body):
    with pytest.raises(MessageError):
        to_event(subject, orjson.dumps(body), 1, 1)


def test_a_field_that_is_null_is_a_field_that_is_left_out():
    subject = "workflow.start.order"
    body = {"v": 1, "id": "a", "version": None, "depth": None, "parent": None}
    assert "version" not in to_event(subject, orjson.dumps(body), 1, 1)[1]


# What only the engine says

START = "workflow.start.order"
PARENT = {"id": "p", "run": 3, "awaited": True}
FORGED = [
    (START, {"v": 1, "id": "a", "parent": PARENT}),
    (START, {"v": 1, "id": "a", "depth": 1}),
    ("workflow.start.sales.order", {"v": 1, "id": "a", "parent": PARENT, "depth": 1}),
    ("workflow.command.requested.i.admit", {"v": 1, "turn": 1, "entry": "d.o.all.i.1"}),
    ("workflow.command.requested.i.retry", {"v": 1, "parent": True}),
    ("workflow.signal.received.i.12", {"v": 1, "sequence": 1, "time_ms": 1, "cloud_event": {}}),
    (
        "workflow.activity.completed.i.mail",
        {"v": 1, "run": 1, "attempt": 1, "outcome": "overdue"},
    ),
]


@pytest.mark.parametrize(("subject", "body"), FORGED)
@pytest.mark.parametrize("partition", ["", ".7"])
def test_what_only_the_engine_says_is_not_believed_of_others(subject, body, partition):
    stored = subject + (partition if subject.count(".") == 4 else "")
    assert isinstance(read(delivery(stored, body)), Unreadable)


@pytest.mark.parametrize(("subject", "body"), FORGED)
def test_what_an_earlier_version_has_stored_under_these_subjects_counts(subject, body):
    data = orjson.dumps(body)
    assert to_event(subject, data, 7, 1, own_from=8)
    with pytest.raises(MessageError):
        to_event(subject, data, 8, 1, own_from=8)


@pytest.mark.parametrize(
    ("subject", "body", "expected"),
    [
        (
            "workflow.engine.start.sales.order",
            {"v": 1, "id": "a", "parent": PARENT, "depth": 1},
            {"kind": "start", "namespace": "sales", "workflow": "order", "parent": PARENT},
        ),
        ("workflow.engine.place.i.1", {"v": 1, "turn": 1}, {"kind": "place", "turn": 1}),
        ("workflow.engine.retry.i.3", {"v": 1}, {"verb": "retry", "parent": True}),
        ("workflow.engine.event.i.12", {"v": 1, "cloud_event": {}}, {"kind": "event"}),
        (
            "workflow.engine.overdue.i.mail",
            {"v": 1, "run": 1, "attempt": 1, "outcome": "overdue"},
            {"kind": "result", "activity": "mail", "outcome": "overdue"},
        ),
    ],
)
@pytest.mark.parametrize("partition", ["", ".7"])
def test_the_engines_own_subjects(subject, body, expected, partition):
    instance, event = to_event(subject + partition, orjson.dumps(body), 5, 1)
    assert instance == ("a" if "start" in subject else "i")
    assert {key: event[key] for key in expected} == expected
