"""From a delivered message to a machine event. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from wf.errors import MessageError
from wf.jetstream.port import Delivery, Stored
from wf.protocol import gate, messages, problem_details, subjects
from wf.protocol.ids import derived_id, scheduled_id
from wf.protocol.json_weight import weight

JsonObject = dict[str, Any]

LATEST_MS = 253_402_300_799_000  # the end of the year 9999
VERBS = frozenset({"cancel", "suspend", "resume", "retry"})  # what a client may ask for
_ADMIT = "admit"  # a verb by which earlier versions gave a place
_NUMBER = re.compile(r"[0-9]{1,18}\Z")  # fits in 64 bits, so that it can be stored
_OUTCOMES = messages.OUTCOMES | messages.SIGNS
FLUSH_TIMER = "flush"  # the shell's own timer: publish what was refused (see outbox.py)


@dataclass(slots=True)
class Item:
    """One event on its way: the message, and what it says about which instance."""

    delivery: Delivery
    instance: str
    event: JsonObject
    weight: int = field(init=False)  # bytes that it takes in memory, about

    def __post_init__(self) -> None:
        self.weight = weight(self.delivery.data)


@dataclass(slots=True)
class Unreadable:
    """A message that breaks the protocol; it goes to the dead letters, never to the machine."""

    delivery: Delivery
    reason: str


def read(delivery: Delivery, own_from: int = 0) -> Item | Unreadable:
    """Take a delivery apart; `own_from` as for `to_event`."""
    try:
        instance, event = to_event(
            delivery.subject, delivery.data, delivery.sequence, delivery.timestamp_ms, own_from
        )
    except MessageError as error:
        return Unreadable(delivery, gate.text(error))
    except Exception as error:  # noqa: BLE001 — no message may stop the engine: it is set aside
        return Unreadable(delivery, gate.error_text(error))
    return Item(delivery, instance, event)


def event_of(stored: Stored) -> JsonObject:
    """The same event again, from the stream (to rebuild an outbox). Raises MessageError."""
    trusted = stored.sequence + 1  # it was believed when it came
    return to_event(stored.subject, stored.data, stored.sequence, stored.timestamp_ms, trusted)[1]


def to_event(
    subject: str, data: bytes, sequence: int, timestamp_ms: int, own_from: int = 0
) -> tuple[str, JsonObject]:
    """(instance id, machine event). The subject is authoritative. Raises MessageError.

    What only the engine says is believed under its own subjects alone; before the sequence
    `own_from` also under those of clients, where earlier versions stored it.
    """
    inbound = subjects.parse_inbound(subject)
    kind = inbound.kind
    if inbound.instance:
        subjects.check_name("instance", inbound.instance)
    if kind == "timer":
        return inbound.instance, _timer(inbound.name)
    body = messages.decode(data, subject)
    if sequence >= own_from:
        _refuse_what_is_the_engines(kind, body)
    if kind in ("start", "own start"):
        return _start(inbound.name, body, sequence, timestamp_ms)
    if kind == "schedule":
        return _scheduled(inbound.name, body)
    return inbound.instance, _about_instance(kind, inbound.name, body, sequence, own_from)


def _about_instance(
    kind: str, name: str, body: JsonObject, sequence: int, own_from: int
) -> JsonObject:
    if kind in ("result", "own overdue"):
        return _result_or_failure(name, body)
    if kind == "own place" or (kind == "command" and name == _ADMIT and sequence < own_from):
        return {"kind": "place", "turn": body.get("turn"), "entry": body.get("entry")}
    if kind == "own retry":
        return {**_command("retry", body, sequence), "parent": True}
    if kind == "command":
        return _command(name, body, sequence)
    if kind == "own event" or (kind == "signal" and "cloud_event" in body):
        return _matched(name, body)
    if kind == "signal":
        return _signal(name, body, sequence)
    return _child(name, body)


_ONLY_THE_ENGINES = {
    "start": ("parent", "depth"),
    "command": ("parent",),
    "signal": ("cloud_event",),
}


def _refuse_what_is_the_engines(kind: str, body: JsonObject) -> None:
    """Raises MessageError for a field, or an outcome, that no client and no worker may send."""
    for key in _ONLY_THE_ENGINES.get(kind, ()):
        if body.get(key) is not None:
            raise MessageError(f'"{key}" is the engine\'s own: leave it out')
    if kind == "result" and body.get("outcome") == messages.OVERDUE:
        raise MessageError(f'"outcome" {messages.OVERDUE!r} is the engine\'s own')


def _command(verb: str, body: JsonObject, sequence: int) -> JsonObject:
    if verb not in VERBS:
        raise MessageError(f"verb {verb!r} is not one of {sorted(VERBS)}")
    _check_type(body, "reason", str, "a string")
    event: JsonObject = {"kind": "command", "verb": verb, "sequence": sequence}
    if body.get("reason") is not None:
        event["reason"] = body["reason"]
    if verb == "cancel" and body.get("now") is True:
        event["now"] = True
    if verb == "retry":
        event.update({key: body[key] for key in ("from", "input", "parent") if key in body})
    return event


def _check_type(body: JsonObject, key: str, kind: type, what: str) -> None:
    if body.get(key) is not None and type(body[key]) is not kind:
        raise MessageError(f'"{key}" must be {what}, found {type(body[key]).__name__}')


def _matched(name: str, body: JsonObject) -> JsonObject:
    """A CloudEvent for a listener; the machine looks at its shape."""
    return {
        "kind": "event",
        "listener": name,
        "sequence": body.get("sequence"),
        "time_ms": body.get("time_ms"),
        "match": f"{name}:{body.get('sequence')}",
        "event": body.get("cloud_event"),
        "entry": body.get("entry"),
    }


def _signal(name: str, body: JsonObject, sequence: int) -> JsonObject:
    """A signal by name; the machine looks at its shape."""
    name = subjects.decoded(name)
    return {"kind": "signal", "name": name, "sequence": sequence, "data": body.get("data")}


def listener_key(item: Item) -> str | None:
    """The index entry by which this event found its listener; None for any other event. What the
    body says must be about the instance and the listener of the subject."""
    entry, listener = item.event.get("entry"), item.event.get("listener")
    if item.event["kind"] != "event" or not isinstance(entry, str):
        return None
    if not entry.endswith(f".{item.instance}.{listener}"):
        return None
    return entry if subjects.is_key(entry) else None


def place_key(item: Item) -> str | None:
    """The entry of WORKFLOW_PLACES that this place was given for; None for any other event."""
    entry, turn = item.event.get("entry"), item.event.get("turn")
    if item.event["kind"] != "place" or not isinstance(entry, str):
        return None
    if not entry.endswith(f".{item.instance}.{turn}"):
        return None
    return entry if subjects.is_key(entry) else None


def _timer(name: str) -> JsonObject:
    if name == FLUSH_TIMER:
        return {"kind": FLUSH_TIMER}
    return {"kind": "timer", "timer": _number("timer", name)}


def _number(what: str, token: str) -> int:
    if _NUMBER.match(token) is None:
        raise MessageError(f"{what} {token[:40]!r} is not a number of at most 18 digits")
    return int(token)


def _start(name: str, body: JsonObject, sequence: int, timestamp_ms: int) -> tuple[str, JsonObject]:
    instance = body.get("id")
    if instance is None:
        instance = derived_id(sequence, timestamp_ms)
    if not isinstance(instance, str) or not subjects.is_name(instance):
        raise MessageError(f'"id" {instance!r} is not a valid name: use {subjects.NAME_RULE}')
    namespace, workflow = subjects.split_qualified(name)
    version = body.get("version")
    event: JsonObject = {
        "kind": "start",
        "id": instance,
        "workflow": workflow,
        "namespace": namespace,
        "input": body.get("input"),
    }
    if version is not None:
        event["version"] = version
    _check_type(body, "version", str, "a string")
    _check_type(body, "depth", int, "a number")
    _check_type(body, "parent", dict, "an object")
    for key in ("parent", "depth"):  # of a child; the machine looks at their shapes
        if key in body:
            event[key] = body[key]
    return instance, event


def _scheduled(name: str, body: JsonObject) -> tuple[str, JsonObject]:
    """A schedule that fired is a start: the time that is due says which instance."""
    due_ms = body.get("due_ms")
    if type(due_ms) is not int or not 0 <= due_ms < LATEST_MS:
        raise MessageError(f'"due_ms" {due_ms!r} is not a time in milliseconds')
    namespace, workflow = subjects.split_qualified(name)
    subjects.check_name("namespace", namespace)
    subjects.check_name("workflow", workflow)
    instance = scheduled_id(name, due_ms)
    return instance, {
        "kind": "start",
        "id": instance,
        "workflow": workflow,
        "namespace": namespace,
        "input": {},
        "scheduled": {"schedule": body.get("schedule"), "due_ms": due_ms},
    }


def _child(run: str, body: JsonObject) -> JsonObject:
    """The end of a child, as its parent learns of it."""
    event: JsonObject = {"kind": "child", "run": _number("run", run)}
    for key in ("child", "status", "output", "error", "reason"):
        if key in body:
            event[key] = body[key]
    return event


def _result_or_failure(activity: str, body: JsonObject) -> JsonObject:
    """The result; where it breaks the protocol but says of which run it is, that run fails, with
    the reason: its task is acknowledged, so nothing else would come."""
    try:
        return _result(activity, body)
    except MessageError as error:
        if type(body.get("run")) is not int or type(body.get("attempt")) is not int:
            raise
        detail = f"the result of {activity} cannot be read: {error}"
        return {
            "kind": "result",
            "activity": activity,
            "run": body["run"],
            "attempt": body["attempt"],
            "outcome": messages.FAILED,
            "error": problem_details.problem(
                type=problem_details.RUNTIME, status=500, title="Unreadable result", detail=detail
            ),
        }


def _result(activity: str, body: JsonObject) -> JsonObject:
    outcome = body.get("outcome")
    if type(outcome) is not str or outcome not in _OUTCOMES:
        raise MessageError(f'"outcome" {outcome!r} is not one of {sorted(_OUTCOMES)}')
    for key in ("run", "attempt"):
        if type(body.get(key)) is not int:
            raise MessageError(f'"{key}" must be an integer, found {body.get(key)!r}')
    event = {key: value for key, value in body.items() if key != "v"}
    event["kind"] = "result"
    event["activity"] = activity
    return event
