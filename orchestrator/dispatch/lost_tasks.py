"""Tasks that are gone without an outcome are found, slowly, and sent out again.

A task may be purged, deleted by hand, acknowledged by a stranger, or lost with its stream; no
advisory tells of that, and its run would be open for ever. So every snapshot that has not changed
for a while is read once, from a cursor that only goes forward, and its open runs are noted. A run
is lost when

1. its task had been stored: the events of the commit that sent it are acknowledged, which they are
   only after its outbox is published; call this moment t;
2. and the queue of its activity is past it: the first task above the consumer's ack floor is
   younger than t, or there is none;
3. and what its worker may have stored before is applied: the engine has acknowledged every event
   that there was then;
4. and its snapshot is still the same.

Then the same attempt is sent again, under another message id. It counts against no policy. That a
task runs twice when it was not lost after all is what at-least-once allows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

import orjson
from loguru import logger

from orchestrator.dispatch.outbox import task_message
from orchestrator.machine import TERMINAL
from orchestrator.state.commit import Record
from orchestrator.state.snapshot_store import CONSUMERS, Store
from wf.jetstream import topology
from wf.jetstream.port import Accepted, Outgoing, Port, Stored
from wf.protocol import messages, subjects

SNAPSHOTS = subjects.state("*")
PAGE_BYTES = 1024 * 1024  # of snapshots that are read at once, about
PAGES = 20  # in one look
MOST = 20_000  # runs that are noted; the cursor waits while there are so many
MOST_AT_ONCE = 50  # instances of which tasks are sent again in one look
SKEW_MS = 10_000  # by which clocks of the broker's servers, and ours, may differ


@dataclass(slots=True)
class Noted:
    """A run that was open in a snapshot which had not changed for a while."""

    instance: str
    revision: int
    run: int
    attempt: int
    activity: str
    events: tuple[tuple[str, int], ...]  # of the snapshot's last commit: (stream, sequence)
    stored_by_ms: int | None = None  # its task was stored by then; None: not known yet
    events_up_to: int | None = None  # its task is gone; results were stored up to there


def open_runs(stored: Stored) -> list[Noted]:
    """The runs of a stored snapshot whose tasks should be in a queue, or with a worker."""
    try:
        value = orjson.loads(stored.data)
        commit = value["commit"]
        if value["status"] in TERMINAL or commit.get("parked"):
            return []  # a parked outbox is published later, by a commit of its own
        if value["status"] == "suspended":
            return []  # what has come of its runs may be held; its `resume` is a new snapshot
        events = tuple(
            (str(stream), int(sequence)) for stream, sequence in commit.get("events", ())
        )
        return [
            Noted(
                value["id"], stored.sequence, int(run), found["attempt"], found["activity"], events
            )
            for run, found in value["runs"].items()
            if "activity" in found and "timer" not in value["frames"].get(found["frame"], ())
        ]
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError):
        return []  # no snapshot of ours: whoever loads it says so


def is_passed(noted: Noted, first: Stored | None) -> bool:
    """Whether the queue is past its task. `first`: the first task that is not acknowledged."""
    assert noted.stored_by_ms is not None
    return first is None or first.timestamp_ms > noted.stored_by_ms + SKEW_MS


@dataclass(slots=True)
class Searching:
    """Call `look` now and then. `after_s`: how long a snapshot has not changed."""

    port: Port
    store: Store
    after_s: float
    now_ms: Callable[[], int]
    _cursor: int = 1
    _page: int = 1
    _noted: dict[tuple[str, int], Noted] = field(default_factory=dict)

    def again(self) -> None:
        """Begin anew: the streams are not what they were."""
        self._cursor = 1
        self._noted.clear()

    async def look(self) -> int:
        """One round; how many tasks were sent again. Raises BrokerError."""
        floors = {
            stream: await self.port.ack_floor(stream, consumer) for stream, consumer in CONSUMERS
        }
        await self._read()
        self._date(floors)
        await self._follow_queues()
        return await self._settle()

    async def _read(self) -> None:
        """Note the open runs of snapshots that have become old enough."""
        for _ in range(PAGES):
            if len(self._noted) >= MOST:
                return
            page = await self.port.scan(
                topology.WORKFLOW_STATES, SNAPSHOTS, from_sequence=self._cursor, limit=self._page
            )
            oldest_ms = self.now_ms() - self.after_s * 1000
            for stored in page:
                if stored.timestamp_ms > oldest_ms:
                    self._page = 1
                    return
                self._cursor = stored.sequence + 1
                for noted in open_runs(stored):
                    self._noted[noted.instance, noted.run] = noted
            if len(page) < self._page:
                self._page = 1
                return
            average = sum(len(stored.data) for stored in page) // len(page)
            self._page = max(1, min(2 * self._page, PAGE_BYTES // max(average, 1024)))

    def _date(self, floors: dict[str, int]) -> None:
        """Say of those whose outbox is published by now that it was."""
        for noted in self._noted.values():
            if noted.stored_by_ms is None and all(
                sequence <= floors.get(stream, 0) for stream, sequence in noted.events
            ):
                noted.stored_by_ms = self.now_ms()

    async def _follow_queues(self) -> None:
        waiting = [
            noted
            for noted in self._noted.values()
            if noted.stored_by_ms is not None and noted.events_up_to is None
        ]
        passed = []
        for activity in sorted({noted.activity for noted in waiting}):
            first = await self._first_open(activity)
            passed += [n for n in waiting if n.activity == activity and is_passed(n, first)]
        if passed:
            newest = await self.port.last_sequence(topology.WORKFLOW_EVENTS)
            for noted in passed:
                noted.events_up_to = newest

    async def _first_open(self, activity: str) -> Stored | None:
        """The first task that is not acknowledged. The floor is read before the stream is."""
        floor = await self.port.ack_floor(topology.ACTIVITY_TASKS, topology.consumer_name(activity))
        found = await self.port.scan(
            topology.ACTIVITY_TASKS, subjects.task(activity), from_sequence=floor + 1, limit=1
        )
        return found[0] if found else None

    async def _settle(self) -> int:
        """Those whose results, if there were any, are applied: still open means lost."""
        applied = await self.port.ack_floor(topology.WORKFLOW_EVENTS, topology.ORCHESTRATOR)
        ready: dict[str, list[Noted]] = {}
        for noted in self._noted.values():
            if noted.events_up_to is not None and noted.events_up_to <= applied:
                ready.setdefault(noted.instance, []).append(noted)
        instances = list(ready)[:MOST_AT_ONCE]
        records = await self.store.read(instances) if instances else {}
        sent = 0
        for instance in instances:
            sent += await self._send_again(records[instance], ready[instance])
        return sent

    async def _send_again(self, record: Record, lost: Iterable[Noted]) -> int:
        sent = 0
        for noted in lost:
            if record.snapshot is None or record.revision != noted.revision or record.missing:
                self._noted.pop((noted.instance, noted.run), None)  # the cursor sees its next one
            elif await self._stored(self._message(record, noted)):
                self._noted[noted.instance, noted.run] = replace(
                    noted, stored_by_ms=self.now_ms(), events_up_to=None
                )
                sent += 1
                logger.bind(
                    instance=noted.instance,
                    run=noted.run,
                    attempt=noted.attempt,
                    activity=noted.activity,
                ).warning("task.lost")
        return sent

    def _message(self, record: Record, noted: Noted) -> Outgoing:
        assert record.snapshot is not None
        trace = record.commit.trace if record.commit is not None else None
        known = messages.task_message_id(noted.instance, noted.run, noted.attempt)
        # The same for all engines that find it in the same round, another in the next.
        again = f"{known}:again:{self.now_ms() // max(1, round(self.after_s * 1000))}"
        return replace(task_message(record.snapshot, noted.run, trace), message_id=again)

    async def _stored(self, message: Outgoing) -> bool:
        (outcome,) = await self.port.publish(topology.ACTIVITY_TASKS, [message])
        if not isinstance(outcome, Accepted):  # a full queue, as a rule: later
            logger.bind(subject=message.subject, outcome=str(outcome)).info("task.lost.later")
        return isinstance(outcome, Accepted)


def period_s(after_s: float) -> float:
    """How often to look."""
    return min(30.0, max(0.2, after_s / 5))
