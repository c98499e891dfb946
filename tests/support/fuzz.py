"""Messages that nobody should send, to every subject there is: documented bodies with something in
them changed, and plain garbage. The same seed gives the same ones."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from random import Random
from typing import Any, NamedTuple

from wf.jetstream.port import Outgoing
from wf.jetstream.topology import MAX_DELIVERIES

ACTIVITY = "victim"
INSTANCES = tuple(f"f{n}" for n in range(12))
MANY = 100_000  # keys of one object, now and then

_DEEP = (150, 199, 205, 209, 254, 300, 1000, 1100)
_NASTY: tuple[Any, ...] = (
    None, True, False, -1, 0, 1, 2**31, 2**53 + 1, 2**63, 2**64, -(2**63) - 1, 10**30, 1.5, 1e308,
    float("nan"), float("inf"), "", "x", "x" * 5000, "\ud83d", "A\udc00", "\u0000", "a.b", "*", ">",
    "a b", "ü", "\r\n", "-1", "9" * 5000, "PT1S", "${ . }", [], {}, [[]], [None], [1, "a"],
    {"": ""},
    {"a": {}}, {"\ud83d": 1}, {"kind": "fault"}, {"v": 2}, {"id": "f1"}, {"commit": 1},
    {"type": "https://x", "status": 500, "title": "t", "detail": "d"},
)  # fmt: skip

_EVENT = {"specversion": "1.0", "id": "1", "source": "/s", "type": "paid", "data": {"n": 1}}
_ERROR = {"type": "https://x", "status": 500, "title": "t", "detail": "d"}
_PARENT = {"id": "f1", "run": 1, "awaited": True}


class Kind(NamedTuple):
    """Where a message goes, and what is in it when it is right."""

    subject: Callable[[Random], str]
    body: Any


def _of(text: str) -> Callable[[Random], str]:
    """A subject: `{i}` an instance, `{n}` a small number, `{w}` a workflow, `{x}` anything."""

    def make(random: Random) -> str:
        return text.format(
            i=random.choice(INSTANCES),
            n=random.choice(("1", "2", "3", "0", "7", "99999999999999999999", "x", "٣")),
            w=random.choice(("flow", "flow", "nobody", "other.flow")),
            x=random.choice(("paid", "x", "=20", "=FF", "all", "l1", "ü", "0" * 80)),
        )

    return make


KINDS: tuple[Kind, ...] = (
    Kind(_of("workflow.start.{w}"), {"v": 1, "id": "f3", "version": "1.0.0", "input": {"n": 1}}),
    Kind(_of("workflow.start.{w}"), {"v": 1, "parent": _PARENT, "depth": 1, "input": None}),
    Kind(
        _of("workflow.activity.completed.{i}." + ACTIVITY),
        {"v": 1, "run": 1, "attempt": 1, "outcome": "completed", "output": {"n": 1}},
    ),
    Kind(
        _of("workflow.activity.completed.{i}." + ACTIVITY),
        {
            "v": 1, "run": 1, "attempt": 1, "outcome": "failed", "error": _ERROR, "retryable": True,
            "retry": {"max_attempts": 3, "delay_s": 1.0, "backoff": "constant", "max_delay_s": 9.0},
        },
    ),
    Kind(
        _of("workflow.activity.completed.{i}." + ACTIVITY),
        {
            "v": 1, "run": 1, "attempt": 1, "outcome": "crashed", "error": _ERROR,
            "crash_limit": 1, "suspects": 1, "evidence": {"signal": 9}, "heartbeat_details": {},
        },
    ),
    Kind(
        _of("workflow.activity.completed.{i}.{x}"),
        {"v": 1, "run": 1, "attempt": 1, "outcome": "heartbeat", "details": {"n": 1}},
    ),
    Kind(_of("workflow.signal.received.{i}.{x}"), {"v": 1, "data": {"n": 1}}),
    Kind(
        _of("workflow.signal.received.{i}.{n}"),
        {"v": 1, "cloud_event": _EVENT, "sequence": 1, "time_ms": 1, "entry": "paid.all.f1.1"},
    ),
    *(
        Kind(_of(f"workflow.command.requested.{{i}}.{verb}"), {"v": 1, "reason": "r", **more})
        for verb, more in (
            ("cancel", {"now": True}), ("suspend", {}), ("resume", {}), ("bogus", {}),
            ("retry", {"from": "/do/0/a", "input": 1, "parent": True}),
            ("admit", {"turn": 1, "entry": "default.flow.x.f1.1"}),
        )
    ),
    Kind(
        _of("workflow.child.completed.{i}.{n}"),
        {"v": 1, "child": "f2", "status": "completed", "output": 1, "error": _ERROR, "reason": "r"},
    ),
    Kind(_of("workflow.timer.fired.{i}.{n}"), {"v": 1, "timer": 1}),
    Kind(_of("workflow.timer.fired.{i}.flush"), {"v": 1}),
    Kind(
        _of("workflow.timer.fired.start.default.{w}"),
        {"v": 1, "schedule": "every:PT1H", "due_ms": 1_800_000_000_000},
    ),
    Kind(
        _of("workflow.timer.scheduled.start.default.hourly"),
        {"v": 1, "schedule": "every:PT1H", "due_ms": 1_800_000_000_000},
    ),
    Kind(_of("cloudevents.paid"), _EVENT),
    Kind(_of("cloudevents.{x}"), _EVENT),
    Kind(_of("activity.tasks.nobody"), {"v": 1, "instance": "f1", "run": 1, "attempt": 1}),
    Kind(
        _of("$KV.WORKFLOW_STATES.{i}"),
        {
            "id": "f1", "status": "running", "workflow": "flow", "namespace": "default",
            "version": "1.0.0", "frames": {"1": {}}, "runs": {"1": {}}, "timers": {}, "applied": [],
            "commit": {"number": 3, "token": "t", "events": [["WORKFLOW_EVENTS", 1]]},
        },
    ),
    Kind(_of("$KV.WORKFLOW_STATES.{i}.{n}"), {"n": 1}),
    Kind(
        _of("$KV.WORKFLOW_DEFINITIONS.default.odd.{n}"),
        {
            "document": {"dsl": "1.0.0", "namespace": "default", "name": "odd", "version": "1"},
            "schedule": {"on": {"all": [{"with": {"type": "paid"}}]}},
            "do": [{"a": {"set": {"x": "${ .n }"}}}],
        },
    ),
    Kind(
        _of("$KV.ACTIVITY_CATALOG.odd"),
        {"v": 1, "consumer": {"ack_wait_s": 10, "max_deliver": 20, "max_ack_pending": 10}},
    ),
    Kind(
        _of("$KV.WORKFLOW_LISTENERS.paid.{x}.{i}.{n}"),
        {"v": 1, "from_ms": 1, "correlate": [["a", ".data.n"]]},
    ),
    Kind(_of("$KV.WORKFLOW_PLACES.default.flow.h.{i}.{n}"), {"v": 1}),
    Kind(
        _of("$KV.WORKFLOW_COLLECTIONS.default.both.{x}.{n}"),
        {"v": 1, "seen": [], "open": [{}], "done": []},
    ),
    Kind(_of("$KV.POOL_STATUS.host.{x}"), {"v": 1, "host": "h", "pools": [{}], "backlog": {}}),
    Kind(
        _of("workflow.history.{i}"),
        {"v": 1, "commit": 1, "n": 0, "now_ms": 1, "event": {"kind": "start"}, "entries": []},
    ),
    Kind(
        _of(f"{MAX_DELIVERIES}.ACTIVITY_TASKS.activity-nobody"),
        {
            "stream": "ACTIVITY_TASKS", "consumer": "activity-nobody", "stream_seq": 1,
            "deliveries": 2,
        },
    ),
    Kind(_of("dead.message.{x}"), {"v": 1, "evidence": {"reason": "r", "payload": "p"}}),
)  # fmt: skip


def message(random: Random, kind: Kind | None = None) -> Outgoing:
    """One of them, of any kind when none is given."""
    kind = kind or random.choice(KINDS)
    return Outgoing(kind.subject(random), _data(random, kind.body), headers=_headers(random))


def _data(random: Random, body: Any) -> bytes:
    chance = random.random()
    if chance < 0.04:
        return random.choice((b"", b"\xff\xfe", b"{", b"null", b"[" * 5000, random.randbytes(60)))
    if chance < 0.10:
        return _text(random, _nasty(random))
    body = copy.deepcopy(body)
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        body = _changed(random, body)
    if chance > 0.97 and isinstance(body, dict):
        body["unknown_field"] = _nasty(random)
    data = _text(random, body)
    return data[: random.randrange(len(data))] if chance < 0.12 else data


def _changed(random: Random, body: Any) -> Any:
    """`body` with one place in it replaced, removed, or added."""
    if not isinstance(body, dict | list) or not body or random.random() < 0.02:
        return _nasty(random)
    key = random.choice(list(body) if isinstance(body, dict) else range(len(body)))
    if isinstance(body[key], dict | list) and body[key] and random.random() < 0.7:
        body[key] = _changed(random, body[key])
    elif random.random() < 0.1:
        del body[key]
    else:
        body[key] = _nasty(random)
    return body


def _nasty(random: Random) -> Any:
    if random.random() < 0.15:
        return f"@{random.choice(_DEEP)}{random.choice('[{')}@"
    return copy.deepcopy(random.choice(_NASTY))


def _text(random: Random, value: Any) -> bytes:
    """JSON as others write it: with halves of characters, NaN, long integers, any depth."""
    if isinstance(value, dict) and random.random() < 0.001:
        value = {**value, "wide": {str(n): n for n in range(MANY)}}
    text = json.dumps(value, ensure_ascii=random.random() < 0.9)
    for levels in _DEEP:
        text = text.replace(f'"@{levels}[@"', "[" * levels + "]" * levels)
        text = text.replace(f'"@{levels}{{@"', '{"a":' * levels + "1" + "}" * levels)
    return text.encode("utf-8", "surrogatepass")


def _headers(random: Random) -> dict[str, str] | None:
    if random.random() < 0.8:
        return None
    name = random.choice(
        ("traceparent", "ce-specversion", "ce-id", "ce-type", "Content-Type", "Nats-Msg-Id", "x-y")
    )
    value = random.choice(("1.0", "", "x" * 3000, "ü", "00-" + "a" * 32 + "-" + "b" * 16 + "-01"))
    return {name: value}
