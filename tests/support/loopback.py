"""The broker and the workers of one offline instance, message by message. Pure.

It delivers at least once and spares the engine no duplicate: a task that is published again runs
again, a timer fires again. Only CLOUD_EVENTS knows its message ids, as a broker does for two
minutes. Time is virtual: it jumps to whatever comes next.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

import orjson

from orchestrator.cloudevents.listener_index import Listeners
from orchestrator.dispatch.outbox import Outbox
from orchestrator.machine.events.correlation import Key
from orchestrator.offline.stubs import Answer, Stubs
from wf.jetstream import topology
from wf.jetstream.port import Delivery, Outgoing, Stored
from wf.protocol import cloudevents, messages, subjects
from wf.protocol.messages import COMPLETED

JsonObject = dict[str, Any]

LATE_MS = 5_000  # how long after its duplicate a result comes once more
_INDEX = subjects.listener("")
_PLACES = subjects.place("")


class Coming(NamedTuple):
    """A message on its way to the engine, or to the listeners."""

    stream: str
    subject: str
    data: bytes
    task: Outgoing | None = None  # whose result it is
    scheduled: str = ""  # of a timer: the subject that unschedules it


@dataclass(slots=True)
class Loopback:
    """`publish` what the engine sends; `next` is what is delivered to it.

    `history` holds what was stored of it, duplicates too; `executions` how often each attempt of a
    run, as (run, attempt), was executed.
    """

    stubs: Stubs
    now_ms: int
    instance: str
    history: list[JsonObject] = field(default_factory=list)
    executions: Counter[tuple[int, int]] = field(default_factory=Counter)
    without_stub: dict[str, None] = field(default_factory=dict)  # names, in order
    _answers: dict[object, Answer] = field(default_factory=dict)
    _stored: dict[tuple[str, int], Stored] = field(default_factory=dict)
    _sequences: Counter[str] = field(default_factory=Counter)
    _index: Listeners = field(default_factory=Listeners)
    _clouds: list[Stored] = field(default_factory=list)
    _known: set[str] = field(default_factory=set)
    _queue: list[tuple[int, int, Coming]] = field(default_factory=list)
    _queued: int = 0

    # To the engine

    def later(self, coming: Coming, after_ms: int = 0) -> None:
        """Queue a message; those of one moment come in the order in which they were queued."""
        self._queued += 1
        heapq.heappush(self._queue, (self.now_ms + after_ms, self._queued, coming))

    def cloud_event(self, event: JsonObject, after_ms: int = 0) -> None:
        """A CloudEvent from outside."""
        subject = subjects.cloud_event(event["type"])
        self.later(Coming(topology.CLOUD_EVENTS, subject, orjson.dumps(event)), after_ms)

    def next(self) -> Delivery | None:
        """The message that comes next, at its time; None when none will come."""
        while self._queue:
            due_ms, _, coming = heapq.heappop(self._queue)
            self.now_ms = max(self.now_ms, due_ms)
            stored = self._store(coming)
            if coming.stream != topology.CLOUD_EVENTS:
                return Delivery(
                    stream=coming.stream,
                    consumer="",
                    subject=stored.subject,
                    data=stored.data,
                    headers=None,
                    sequence=stored.sequence,
                    delivered=1,
                    timestamp_ms=stored.timestamp_ms,
                    pending=0,
                    reply="",
                )
            self._clouds.append(stored)
            self._match(stored, self._index)
        return None

    def at(self, stream: str, sequence: int) -> Stored:
        """A message that was delivered, as its stream holds it."""
        return self._stored[stream, sequence]

    def _store(self, coming: Coming) -> Stored:
        self._sequences[coming.stream] += 1
        sequence = self._sequences[coming.stream]
        stored = Stored(coming.subject, coming.data, None, sequence, self.now_ms)
        self._stored[coming.stream, sequence] = stored
        return stored

    # From the engine

    def publish(self, outbox: Outbox, snapshot: JsonObject) -> None:
        """Store an outbox; `snapshot` is that of its commit."""
        take: dict[str, Callable[[Outgoing], None]] = {
            topology.ACTIVITY_TASKS: self._execute,
            topology.WORKFLOW_TIMERS: self._schedule,
            topology.WORKFLOW_EVENTS: lambda message: self._send(message, snapshot),
            topology.WORKFLOW_PLACES: self._admit,
            topology.WORKFLOW_HISTORY: self._keep,
            topology.WORKFLOW_LISTENERS: self._listen,
            topology.CLOUD_EVENTS: self._emit,
            topology.DEAD_LETTERS: lambda message: None,
        }
        for stream, outgoing in outbox.streams.items():
            for message in outgoing:
                take[stream](message)
        for stream, subject in outbox.purges:
            if stream == topology.WORKFLOW_TIMERS:
                self._queue = [one for one in self._queue if one[2].scheduled != subject]
                heapq.heapify(self._queue)

    def lose_acks(self) -> None:
        """Every task whose result is still on its way is delivered, and executed, once more; and
        so much later that its run is over, or at its next attempt, its result comes again."""
        coming = [one.task for _, _, one in sorted(self._queue) if one.task is not None]
        for task in {id(task): task for task in coming}.values():
            self._execute(task)
            self._execute(task, LATE_MS)

    def _keep(self, message: Outgoing) -> None:
        self.history.append(orjson.loads(message.data))

    def _execute(self, task: Outgoing, late_ms: int = 0) -> None:
        """As a worker does: the result of each execution is stored, and there may be several."""
        body = orjson.loads(task.data)
        activity = task.subject.removeprefix(subjects.task(""))
        run, attempt = body["run"], body["attempt"]
        if not late_ms:
            self.executions[run, attempt] += 1
        answer = self._answer((run, attempt), (body["pointer"], activity), body["input"])
        subject = subjects.completed(body["instance"], activity)
        data = messages.encode(_result(run, attempt, answer))
        coming = Coming(topology.WORKFLOW_EVENTS, subject, data, task)
        self.later(coming, answer.after_ms + late_ms)

    def _answer(self, key: object, names: tuple[str, str], input: Any) -> Answer:
        """Of one attempt: executed twice, it gives the same. The stubs' turns count attempts."""
        answer = self._answers.get(key)
        if answer is None:
            answer = self._answers[key] = self.stubs.answer(names, input, self.now_ms)
            if not answer.stubbed:
                self.without_stub[names[1]] = None
        return answer

    def _schedule(self, message: Outgoing) -> None:
        target = (message.headers or {})["Nats-Schedule-Target"]
        if subjects.parse_inbound(target).kind != "timer":
            return  # the workflow's next start is another instance's
        due = datetime.fromisoformat((message.headers or {})["Nats-Schedule"].removeprefix("@at "))
        due_ms = round(due.timestamp() * 1000)
        coming = Coming(topology.WORKFLOW_TIMERS, target, message.data, scheduled=message.subject)
        self.later(coming, max(due_ms - self.now_ms, 0))

    def _admit(self, message: Outgoing) -> None:
        """Nobody else stands in line."""
        key = message.subject.removeprefix(_PLACES)
        if message.data:
            turn = int(key.rsplit(".", 1)[1])
            data = messages.encode(messages.admit_body(turn=turn, entry=key))
            subject = subjects.own_place(self.instance, turn)
            self.later(Coming(topology.WORKFLOW_EVENTS, subject, data))

    def _send(self, message: Outgoing, snapshot: JsonObject) -> None:
        inbound = subjects.parse_inbound(message.subject)
        if inbound.instance == self.instance:
            self.later(Coming(topology.WORKFLOW_EVENTS, message.subject, message.data))
        elif inbound.kind == "own start":
            self._run_child(message, snapshot)

    def _run_child(self, message: Outgoing, snapshot: JsonObject) -> None:
        body = orjson.loads(message.data)
        number = body["parent"]["run"]
        run = snapshot["runs"].get(str(number))
        if run is None:
            return  # not awaited, or over already
        answer = self._answer(body["id"], (run["pointer"], run["workflow"]), body["input"])
        told: JsonObject = {"status": "faulted", "error": answer.error}
        if answer.outcome == COMPLETED:
            told = {"status": "completed", "output": answer.output}
        data = messages.encode(messages.child_body(child=body["id"], **told))
        subject = subjects.child_completed(self.instance, number)
        self.later(Coming(topology.WORKFLOW_EVENTS, subject, data), answer.after_ms)

    # CloudEvents

    def _emit(self, message: Outgoing) -> None:
        if message.message_id in self._known:
            return
        self._known.add(str(message.message_id))
        self.later(Coming(topology.CLOUD_EVENTS, message.subject, message.data))

    def _listen(self, message: Outgoing) -> None:
        key = message.subject.removeprefix(_INDEX)
        if not message.data:
            self._index.remove(key)
            return
        self._index.put(key, message.data)
        alone = Listeners()
        alone.put(key, message.data)
        from_ms = orjson.loads(message.data)["from_ms"]
        for stored in self._clouds:
            if stored.timestamp_ms >= from_ms:
                self._match(stored, alone)

    def _match(self, stored: Stored, index: Listeners) -> None:
        """Bring the event to whoever `index` says; the machine decides whether it fits."""
        event = cloudevents.read(stored.subject, stored.data, stored.headers)
        for entry in index.match(event):
            key = Key.parse(entry)
            body = messages.matched_body(
                event=event, sequence=stored.sequence, time_ms=stored.timestamp_ms, entry=entry
            )
            subject = subjects.own_event(key.instance, key.listener)
            self.later(Coming(topology.WORKFLOW_EVENTS, subject, messages.encode(body)))


def _result(run: int, attempt: int, answer: Answer) -> JsonObject:
    if answer.outcome == COMPLETED:
        return messages.completed_body(run=run, attempt=attempt, output=answer.output)
    return messages.failed_body(
        run=run,
        attempt=attempt,
        outcome=answer.outcome,
        error=answer.error or {},
        retryable=answer.retryable,
    )
