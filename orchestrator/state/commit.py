"""What the KV holds for one instance: the machine's snapshot and the commit that wrote it. Pure.

The value is the snapshot with one more key, `commit`:

    number    how many commits this instance has had
    token     random; finding one's own after a lost ack means that the write landed
    events    [[stream, sequence], …] that this commit applied
    history   [[now_ms, stream, sequence, entries, overlay], …] one per history message, in order;
              the event itself is in its stream, `overlay` is what the shell added to it
    tasks     runs to dispatch; their bodies are rebuilt from the snapshot
    timers    timers to schedule; likewise
    cancelled timers to unschedule
    sends     [[kind, body], …] messages made from their body alone
              (orchestrator/dispatch/effects.py)
    dead      [[kind, name, evidence], …] dead letters
    parked    true: all but `tasks` is published, and a flush timer is set for those
    lifecycle true: CloudEvents of the lifecycle go with the history
    trace     the traceparent of the start, passed on to tasks
    apart     {key: [path, …]} large values that are stored beside the snapshot
              (wf/protocol/large_values.py)
    dropped   keys of such values that nothing names any more

Together these are the outbox of the last commit (docs/design.md §6): it may only be overwritten
once it
is known to be published.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass, field
from typing import Any

import orjson

from orchestrator.machine import TERMINAL
from orchestrator.state import large_values
from orchestrator.state.large_values import DEFAULT_RULES, Rules, Watch
from wf.client.instances import snapshot_of
from wf.errors import MessageError, WfError
from wf.jetstream.port import Stored
from wf.protocol import gate
from wf.protocol.large_values import Places, put_back
from wf.protocol.subjects import is_key

JsonObject = dict[str, Any]


class StateUnusable(WfError):
    """What is stored of an instance is no state that the engine can go on with."""


# Of a commit, left out when empty
OPTIONAL = (
    "history",
    "tasks",
    "timers",
    "cancelled",
    "sends",
    "dead",
    "parked",
    "lifecycle",
    "trace",
    "apart",
    "dropped",
)

# now_ms, stream, sequence, entries (a list, or its JSON as a Fragment), overlay
HistoryEntry = tuple[int, str, int, Any, JsonObject]


@dataclass(slots=True)
class Commit:
    """The commit that wrote a snapshot, with its outbox. See the module's text for the fields."""

    number: int
    token: str
    events: list[tuple[str, int]] = field(default_factory=list)
    history: list[HistoryEntry] = field(default_factory=list)
    tasks: list[int] = field(default_factory=list)
    timers: list[int] = field(default_factory=list)
    cancelled: list[int] = field(default_factory=list)
    sends: list[tuple[str, JsonObject]] = field(default_factory=list)
    dead: list[tuple[str, str, JsonObject]] = field(default_factory=list)
    parked: bool = False
    lifecycle: bool = False
    trace: str | None = None
    apart: Places = field(default_factory=dict)
    dropped: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Record:
    """An instance as one process knows it."""

    snapshot: JsonObject | None  # None: there is no such instance
    commit: Commit | None
    revision: int  # sequence of its subject's last message; what the next write expects
    flushed: bool  # this process knows that the outbox of `commit` is published
    doubtful: bool = False  # it came from memory or from a replica: there may be a newer one
    size: int = 0  # bytes in the KV, with the values beside it
    missing: list[str] = field(default_factory=list)  # keys of values that are gone
    watch: Watch | None = None  # None: it has always been too small to set a value apart
    unusable: str = ""  # why what is stored is no state; then there is neither snapshot nor commit

    @property
    def commit_number(self) -> int:
        return self.commit.number if self.commit else 0


def absent(revision: int = 0) -> Record:
    """No instance under this id; `revision` is that of a delete or expiry marker, if any."""
    return Record(None, None, revision, flushed=True)


@dataclass(slots=True)
class Sealed:
    """A commit as it is to be stored: first `beside` (key, JSON), then `value`."""

    value: bytes
    beside: list[tuple[str, bytes]]
    watch: Watch | None
    size: int  # bytes of all that the snapshot is


def seal(
    snapshot: JsonObject, commit: Commit, watch: Watch | None, rules: Rules = DEFAULT_RULES
) -> Sealed:
    """What is to be stored for `commit`, whose `apart` and `dropped` are decided here.

    `watch` is that of the record which the snapshot replaces. One that has ended is stored whole:
    it is written once, and then only expires.
    """
    commit.apart, commit.dropped = {}, []
    ended = snapshot["status"] in TERMINAL
    if watch is None or ended:
        commit.dropped = [] if watch is None else large_values.whole(watch)
        value = encode(snapshot, commit)
        if ended or len(value) < rules.snapshot:
            return Sealed(value, [], None, len(value))
    plan = large_values.plan(snapshot, watch or Watch(), commit.token, rules)
    commit.apart, commit.dropped = plan.places, plan.dropped
    value = encode(plan.snapshot, commit)
    beside = [(str(one.key), orjson.dumps(one.content)) for one in plan.values]
    return Sealed(value, beside, plan.watch, len(value) + plan.size)


def built(
    snapshot: JsonObject | None, commit: Commit | None, sealed: Sealed, revision: int
) -> Record:
    """The record of a commit that is stored, with its outbox still to be published."""
    if sealed.watch is not None:
        large_values.landed(sealed.watch)
    return Record(snapshot, commit, revision, flushed=False, size=sealed.size, watch=sealed.watch)


def encode(snapshot: JsonObject, commit: Commit) -> bytes:
    """The KV value."""
    outbox: JsonObject = {"number": commit.number, "token": commit.token, "events": commit.events}
    for key in OPTIONAL:
        value = getattr(commit, key)
        if value:
            outbox[key] = value
    return orjson.dumps({**snapshot, "commit": outbox})


def decode(stored: Stored | None) -> Record:
    """What a KV subject's last message says; a marker of deletion or expiry means absent.

    What `apart` of its commit names is still missing: see `complete`. What is no state gives a
    record that is `unusable`.
    """
    if stored is None:
        return absent()
    if stored.is_marker:
        return absent(stored.sequence)
    try:
        snapshot = snapshot_of(stored.data, stored.subject.rpartition(".")[2])
        commit = _commit(snapshot.pop("commit"))
    except (MessageError, AttributeError, KeyError, TypeError, ValueError) as error:
        return unusable(stored.sequence, gate.error_text(error))
    return Record(snapshot, commit, stored.sequence, flushed=False, size=len(stored.data))


def unusable(revision: int, reason: str) -> Record:
    """An instance whose stored state nobody can go on with (orchestrator/engine/quarantine.py)."""
    return Record(None, None, revision, flushed=True, unusable=reason)


def _commit(raw: JsonObject) -> Commit:
    if not all(is_key(key) for key in raw.get("apart", ())):
        raise ValueError("commit: /apart has what is no key")
    return Commit(
        number=operator.index(raw["number"]),
        token=raw["token"],
        events=[(_text(stream), operator.index(sequence)) for stream, sequence in raw["events"]],
        history=[_history_entry(*entry) for entry in raw.get("history", ())],
        tasks=raw.get("tasks", []),
        timers=raw.get("timers", []),
        cancelled=raw.get("cancelled", []),
        sends=[tuple(entry) for entry in raw.get("sends", ())],
        dead=[tuple(entry) for entry in raw.get("dead", ())],
        parked=raw.get("parked", False),
        lifecycle=raw.get("lifecycle", False),
        trace=raw.get("trace"),
        apart=dict(raw.get("apart", {})),
        dropped=raw.get("dropped", []),
    )


def _history_entry(
    now_ms: Any, stream: Any, sequence: Any, entries: Any, overlay: Any
) -> HistoryEntry:
    if not isinstance(entries, list) or not isinstance(overlay, dict):
        raise TypeError("commit: /history has what is no entry")
    return operator.index(now_ms), _text(stream), operator.index(sequence), entries, overlay


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"commit: {type(value).__name__} where a text belongs")
    return value


def complete(record: Record, beside: dict[str, bytes]) -> list[str]:
    """Put the values back that are stored beside the snapshot. `beside`: their JSON, by key.
    Returns the keys whose value is not there. Raises MessageError, LookupError or TypeError when
    these are no values, or have no place."""
    assert record.commit is not None
    assert record.snapshot is not None
    values = {key: gate.decode(data, key, depth=gate.STORED_DEPTH) for key, data in beside.items()}
    record.watch = large_values.restored(values, {key: len(data) for key, data in beside.items()})
    record.size += sum(len(data) for data in beside.values())
    return put_back(record.snapshot, record.commit.apart, values)


def is_published(commit: Commit, floors: dict[str, int]) -> bool:
    """True when acknowledgements prove that the outbox of `commit` was published.

    An event is acked only after the outbox of the commit that applied it. `floors`: stream →
    ack floor of its consumer, read before the snapshot was.
    """
    return all(sequence <= floors.get(stream, 0) for stream, sequence in commit.events)
