"""Golden bytes: bodies and subjects of protocol version 1 never change (docs/protocol.md)."""

import pytest

from wf.errors import MessageError
from wf.protocol import messages, subjects

GOLDEN = [
    (
        messages.start_body(instance="order-1", input={"a": 1}),
        b'{"v":1,"id":"order-1","input":{"a":1}}',
    ),
    (
        messages.start_body(instance=None, input=None, version="1.0.0"),
        b'{"v":1,"version":"1.0.0","input":null}',
    ),
    (
        messages.task_body(
            instance="order-1",
            workflow="order",
            version="1.0.0",
            run=3,
            attempt=2,
            pointer="/do/0/pay",
            input={"card": "4242"},
        ),
        b'{"v":1,"instance":"order-1","workflow":"order","version":"1.0.0","run":3,"attempt":2,'
        b'"pointer":"/do/0/pay","input":{"card":"4242"}}',
    ),
    (
        messages.task_body(
            instance="o",
            workflow="w",
            version="1",
            run=3,
            attempt=2,
            pointer="/",
            input=1,
            liveness={"start_by_ms": 1, "heartbeat_ms": 2, "details": 3},
        ),
        b'{"v":1,"instance":"o","workflow":"w","version":"1","run":3,"attempt":2,"pointer":"/",'
        b'"input":1,"liveness":{"start_by_ms":1,"heartbeat_ms":2,"details":3}}',
    ),
    (
        messages.sign_body(run=3, attempt=2, outcome=messages.HEARTBEAT, details=[1]),
        b'{"v":1,"run":3,"attempt":2,"outcome":"heartbeat","details":[1]}',
    ),
    (
        messages.failed_body(
            run=3,
            attempt=2,
            outcome=messages.FAILED,
            error={},
            heartbeat_details={"page": 1},
        ),
        b'{"v":1,"run":3,"attempt":2,"outcome":"failed","error":{},"retryable":true,'
        b'"heartbeat_details":{"page":1}}',
    ),
    (
        messages.completed_body(run=3, attempt=2, output=[1, 2]),
        b'{"v":1,"run":3,"attempt":2,"outcome":"completed","output":[1,2]}',
    ),
    (
        messages.failed_body(
            run=3,
            attempt=2,
            outcome=messages.FAILED,
            error={"type": "t", "status": 500, "title": "T", "detail": "d"},
            retryable=False,
            retry={"max_attempts": 3},
            crash_limit=3,
            evidence={"signal": 9},
        ),
        b'{"v":1,"run":3,"attempt":2,"outcome":"failed","error":{"type":"t","status":500,'
        b'"title":"T","detail":"d"},"retryable":false,"retry":{"max_attempts":3},"crash_limit":3,'
        b'"evidence":{"signal":9}}',
    ),
    (
        messages.task_body(
            instance="o",
            workflow="w",
            version="1",
            run=3,
            attempt=2,
            pointer="/",
            input=1,
            alone=True,
        ),
        b'{"v":1,"instance":"o","workflow":"w","version":"1","run":3,"attempt":2,"pointer":"/",'
        b'"input":1,"alone":true}',
    ),
    (messages.command_body(reason="why"), b'{"v":1,"reason":"why"}'),
    (messages.command_body(), b'{"v":1}'),
    (messages.signal_body(data={"ok": True}), b'{"v":1,"data":{"ok":true}}'),
    (messages.timer_body(timer=5), b'{"v":1,"timer":5}'),
]


@pytest.mark.parametrize(("body", "golden"), GOLDEN, ids=lambda value: str(value)[:40])
def test_bodies_are_byte_for_byte_what_they_were(body: dict[str, object], golden: bytes) -> None:
    assert messages.encode(body) == golden
    assert messages.decode(golden) == body


def test_message_ids_are_what_they_were() -> None:
    assert messages.start_message_id("o") == "start:o"
    assert messages.task_message_id("o", 3, 2) == "o:3:2"
    assert messages.result_message_id("o", 3, 2, messages.COMPLETED) == "o:3:2:done"
    assert messages.result_message_id("o", 3, 2, messages.CRASHED) == "o:3:2:crashed"
    assert messages.result_message_id("o", 3, 2, messages.EXPIRED) == "o:3:2:expired"
    assert messages.history_message_id("o", 7, 0) == "o:7:0"


def test_subjects_are_what_they_were() -> None:
    assert subjects.start("default", "order") == "workflow.start.order"
    assert subjects.start("sales", "order") == "workflow.start.sales.order"
    assert subjects.completed("o", "pay") == "workflow.activity.completed.o.pay"
    assert subjects.signal("o", "ok") == "workflow.signal.received.o.ok"
    assert subjects.command("o", "cancel") == "workflow.command.requested.o.cancel"
    assert subjects.child_completed("o", 3) == "workflow.child.completed.o.3"
    assert subjects.task("pay") == "activity.tasks.pay"
    assert subjects.timer_scheduled("o", "5") == "workflow.timer.scheduled.o.5"
    assert subjects.timer_fired("o", "5") == "workflow.timer.fired.o.5"
    assert subjects.start_scheduled("sales", "o") == "workflow.timer.scheduled.start.sales.o"
    assert subjects.start_fired("sales", "o") == "workflow.timer.fired.start.sales.o"
    assert subjects.history("o") == "workflow.history.o"
    assert subjects.state("o") == "$KV.WORKFLOW_STATES.o"


def test_unknown_fields_are_ignored_and_unknown_versions_refused() -> None:
    assert messages.decode(b'{"v":1,"new":true}')["new"] is True
    with pytest.raises(MessageError, match='write "v": 1'):
        messages.decode(b'{"v":2}')
    with pytest.raises(MessageError, match="expected a JSON object"):
        messages.decode(b"[]")
