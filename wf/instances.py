"""Instances as a client sees them: snapshots from the KV, history from its stream."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import orjson

from wf import messages, subjects
from wf.errors import NotFound, WorkflowCancelled, WorkflowFaulted
from wf.jetstream import topology
from wf.jetstream.port import Port, Stored

JsonObject = dict[str, Any]

STATUSES = ("pending", "running", "waiting", "suspended", "cancelled", "faulted", "completed")
TERMINAL = frozenset({"cancelled", "faulted", "completed"})

PAGE = 1000
_MARKERS = ("KV-Operation", "Nats-Marker-Reason")


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
    definition: str | None  # "order 1.0.0"
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
    """The instance that a KV message holds; None for none, and for a mark of its expiry."""
    if stored is None or (stored.headers and any(name in stored.headers for name in _MARKERS)):
        return None
    identifier = stored.subject.rpartition(".")[2]
    return Instance(identifier, stored.sequence, orjson.loads(stored.data))


async def find(port: Port, instance: str) -> Instance | None:
    """The instance, or None when there is no snapshot of it."""
    subjects.check_name("instance", instance)
    return from_stored(await port.last(topology.KV_STATES, subjects.state(instance)))


async def get(port: Port, instance: str) -> Instance:
    """The instance. Raises NotFound."""
    found = await find(port, instance)
    if found is None:
        raise NotFound(
            f"there is no instance {instance!r}: it was never started, the orchestrator has not "
            "taken its start yet, or it ended so long ago that its snapshot expired "
            f"(`wf history {instance}` may still tell)"
        )
    return found


async def history(port: Port, instance: str) -> list[HistoryEntry]:
    """The instance's history in commit order, duplicates skipped; [] when there is none."""
    subjects.check_name("instance", instance)
    subject = subjects.history(instance)
    stored: list[Stored] = []
    start = 1
    while True:
        page = await port.scan(topology.WORKFLOW_HISTORY, subject, from_sequence=start, limit=PAGE)
        stored.extend(page)
        if len(page) < PAGE:
            return order(parse_history(message) for message in stored)
        start = page[-1].sequence + 1


async def recent(
    port: Port, *, limit: int = 20, status: str | None = None, window: int | None = None
) -> Recent:
    """The newest `limit` instances (of one status), from the last `window` history messages.

    Never reads all keys: what happened longer ago than the window is not seen, and `bounded` says
    that there was more.
    """
    if window is None:
        window = max(2_000, limit * 50)
    last = await port.last_sequence(topology.WORKFLOW_HISTORY)
    first = max(1, last - window + 1)
    names = _newest_first(await _tail(port, first, window))
    found: list[Instance] = []
    for start in range(0, len(names), PAGE // 2):
        chunk = names[start : start + PAGE // 2]
        states = await port.last_many(topology.KV_STATES, [subjects.state(name) for name in chunk])
        for name in chunk:
            instance = from_stored(states.get(subjects.state(name)))
            if instance is not None and status in (None, instance.status):
                found.append(instance)
        if len(found) >= limit:
            return Recent(found[:limit], window, bounded=False)
    return Recent(found, window, bounded=first > 1)


async def _tail(port: Port, first: int, window: int) -> list[Stored]:
    stored: list[Stored] = []
    start = first
    while len(stored) < window:
        limit = min(PAGE, window - len(stored))
        page = await port.scan(
            topology.WORKFLOW_HISTORY, subjects.history(">"), from_sequence=start, limit=limit
        )
        stored.extend(page)
        if len(page) < limit:
            break
        start = page[-1].sequence + 1
    return stored


def _newest_first(stored: list[Stored]) -> list[str]:
    names = (message.subject.rpartition(".")[2] for message in reversed(stored))
    return list(dict.fromkeys(names))


def parse_history(stored: Stored) -> HistoryEntry:
    """One message of WORKFLOW_HISTORY. Raises MessageError for what is not version 1."""
    body = messages.decode(stored.data, stored.subject)
    return HistoryEntry(
        commit=body.get("commit", 0),
        n=body.get("n", 0),
        now_ms=body.get("now_ms", stored.timestamp_ms),
        definition=body.get("definition"),
        event=body.get("event") or {},
        entries=body.get("entries") or [],
        message=body,
    )


def order(entries: Iterable[HistoryEntry]) -> list[HistoryEntry]:
    """By (commit, n), each once: a replayed outbox may have stored a message twice."""
    unique = {(entry.commit, entry.n): entry for entry in entries}
    return [unique[key] for key in sorted(unique)]
