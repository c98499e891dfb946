"""Every subject of the wire protocol, built and taken apart in one place (docs/protocol.md)."""

from __future__ import annotations

import re
from typing import NamedTuple

from wf.errors import MessageError

NAME = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
NAME_RULE = "1 to 64 characters of A-Z a-z 0-9 _ -"

RESERVED_PREFIX = "wf-"  # of the names of built-in activities (wf/builtin)

DEFAULT_NAMESPACE = "default"
CLOUD_EVENTS = "cloudevents."
MAX_TEXT = 256  # characters of a name that is encoded

_PLAIN = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*\Z")
_KEY = re.compile(r"[A-Za-z0-9_=-]+(?:\.[A-Za-z0-9_=-]+)*\Z")
_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]")


def is_name(text: str) -> bool:
    """True when `text` may name an instance, an activity, a workflow or a namespace."""
    return NAME.match(text) is not None


def check_name(kind: str, text: str) -> str:
    """Return `text`, or raise MessageError that says which names are allowed."""
    if not is_name(text):
        raise MessageError(f"{kind} {text!r} is not a valid name: use {NAME_RULE}")
    return text


def is_key(text: str) -> bool:
    """True when `text` may be a key of a bucket."""
    return _KEY.match(text) is not None


def check_text(kind: str, text: str) -> str:
    """Return `text`, or raise MessageError: for names that a subject carries encoded."""
    if not 1 <= len(text) <= MAX_TEXT:
        raise MessageError(f"{kind} {text[:40]!r} has {len(text)} characters: use 1 to {MAX_TEXT}")
    return text


def qualified(namespace: str, name: str) -> str:
    """`name` in the default namespace, `<namespace>.<name>` outside it."""
    return name if namespace == DEFAULT_NAMESPACE else f"{namespace}.{name}"


def split_qualified(text: str) -> tuple[str, str]:
    """(namespace, name) of what `qualified` gives."""
    namespace, dot, name = text.rpartition(".")
    return (namespace if dot else DEFAULT_NAMESPACE), name


def start(namespace: str, name: str) -> str:
    return f"workflow.start.{qualified(namespace, name)}"


def completed(instance: str, activity: str) -> str:
    return f"workflow.activity.completed.{instance}.{activity}"


def is_result(subject: str) -> bool:
    return subject.startswith("workflow.activity.completed.")


def signal(instance: str, name: str) -> str:
    """`name` may be any text: it is encoded as one token."""
    return f"workflow.signal.received.{instance}.{encoded_token(name)}"


def child_completed(parent: str, run: int) -> str:
    return f"workflow.child.completed.{parent}.{run}"


def command(instance: str, verb: str) -> str:
    return f"workflow.command.requested.{instance}.{verb}"


def own_start(namespace: str, name: str) -> str:
    """A start by the engine itself: its body may name a parent."""
    return f"workflow.engine.start.{namespace}.{name}"


def own_retry(instance: str, run: int) -> str:
    """The parent, in whose `run` the instance is, goes on."""
    return f"workflow.engine.retry.{instance}.{run}"


def own_event(instance: str, listener: str) -> str:
    """A CloudEvent for one listener."""
    return f"workflow.engine.event.{instance}.{listener}"


def own_place(instance: str, turn: int) -> str:
    """The instance may run now."""
    return f"workflow.engine.place.{instance}.{turn}"


def own_overdue(instance: str, activity: str) -> str:
    """Nothing was heard of an attempt for too long."""
    return f"workflow.engine.overdue.{instance}.{activity}"


def task(activity: str) -> str:
    return f"activity.tasks.{activity}"


def task_consumer(activity: str) -> str:
    """The durable name of an activity's consumer; two activities never share one."""
    return f"activity-{check_name('activity', activity)}"


def activity_of_consumer(consumer: str) -> str | None:
    """The activity that `task_consumer` gave this name; None for any other consumer."""
    return consumer.removeprefix("activity-") if consumer.startswith("activity-") else None


def activity_of_reply(reply: str) -> str | None:
    """The activity whose task has this ack subject: `$JS.ACK.<stream>.<consumer>.…`.

    A server with domains puts a domain and an account hash between `ACK` and the stream.
    """
    for token in reply.split(".")[3:6]:
        if (activity := activity_of_consumer(token)) is not None:
            return activity
    return None


def timer_scheduled(instance: str, timer: str) -> str:
    return f"workflow.timer.scheduled.{instance}.{timer}"


def timer_fired(instance: str, timer: str) -> str:
    return f"workflow.timer.fired.{instance}.{timer}"


def start_scheduled(namespace: str, name: str) -> str:
    """The schedule of a workflow: one token more than a timer's."""
    return f"workflow.timer.scheduled.start.{namespace}.{name}"


def start_fired(namespace: str, name: str) -> str:
    return f"workflow.timer.fired.start.{namespace}.{name}"


def history(instance: str) -> str:
    return f"workflow.history.{instance}"


def finished(instance: str) -> str:
    """Core NATS, advisory: tells waiters to read the snapshot now."""
    return f"workflow.finished.{instance}"


def state(instance: str) -> str:
    return f"$KV.WORKFLOW_STATES.{instance}"


def state_value(instance: str, key: str) -> str:
    """A large value that is stored beside the instance's snapshot (wf/protocol/large_values.py)."""
    return f"$KV.WORKFLOW_STATES.{instance}.{key}"


def definition(namespace: str, name: str, version: str) -> str:
    return f"$KV.WORKFLOW_DEFINITIONS.{namespace}.{name}.{version}"


def catalog(activity: str) -> str:
    return f"$KV.ACTIVITY_CATALOG.{activity}"


def listener(key: str) -> str:
    """An entry of the index of listeners (orchestrator/machine/events/correlation.py)."""
    return f"$KV.WORKFLOW_LISTENERS.{key}"


def collection(key: str) -> str:
    """Events that are collected until they start an instance: `<namespace>.<workflow>.<digest of
    the trigger>.<hash of the correlations>`."""
    return f"$KV.WORKFLOW_COLLECTIONS.{key}"


def place(key: str) -> str:
    """An entry of those who run or want to (orchestrator/machine/kernel/concurrency_slot.py)."""
    return f"$KV.WORKFLOW_PLACES.{key}"


def dead_letter(kind: str, name: str) -> str:
    return f"dead.{kind}.{name}"


def cloud_event(type_: str) -> str:
    """Subject of a CloudEvent. Dots of the type stay; bytes that a token may not have, and dots
    that would leave a token empty, are written `=XX`, so that two types never share a subject."""
    return CLOUD_EVENTS + encoded(type_)


def cloud_event_type(subject: str) -> str:
    """The type that `cloud_event` put into a subject. Raises MessageError for any other."""
    return decoded(subject.removeprefix(CLOUD_EVENTS))


def encoded(text: str) -> str:
    """`text` as one or more tokens of a subject or key; see `cloud_event`."""
    if _PLAIN.match(text):
        return text
    tokens = [_UNSAFE.sub(_escape, token) for token in text.split(".")]
    joined = tokens[0]
    for token in tokens[1:]:
        empty = not token or not joined or joined.endswith("=2E")
        joined += ("=2E" if empty else ".") + token
    return joined


def encoded_token(text: str) -> str:
    """`text` as just one token."""
    return _UNSAFE.sub(_escape, text).replace(".", "=2E")


def decoded(text: str) -> str:
    """What `encoded` or `encoded_token` was given. Raises MessageError for anything else."""
    if "=" not in text:
        return text
    data = re.sub(rb"=([0-9A-F]{2})", lambda found: bytes([int(found[1], 16)]), text.encode())
    try:
        plain = data.decode()
    except UnicodeDecodeError as error:
        raise MessageError(f"subject {text!r} is not encoded as docs/protocol.md says") from error
    if text not in (encoded(plain), encoded_token(plain)):
        raise MessageError(f"subject {text!r} is not encoded as docs/protocol.md says")
    return plain


def _escape(found: re.Match[str]) -> str:
    return "".join(f"={byte:02X}" for byte in found[0].encode("utf-8", "surrogatepass"))


class Inbound(NamedTuple):
    """What an inbound event's subject says; the subject, not the body, is authoritative."""

    kind: str  # start, result, signal, command, child, timer, schedule; what only the engine says:
    # own start, own retry, own event, own place, own overdue
    instance: str  # "" for a start: its id is in the body, or derived from its sequence; and for a
    # schedule: it is derived from the time that is due
    name: str  # workflow (qualified), activity, signal, verb, run or timer


_KINDS = {
    ("activity", "completed"): "result",
    ("signal", "received"): "signal",
    ("command", "requested"): "command",
    ("child", "completed"): "child",
    ("timer", "fired"): "timer",
    ("engine", "retry"): "own retry",
    ("engine", "event"): "own event",
    ("engine", "place"): "own place",
    ("engine", "overdue"): "own overdue",
}


def parse_inbound(subject: str) -> Inbound:
    """Take apart a subject of WORKFLOW_EVENTS or of a fired timer, with or without partition.

    Raises MessageError for any other subject.
    """
    tokens = subject.split(".")
    if tokens[0] == "workflow" and len(tokens) >= 3:
        if tokens[1] == "start" and len(tokens) in (3, 4):
            return Inbound("start", "", ".".join(tokens[2:]))
        if tokens[1:3] == ["engine", "start"] and len(tokens) in (5, 6):
            return Inbound("own start", "", qualified(tokens[3], tokens[4]))
        kind = _KINDS.get((tokens[1], tokens[2]))
        if kind == "timer" and len(tokens) == 6 and tokens[3] == "start":
            return Inbound("schedule", "", qualified(tokens[4], tokens[5]))
        if kind is not None and len(tokens) in (5, 6):
            return Inbound(kind, tokens[3], tokens[4])
    raise MessageError(f"subject {subject!r} is not one of the workflow protocol")


def worker_status(name: str) -> str:
    """Where a client worker tells that it is there; `*` for all."""
    return f"$KV.POOL_STATUS.worker.{name}"
