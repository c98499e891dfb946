"""An offline run on the engine's way: apply, seal, store, publish, ack; with a crash in it. Pure.

What the process knew is gone with a crash. Its successor has the bytes that were stored, and the
messages of the streams; it publishes the outbox that it finds there, and gets the event again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from orchestrator.definition import Definition
from orchestrator.dispatch import outbox as outboxes
from orchestrator.dispatch.outbox import Outbox
from orchestrator.engine.apply import Applied, Limits, apply
from orchestrator.ingest.messages_in import Unreadable, event_of, read
from orchestrator.machine import TERMINAL
from orchestrator.state import commit as records
from orchestrator.state.commit import Commit, Record
from orchestrator.state.history import overlaid
from orchestrator.state.history_fold import fold, ordered
from orchestrator.state.large_values import DEFAULT_RULES, Rules
from tests.support.loopback import Coming, Loopback
from wf.errors import MessageError
from wf.jetstream import topology
from wf.jetstream.port import Delivery, Stored
from wf.protocol import messages, subjects
from wf.settings.models import OrchestratorLimits

JsonObject = dict[str, Any]

BEFORE_COMMIT = "before the commit"
BEFORE_PUBLISH = "after the commit, before the outbox"
BEFORE_ACK = "after the outbox, before the ack"
MOMENTS = (BEFORE_COMMIT, BEFORE_PUBLISH, BEFORE_ACK)

SNAPSHOT_BYTES = OrchestratorLimits().snapshot
MESSAGE_BYTES = 8 * 1024 * 1024 - 64 * 1024  # what the embedded broker takes

# So small that even a small definition has values apart, and reads them back after the crash.
EVERYTHING_APART = Rules(snapshot=0, value=48, rent=0)


class Crash(NamedTuple):
    """Where a run loses its process: at the event that makes commit `commit`."""

    commit: int
    moment: str


class Outcome(NamedTuple):
    """What a run came to. `whole`: nothing more would have come."""

    snapshot: JsonObject
    history: list[JsonObject]  # one message per event that took effect, in order
    folded: JsonObject | str  # what the history gives, or why it gives nothing
    whole: bool


@dataclass(slots=True)
class Trial:
    """One instance. `run`, then its outcome; `crash` None runs it through."""

    definition: Definition
    loopback: Loopback
    crash: Crash | None = None
    rules: Rules = DEFAULT_RULES
    happened: bool = False  # the crash
    _record: Record | None = None  # what the process knows; None: it has just started
    _value: bytes | None = None  # stored, and
    _beside: dict[str, bytes] = field(default_factory=dict)
    _revision: int = 0
    _floors: dict[str, int] = field(default_factory=dict)
    _tokens: int = 0

    def run(self, input: Any, max_events: int) -> Outcome:
        """From the start until nothing comes any more, or `max_events` were delivered."""
        self._start(input)
        left = max_events
        while left and (delivery := self.loopback.next()) is not None:
            self._take(delivery)
            left -= 1
        return self._outcome(whole=left > 0)

    def _start(self, input: Any) -> None:
        definition = self.definition
        subject = subjects.start(definition.namespace, definition.name)
        body = messages.start_body(
            instance=self.loopback.instance, input=input, version=definition.version
        )
        self.loopback.later(Coming(topology.WORKFLOW_EVENTS, subject, messages.encode(body)))

    def _take(self, delivery: Delivery) -> None:
        """Deliver a message until it is acked."""
        item = read(delivery)
        if isinstance(item, Unreadable):
            raise MessageError(f"{delivery.subject}: {item.reason}")
        acked = False
        while not acked:
            record = self._load()
            applied = apply(record, [item], self._lookup, self._limits(), self._token())
            acked = applied.commit is None or self._commit(record, applied, applied.commit)
        self._floors[delivery.stream] = delivery.sequence

    def _commit(self, record: Record, applied: Applied, commit: Commit) -> bool:
        """Snapshot, outbox, ack; False when the process died of the crash in between."""
        sealed = applied.sealed
        assert sealed is not None
        assert applied.snapshot is not None
        self._beside.update(sealed.beside)
        if self._dies(commit, BEFORE_COMMIT):
            return False
        self._revision += 1
        self._value = sealed.value
        if self._dies(commit, BEFORE_PUBLISH):
            return False
        self._publish(applied.outbox, applied.snapshot)
        if self._dies(commit, BEFORE_ACK):
            return False
        self._record = records.built(applied.snapshot, commit, sealed, self._revision)
        self._record.flushed = True
        if applied.snapshot["status"] in TERMINAL:
            self._record = None  # as the engine forgets it
        return True

    def _dies(self, commit: Commit, moment: str) -> bool:
        if self.happened or self.crash != Crash(commit.number, moment):
            return False
        self.happened = True
        self._record = None
        self.loopback.lose_acks()
        return True

    def _publish(self, outbox: Outbox, snapshot: JsonObject) -> None:
        self.loopback.publish(outbox, snapshot)
        for stream, subject in outbox.purges:
            if stream == topology.WORKFLOW_STATES:
                self._beside.pop(subject.rpartition(".")[2], None)

    def _load(self) -> Record:
        """From memory; else from what is stored, whose outbox is published first if it may not
        have been."""
        if self._record is None:
            self._record = record = self._stored()
            if record.commit is not None and record.snapshot is not None and not record.flushed:
                self._publish(self._rebuilt(record.snapshot, record.commit), record.snapshot)
                record.flushed = True
        return self._record

    def _stored(self) -> Record:
        if self._value is None:
            return records.absent()
        stored = Stored(
            "$KV.WORKFLOW_STATES.i", self._value, None, self._revision, self.loopback.now_ms
        )
        record = records.decode(stored)
        assert record.commit is not None
        beside = {key: self._beside[key] for key in record.commit.apart if key in self._beside}
        record.missing = records.complete(record, beside)
        record.flushed = records.is_published(record.commit, self._floors)
        return record

    def _rebuilt(self, snapshot: JsonObject, commit: Commit) -> Outbox:
        events = [
            overlaid(
                {} if "kind" in overlay else event_of(self.loopback.at(stream, sequence)), overlay
            )
            for _, stream, sequence, _, overlay in commit.history
        ]
        return outboxes.build(snapshot, commit, events)

    def _lookup(self, namespace: str, name: str, version: str | None) -> Definition | None:
        one = self.definition
        wanted = (one.namespace, one.name, version or one.version)
        return one if (namespace, name, one.version) == wanted else None

    def _limits(self) -> Limits:
        return Limits(SNAPSHOT_BYTES, MESSAGE_BYTES, apart=self.rules)

    def _token(self) -> str:
        self._tokens += 1
        return f"t{self._tokens}"

    def _outcome(self, *, whole: bool) -> Outcome:
        snapshot = self._stored().snapshot
        assert snapshot is not None
        history = self.loopback.history
        folded: JsonObject | str
        try:
            folded = fold(history, self._lookup) or "the history is empty"
        except MessageError as error:
            folded = str(error)
        return Outcome(snapshot, ordered(history), folded, whole)
