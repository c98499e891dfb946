"""Watches what the broker stores and what is acked, and checks the order (docs/design.md §5, 2 and
4).

- A snapshot is stored before anything that it implies.
- All that a stored commit implies is stored before its events are acked, and before the next
  commit of the instance takes its place.
- A task is acked after a result of it is stored.
- Nothing is purged that was not acked.
- Of a workflow with a limit never more run at once.
- What a stored snapshot has set apart is there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import orjson

from orchestrator.dispatch import outbox as building
from orchestrator.ingest.messages_in import FLUSH_TIMER
from orchestrator.state import commit as records
from orchestrator.state.snapshot_store import CONSUMERS
from tests.simulation import beside, line, litter
from tests.support.memory.broker import Watcher
from tests.support.memory.consumer import MemoryConsumer
from tests.support.memory.matching import matches
from tests.support.memory.stream import MemoryStream, Message
from wf.jetstream import topology
from wf.protocol import subjects

Implied = tuple[str, str]  # stream, and message id, or subject where there is none

STATE_PREFIX = "$KV.WORKFLOW_STATES."
EVENT_CONSUMERS = dict(CONSUMERS)
# What an instance sends: it may only be stored when a stored commit implies it.
OUTGOING = frozenset({topology.ACTIVITY_TASKS, topology.WORKFLOW_HISTORY})


@dataclass
class Known:
    """The last stored commit of an instance."""

    number: int
    implied: set[Implied]
    awaited: set[Implied]  # of these, what must be stored before its events are acked
    parked: bool


@dataclass
class Ledger(Watcher):
    """`problem(text)` is called for whatever breaks a rule."""

    problem: Callable[[str], None]
    known: dict[str, Known] = field(default_factory=dict)
    allowed: set[Implied] = field(default_factory=set)
    stored_ones: set[Implied] = field(default_factory=set)
    applied: dict[tuple[str, int], tuple[str, int]] = field(default_factory=dict)
    owed: dict[tuple[str, int], set[Implied]] = field(default_factory=dict)
    acks: set[tuple[str, int]] = field(default_factory=set)
    results: set[tuple[str, int]] = field(default_factory=set)  # instance, run
    running: line.Running = field(default_factory=line.Running)
    commits: int = 0

    # Stored

    def rests(self, instance: str) -> bool:
        """Whether all that the last commit of the instance implies is stored."""
        known = self.known.get(instance)
        return known is not None and not known.parked and known.implied <= self.stored_ones

    def stored(self, stream: MemoryStream, message: Message) -> None:
        name = stream.name
        if (message.message_id or "").startswith(litter.KEY):
            return
        if name == topology.WORKFLOW_STATES:
            if message.data and matches(subjects.state("*"), message.subject):
                self._snapshot(stream, message)
            return
        implied = (name, message.message_id or message.subject)
        self.stored_ones.add(implied)
        if name in OUTGOING and implied not in self.allowed:
            self.problem(f"{implied} is stored, and no stored snapshot implies it")
        elif name == topology.WORKFLOW_TIMERS and matches(
            topology.SCHEDULED_TIMERS, message.subject
        ):
            flush = message.subject.endswith(f".{FLUSH_TIMER}")
            if not flush and implied not in self.allowed:
                self.problem(f"{implied} is scheduled, and no stored snapshot implies it")
        elif name == topology.WORKFLOW_EVENTS and ".completed." in message.subject:
            body = orjson.loads(message.data)
            if "run" in body:
                self.results.add((message.subject.split(".")[3], body["run"]))

    def _snapshot(self, stream: MemoryStream, message: Message) -> None:
        record = records.decode(message.stored())
        for wrong in beside.completed(stream, message.subject.removeprefix(STATE_PREFIX), record):
            self.problem(wrong)
        snapshot, commit = record.snapshot, record.commit
        assert snapshot is not None
        assert commit is not None
        if (wrong_now := self.running.stored(snapshot)) is not None:
            self.problem(wrong_now)
        instance = message.subject.removeprefix(STATE_PREFIX)
        self.commits += 1
        implied = _implied(snapshot, commit)
        tasks = {one for one in implied if one[0] == topology.ACTIVITY_TASKS}
        before = self.known.get(instance)
        if before is not None and commit.number == before.number:
            if implied - tasks or (commit.parked and not tasks):
                self.problem(f"{instance}: commit {commit.number} is rewritten, not only parked")
            if not commit.parked:
                self._all_stored(instance, tasks | before.implied, "unparked")
            self.known[instance] = Known(commit.number, before.implied, set(), commit.parked)
            return
        if before is not None:
            self._built_upon(instance, before, commit, tasks)
        elif commit.number != 1:
            self.problem(f"{instance}: its first commit has the number {commit.number}")
        awaited = implied - tasks if commit.parked else implied
        self.known[instance] = Known(commit.number, implied, awaited, commit.parked)
        self.allowed |= implied
        for event in commit.events:
            if event in self.applied:
                self.problem(f"{event} is applied by {self.applied[event]} and once more")
            self.applied[event] = (instance, commit.number)
            self.owed[event] = awaited

    def _built_upon(
        self, instance: str, before: Known, commit: records.Commit, tasks: set[Implied]
    ) -> None:
        if commit.number != before.number + 1:
            self.problem(f"{instance}: commit {commit.number} follows {before.number}")
        if not before.parked:
            what = f"commit {before.number} is overwritten"
            self._all_stored(instance, before.awaited, what)

    def _all_stored(self, instance: str, implied: set[Implied], what: str) -> None:
        missing = implied - self.stored_ones
        if missing:
            self.problem(f"{instance}: {what}, and {sorted(missing)} is not stored")

    # Acked

    def acked(self, consumer: MemoryConsumer, sequence: int) -> None:
        stream = consumer.stream.name
        self.acks.add((stream, sequence))
        if EVENT_CONSUMERS.get(stream) == consumer.name:
            missing = self.owed.get((stream, sequence), set()) - self.stored_ones
            if missing and not self._moved_on(stream, sequence):
                where = self.applied[stream, sequence]
                self.problem(f"{stream} {sequence} of {where} is acked without {sorted(missing)}")
        elif stream == topology.ACTIVITY_TASKS:
            message = consumer.stream.messages.get(sequence)
            if message is not None:
                task = orjson.loads(message.data)
                if (task["instance"], task["run"]) not in self.results:
                    self.problem(f"task {sequence} is acked and no result of it is stored")

    def _moved_on(self, stream: str, sequence: int) -> bool:
        """The event's commit was parked later on: what it owes is owed by a later commit."""
        instance, number = self.applied[stream, sequence]
        known = self.known[instance]
        return known.number > number or (known.number == number and known.parked)

    # Purged

    def purged(self, stream: MemoryStream, pattern: str | None, up_to: int | None) -> None:
        if stream.name == topology.WORKFLOW_STATES and pattern is not None:
            if (wrong := beside.still_named(stream, pattern)) is not None:
                self.problem(wrong)
            return
        watched = (topology.WORKFLOW_EVENTS, topology.ACTIVITY_TASKS)
        if stream.name not in watched:
            return
        for sequence, message in stream.messages.items():
            if up_to is not None and sequence > up_to:
                continue
            if pattern is not None and not matches(pattern, message.subject):
                continue
            if (stream.name, sequence) not in self.acks and not self._given_up(message):
                self.problem(f"{stream.name} {sequence} is purged and was never acked")

    def _given_up(self, message: Message) -> bool:
        """A task past max_deliver whose outcome is stored."""
        if not message.subject.startswith("activity.tasks."):
            return False
        task = orjson.loads(message.data)
        return (task["instance"], task["run"]) in self.results


def _implied(snapshot: records.JsonObject, commit: records.Commit) -> set[Implied]:
    events: list[records.JsonObject] = [{} for _ in commit.history]
    built = building.build(snapshot, commit, events)
    return {
        (stream, message.message_id or message.subject)
        for stream, messages in built.streams.items()
        for message in messages
    }
