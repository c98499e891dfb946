"""One instance without broker, workers and clock: `advance` driven by stubs. Pure.

Time is virtual: it jumps to whatever comes next, a timer that is due or an answer that a stub
promised for later. The same input and stubs give the same run, event by event.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from orchestrator.definition import Definition
from orchestrator.definition.compiler import durations
from orchestrator.machine import (
    DEFAULT_LIMITS,
    TERMINAL,
    Command,
    Dispatch,
    Limits,
    Send,
    SetTimer,
    Transition,
    advance,
)
from orchestrator.machine.events import consume
from orchestrator.machine.events.correlation import Key
from orchestrator.machine.flow.emit import EMIT
from orchestrator.machine.kernel.concurrency_slot import TAKE_PLACE
from orchestrator.machine.kernel.step import LISTEN, START_CHILD, Step
from orchestrator.offline.stubs import Answer, Stubs
from wf.errors import DefinitionError, MessageError
from wf.protocol import cloudevents
from wf.protocol.messages import COMPLETED

JsonObject = dict[str, Any]

MAX_EVENTS = 10_000
_ARRIVAL = "arrival"  # of a CloudEvent; not an event of the machine's


@dataclass(frozen=True, slots=True)
class Applied:
    """One event that took effect."""

    event: JsonObject
    now_ms: int
    history: list[JsonObject]


@dataclass(frozen=True, slots=True)
class Asked:
    """One attempt of a call, or a child, and what the stubs answered."""

    run: int
    attempt: int
    activity: str
    pointer: str
    input: Any
    answer: Answer
    child: str = ""  # its id; `activity` is then its workflow


@dataclass(slots=True)
class Offline:
    """One instance. `start`, then `step` until it gives None; or `run` for all of it.

    `snapshot` and `now_ms` are its present; `log` all that was applied, as a history would hold it;
    `asked` what was asked of the stubs.
    """

    definition: Definition
    stubs: Stubs
    now_ms: int = 0
    id: str = "offline"
    limits: Limits = DEFAULT_LIMITS
    step_type: Callable[..., Step] = Step
    snapshot: JsonObject | None = None
    log: list[Applied] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    _queue: list[tuple[int, int, JsonObject]] = field(default_factory=list)
    _queued: int = 0
    _arrived: list[tuple[int, JsonObject]] = field(default_factory=list)  # CloudEvents, with times

    def start(self, input: Any) -> Transition:
        definition = self.definition
        return self.feed(
            {
                "kind": "start",
                "id": self.id,
                "workflow": definition.name,
                "namespace": definition.namespace,
                "version": definition.version,
                "input": input,
            }
        )

    def run(self, input: Any, max_events: int = MAX_EVENTS) -> bool:
        """From the start until nothing comes any more; False when `max_events` were not enough."""
        self.start(input)
        return any(self.step() is None for _ in range(max_events))

    def step(self) -> Transition | None:
        """Apply the event that comes next, at its time; None when none will come."""
        while self._queue and not self.has_ended:
            due_ms, _, event = heapq.heappop(self._queue)
            if event["kind"] == "timer" and str(event["timer"]) not in self.state["timers"]:
                continue  # cancelled meanwhile: time does not pass for it
            self.now_ms = max(self.now_ms, due_ms)
            if event["kind"] == _ARRIVAL:
                self._arrive(event["event"])
                continue
            return self.feed(event)
        return None

    def feed(self, event: JsonObject) -> Transition:
        """Apply an event now, and queue what follows from it."""
        transition = self.decide(event)
        if transition.ignored is None:
            self.store(event, transition)
            self.obey(transition.commands)
        return transition

    def decide(self, event: JsonObject) -> Transition:
        """What the event does; nothing is kept of it."""
        return advance(
            self.definition, self.snapshot, event, self.now_ms, self.limits, self.step_type
        )

    def store(self, event: JsonObject, transition: Transition) -> None:
        """Keep what the event has done."""
        self.snapshot = transition.snapshot
        self.log.append(Applied(event, self.now_ms, transition.history))

    def obey(self, commands: Iterable[Command]) -> None:
        """Queue what follows from the commands."""
        for command in commands:
            self._obey(command)

    def later(self, event: JsonObject, after_ms: int = 0) -> None:
        """Queue an event; those of one moment come in the order in which they were queued."""
        self._queued += 1
        heapq.heappush(self._queue, (self.now_ms + after_ms, self._queued, event))

    def publish(self, event: JsonObject, after_ms: int = 0) -> None:
        """A CloudEvent comes, for whoever listens then or looks back later."""
        self.later({"kind": _ARRIVAL, "event": event}, after_ms)

    @property
    def state(self) -> JsonObject:
        assert self.snapshot is not None
        return self.snapshot

    @property
    def has_ended(self) -> bool:
        return self.snapshot is not None and self.snapshot["status"] in TERMINAL

    def _obey(self, command: Command) -> None:
        if isinstance(command, Dispatch):
            self._call(command.run)
        elif isinstance(command, Send) and command.kind == START_CHILD:
            self._run_child(command.body)
        elif isinstance(command, Send) and command.kind == EMIT:
            self.publish(command.body["event"])
        elif isinstance(command, Send) and command.kind == LISTEN:
            self._look_back(Key.parse(command.body["key"]).listener, command.body["from_ms"])
        elif isinstance(command, Send) and command.kind == TAKE_PLACE:
            turn = int(command.body["key"].rsplit(".", 1)[1])
            self.later({"kind": "place", "turn": turn})  # nobody else is here
        elif isinstance(command, SetTimer):
            due_ms: int = self.state["timers"][str(command.timer)]["due_ms"]
            self.later({"kind": "timer", "timer": command.timer}, due_ms - self.now_ms)

    def _arrive(self, event: JsonObject) -> None:
        self._arrived.append((self.now_ms, event))
        for frame, state in self.state["frames"].items():
            if consume.is_open(state):
                self._deliver(frame, len(self._arrived))

    def _look_back(self, frame: str, from_ms: int) -> None:
        for number, (time_ms, _) in enumerate(self._arrived, 1):
            if time_ms >= from_ms:
                self._deliver(frame, number)

    def _deliver(self, frame: str, number: int) -> None:
        """The event as the correlator would bring it; the machine decides whether it fits."""
        time_ms, event = self._arrived[number - 1]
        delivered = {"kind": "event", "listener": frame, "sequence": number, "time_ms": time_ms}
        self.later({**delivered, "event": event, "match": f"{frame}:{number}"})

    def _call(self, number: int) -> None:
        run = self.state["runs"].get(str(number))
        if run is None:
            return  # over already
        names = (run["pointer"], run["activity"])
        answer = self.ask(number, run["attempt"], names, run["input"])
        asked = Asked(number, run["attempt"], run["activity"], run["pointer"], run["input"], answer)
        self.asked.append(asked)
        self.later(result_event(asked), answer.after_ms)

    def _run_child(self, start: JsonObject) -> None:
        run = self.state["runs"].get(str(start["parent"]["run"]))
        if run is None:
            return  # not awaited, or over already
        number = start["parent"]["run"]
        answer = self.ask(number, 1, (run["pointer"], run["workflow"]), start["input"])
        place = (number, 1, run["workflow"], run["pointer"], start["input"])
        asked = Asked(*place, answer, child=start["id"])
        self.asked.append(asked)
        self.later(child_event(asked), answer.after_ms)

    def ask(self, run: int, attempt: int, names: tuple[str, ...], input: Any) -> Answer:
        """Have the stubs do the work of an attempt."""
        return self.stubs.answer(names, input, self.now_ms)


def publish(offline: Offline, number: int, given: JsonObject) -> None:
    """Let a CloudEvent come, with what it lacks filled in. Raises DefinitionError."""
    event = {"specversion": cloudevents.SPEC_VERSION, "id": str(number), "source": "/stub", **given}
    after = event.pop("$after", 0)
    try:
        cloudevents.check(event)
        offline.publish(event, 0 if after == 0 else durations.from_value(after))
    except (MessageError, durations.DurationError) as error:
        raise DefinitionError([f"event {number}: {error}"]) from None


def child_event(asked: Asked) -> JsonObject:
    """The end of a child, as it would have told it."""
    answer = asked.answer
    event: JsonObject = {"kind": "child", "run": asked.run, "child": asked.child}
    if answer.outcome == COMPLETED:
        return {**event, "status": "completed", "output": answer.output}
    return {**event, "status": "faulted", "error": answer.error}


def result_event(asked: Asked) -> JsonObject:
    """The result that a worker would have sent."""
    answer = asked.answer
    event: JsonObject = {
        "kind": "result",
        "activity": asked.activity,
        "run": asked.run,
        "attempt": asked.attempt,
        "outcome": answer.outcome,
    }
    if answer.outcome == COMPLETED:
        return {**event, "output": answer.output}
    return {**event, "error": answer.error, "retryable": answer.retryable}
