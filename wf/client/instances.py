"""Instances as a client sees them: snapshots from the KV, history from its stream."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from wf.errors import MessageError, NotFound, WorkflowCancelled, WorkflowFaulted
from wf.jetstream import paging, topology
from wf.jetstream.port import Port, Stored
from wf.protocol import gate, large_values, messages, subjects

JsonObject = dict[str, Any]

STATUSES = (
    "pending",
    "running",
    "waiting",
    "suspended",
    "compensating",
    "cancelled",
    "faulted",
    "completed",
)
_SHAPE: dict[str, type | tuple[type, ...]] = {
    "workflow": str,
    "namespace": str,
    "version": str,
    "status": str,
    "frames": dict,
    "runs": dict,
    "timers": dict,
    "commit": dict,
}
_COMMIT: dict[str, type] = {
    "number": int,
    "token": str,
    "events": list,
    "history": list,
    "tasks": list,
    "timers": list,
    "cancelled": list,
    "sends": list,
    "dead": list,
    "apart": dict,
    "dropped": list,
}
TERMINAL = frozenset({"cancelled", "faulted", "completed"})
QUARANTINED = "quarantined"  # what is stored is no state; never stored itself

UNREADABLE = "unreadable"  # kind of a message of history that is none
LAST_COMMIT = 2**63
_HISTORY: dict[str, type] = {"commit": int, "n": int, "now_ms": int, "event": dict, "entries": list}

PAGE = 1000  # messages a read
REREAD_PAUSE_S = (0.0, 0.02, 0.1, 0.5)
WINDOW = 20_000  # history messages that `recent` reads at most


@dataclass(slots=True, frozen=True)
class Instance:
    """One instance at one revision. `snapshot` is all that is stored of it, `commit` included."""

    id: str
    revision: int
    snapshot: JsonObject

    @property
    def workflow(self) -> str:
        """`order`, or `sales.order` outside the default namespace."""
        namespace = self.snapshot.get("namespace") or subjects.DEFAULT_NAMESPACE
        return subjects.qualified(namespace, self.snapshot.get("workflow") or "")

    @property
    def version(self) -> str | None:
        return self.snapshot.get("version")

    @property
    def status(self) -> str:
        return str(self.snapshot.get("status", "pending"))

    @property
    def output(self) -> Any:
        return self.snapshot.get("output")

    @property
    def error(self) -> JsonObject | None:
        """The RFC 7807 error of a faulted instance."""
        return self.snapshot.get("error")

    @property
    def started_ms(self) -> int | None:
        return self.snapshot.get("started_ms")

    @property
    def ended_ms(self) -> int | None:
        return self.snapshot.get("ended_ms")

    @property
    def is_terminal(self) -> bool:
        return self.status in TERMINAL

    def raise_unless_completed(self) -> None:
        """Raise WorkflowFaulted or WorkflowCancelled when the instance ended so."""
        if self.status == "faulted":
            error = self.error or {}
            raise WorkflowFaulted(
                f"instance {self.id} of {self.workflow} faulted: {describe_error(error)}",
                instance=self.id,
                error=error,
            )
        if self.status == "cancelled":
            raise WorkflowCancelled(f"instance {self.id} of {self.workflow} was cancelled")

    def public(self) -> JsonObject:
        """The snapshot without the engine's own record of its last commit."""
        return {key: value for key, value in self.snapshot.items() if key != "commit"}


@dataclass(slots=True, frozen=True)
class HistoryEntry:
    """One message of an instance's history: an inbound event, and what the machine made of it."""

    commit: int
    n: int
    now_ms: int
    definition: str  # "order 1.0.0", or "sales.order 1.0.0"
    event: JsonObject
    entries: list[JsonObject]
    message: JsonObject  # the whole body


@dataclass(slots=True, frozen=True)
class Recent:
    """The newest instances that a bounded tail of history names, newest first."""

    instances: list[Instance]
    window: int  # how many history messages were read at most
    bounded: bool  # true: older instances exist that were not looked at


def describe_error(error: JsonObject) -> str:
    """`title: detail (pointer)` of an RFC 7807 object, as far as it has them."""
    title, detail = error.get("title"), error.get("detail")
    text = ": ".join(str(part) for part in (title, detail) if part) or "no details"
    return f"{text} (at {error['instance']})" if error.get("instance") else text


def from_stored(stored: Stored | None) -> Instance | None:
    """The instance that a KV message holds; None for none, and for a mark of its expiry. One whose
    state cannot be read has the status `quarantined`, and an error that says what is wrong."""
    if stored is None or stored.is_marker:
        return None
    identifier = stored.subject.rpartition(".")[2]
    try:
        snapshot = snapshot_of(stored.data, identifier)
    except MessageError as error:
        snapshot = _quarantined(identifier, str(error))
    return Instance(identifier, stored.sequence, snapshot)


def snapshot_of(data: bytes, instance: str) -> JsonObject:
    """The snapshot, `commit` included, that is stored of `instance`. Raises MessageError for
    what is none, or another one's."""
    snapshot = gate.decode(data, "state", depth=gate.STORED_DEPTH)
    if not isinstance(snapshot, dict):
        raise MessageError(f"state: expected a JSON object, found {type(snapshot).__name__}")
    beside = _stored_beside(snapshot.get("commit"))
    for key, kind in _SHAPE.items():
        if key not in beside and not isinstance(snapshot.get(key), kind):
            raise MessageError(f"state: /{key} is missing, or of a wrong type")
    if "id" not in beside and snapshot.get("id") != instance:
        raise MessageError(f"state: /id is not {instance}")
    for key in {"frames", "runs", "timers"} - beside:
        if not all(isinstance(entry, dict) for entry in snapshot[key].values()):
            raise MessageError(f"state: /{key} has an entry that is no object")
    for key, kind in _COMMIT.items():
        if not isinstance(snapshot["commit"].get(key, kind()), kind):
            raise MessageError(f"state: /commit/{key} is of a wrong type")
    if "number" not in snapshot["commit"] or "token" not in snapshot["commit"]:
        raise MessageError("state: /commit has no number, or no token")
    if "status" not in beside and snapshot["status"] not in STATUSES:
        raise MessageError(f"state: /status {gate.text(snapshot['status'], 80)!r} is not known")
    return snapshot


def _stored_beside(commit: object) -> set[str]:
    """Members of the snapshot itself that the commit has set apart."""
    try:
        places = large_values.places({"commit": commit}).values()
        return {path[0] for paths in places for path in paths if len(path) == 1}
    except (AttributeError, LookupError, TypeError):
        raise MessageError("state: /commit/apart does not name places") from None


def _quarantined(instance: str, reason: str) -> JsonObject:
    return {
        "id": instance,
        "status": QUARANTINED,
        "error": {
            "type": "about:blank",
            "status": 500,
            "title": "State unreadable",
            "detail": f"{reason}. `wf retry {instance}` restores it from its history and goes on, "
            f"`wf cancel {instance}` restores and cancels it",
        },
    }


async def find(port: Port, instance: str) -> Instance | None:
    """The instance, or None when there is no snapshot of it."""
    subjects.check_name("instance", instance)
    for pause_s in REREAD_PAUSE_S:
        found = from_stored(await port.last(topology.WORKFLOW_STATES, subjects.state(instance)))
        if found is None or await _complete(port, found):
            return found
        await asyncio.sleep(pause_s)  # it has gone on, and dropped what it does not name any more
    return found


async def _complete(port: Port, instance: Instance) -> bool:
    """Read what is stored beside the snapshot. False: some of it is gone."""
    places = large_values.places(instance.snapshot)
    if not places:
        return True
    keys = {subjects.state_value(instance.id, key): key for key in places if subjects.is_key(key)}
    stored = await port.last_many(topology.WORKFLOW_STATES, list(keys))
    try:
        values = {
            keys[name]: gate.decode(one.data, name, depth=gate.STORED_DEPTH)
            for name, one in stored.items()
        }
        return not large_values.put_back(instance.snapshot, places, values)
    except (MessageError, AttributeError, KeyError, TypeError, IndexError) as error:
        reason = f"what is stored beside it: {gate.error_text(error)}"
        instance.snapshot.clear()
        instance.snapshot.update(_quarantined(instance.id, reason))
        return True


async def get(port: Port, instance: str) -> Instance:
    """The instance. Raises NotFound."""
    found = await find(port, instance)
    if found is None:
        raise NotFound(
            f"there is no instance {instance!r}: it was never started, the orchestrator has not "
            "taken its start yet, or it ended so long ago that its snapshot expired "
            f"(`wf history {instance}` may still tell)"
        )
    reason = None if found.is_terminal else await _unusable(port, found)
    return found if reason is None else replace(found, snapshot=_quarantined(instance, reason))


async def _unusable(port: Port, instance: Instance) -> str | None:
    """Why the engine cannot go on with just this state, as its dead letter says."""
    subject = subjects.dead_letter("state", instance.id)
    letter = await port.last(topology.DEAD_LETTERS, subject)
    if letter is None:
        return None
    try:
        evidence = gate.decode(letter.data, depth=gate.STORED_DEPTH)["evidence"]
        return str(evidence["reason"]) if evidence["revision"] == instance.revision else None
    except (MessageError, LookupError, TypeError):
        return None


async def history(port: Port, instance: str) -> list[HistoryEntry]:
    """The instance's history in commit order, duplicates skipped; [] when there is none."""
    subjects.check_name("instance", instance)
    subject = subjects.history(instance)
    stored: list[Stored] = []
    start = 1
    while True:
        page = await port.scan(topology.WORKFLOW_HISTORY, subject, from_sequence=start, limit=PAGE)
        stored.extend(page)
        if not page:
            return order(_history_entry(message) for message in stored)
        start = page[-1].sequence + 1


async def recent(
    port: Port, *, limit: int = 20, status: str | None = None, window: int = WINDOW
) -> Recent:
    """The newest `limit` instances (of one status), found in the last `window` of history.

    Reads history backwards, a page at a time, and never all keys: what happened before the window
    is not seen, and `bounded` says that there was more.
    """
    found: list[Instance] = []
    seen: set[str] = set()
    end = await port.last_sequence(topology.WORKFLOW_HISTORY)
    oldest = max(1, end - window + 1)
    while end >= oldest and len(found) < limit:
        first = max(oldest, end - PAGE + 1)
        names = [name for name in await _names_between(port, first, end) if name not in seen]
        seen.update(names)
        for instance in await find_many(port, names):
            if status in (None, instance.status):
                found.append(instance)
        end = first - 1
    return Recent(found[:limit], window, bounded=len(found) < limit and oldest > 1)


async def find_many(port: Port, names: Sequence[str]) -> list[Instance]:
    """Those of the named instances that have a snapshot, in the order of `names`. Large values
    that are stored beside a snapshot are not read."""
    if not names:
        return []
    wanted = [subjects.state(name) for name in names]
    found: dict[str, Instance | None] = {}
    async for page in paging.last_pages(port, topology.WORKFLOW_STATES, wanted):
        found.update((subject, from_stored(stored)) for subject, stored in page.items())
    instances = (found.get(subject) for subject in wanted)
    return [instance for instance in instances if instance is not None]


async def _names_between(port: Port, first: int, last: int) -> list[str]:
    """Instances with history from `first` to `last`, the latest first."""
    names: list[str] = []
    subject = subjects.history(">")
    async for page in paging.between(port, topology.WORKFLOW_HISTORY, subject, first, last):
        names += [message.subject.rpartition(".")[2] for message in page]
    return list(dict.fromkeys(reversed(names)))


def _history_entry(stored: Stored) -> HistoryEntry:
    """As `parse_history`; what somebody else wrote there comes last, as what it is."""
    try:
        return parse_history(stored)
    except MessageError as error:
        entry: JsonObject = {"type": UNREADABLE, "reason": str(error)}
        event = {"kind": UNREADABLE}
        time_ms, sequence = stored.timestamp_ms, stored.sequence
        return HistoryEntry(LAST_COMMIT, sequence, time_ms, "?", event, [entry], {})


def parse_history(stored: Stored) -> HistoryEntry:
    """One message of WORKFLOW_HISTORY. Raises MessageError for what is none of version 1."""
    body = messages.decode(stored.data, stored.subject, depth=gate.STORED_DEPTH)
    for key, kind in _HISTORY.items():
        if not isinstance(body.get(key, kind()), kind):
            raise MessageError(f"{stored.subject}: /{key} is of a wrong type")
    if not all(isinstance(entry, dict) for entry in body.get("entries", ())):
        raise MessageError(f"{stored.subject}: /entries has what is no object")
    return HistoryEntry(
        commit=body.get("commit", 0),
        n=body.get("n", 0),
        now_ms=body.get("now_ms", stored.timestamp_ms),
        definition=_definition_of(body),
        event=body.get("event") or {},
        entries=body.get("entries") or [],
        message=body,
    )


def _definition_of(body: JsonObject) -> str:
    namespace = body.get("namespace") or subjects.DEFAULT_NAMESPACE
    name = subjects.qualified(namespace, str(body.get("workflow", "?")))
    return f"{name} {body.get('version') or ''}".strip()


def order(entries: Iterable[HistoryEntry]) -> list[HistoryEntry]:
    """By (commit, n), each once: a replayed outbox may have stored a message twice."""
    unique = {(entry.commit, entry.n): entry for entry in entries}
    return [unique[key] for key in sorted(unique)]
