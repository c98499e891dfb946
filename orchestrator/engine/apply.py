"""Apply a group's events to one instance: decide what to store and what to send. Pure.

Everything that may go wrong inside one instance (an exception in the machine, an oversize task or
snapshot) becomes a fault of that instance, never a failed group.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import orjson

from orchestrator.definition import Definition
from orchestrator.definition.lookup import Lookup, Unusable
from orchestrator.dispatch import effects
from orchestrator.dispatch import outbox as outbox_builder
from orchestrator.dispatch.outbox import Outbox
from orchestrator.engine.faults import fault_event, traceback_text, without_culprit
from orchestrator.ingest.messages_in import Item
from orchestrator.machine import (
    DEFAULT_LIMITS,
    TERMINAL,
    CancelTimer,
    DeadLetter,
    Dispatch,
    Finished,
    Send,
    SetTimer,
    Transition,
    advance,
)
from orchestrator.machine import Limits as MachineLimits
from orchestrator.state import commit as records
from orchestrator.state.commit import Commit, HistoryEntry, Record, Sealed
from orchestrator.state.large_values import DEFAULT_RULES, Rules
from wf.protocol import gate
from wf.protocol.json_weight import exceeds

JsonObject = dict[str, Any]


# namespace, name, version

HISTORY_ENTRIES = 2000
ENCODED_BYTES = 64 * 1024 * 1024  # of a state and its history, before it is known if it fits
FEW_ENTRIES = 50  # beside an event that nearly fills its message
TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}\Z")  # W3C
CONFIGURATION = "https://open-workflow-specification.org/spec/1.0.0/errors/configuration"


@dataclass(slots=True, frozen=True)
class Limits:
    """Sizes in bytes, checked before anything is sent."""

    snapshot: int
    message: int
    machine: MachineLimits = DEFAULT_LIMITS
    lifecycle: bool = False  # CloudEvents of the lifecycle are published
    apart: Rules = DEFAULT_RULES  # which values are stored beside the snapshot


@dataclass(slots=True)
class Applied:
    """The outcome for one instance. `commit` is None when no event changed anything."""

    snapshot: JsonObject | None = None
    commit: Commit | None = None
    sealed: Sealed | None = None  # what is stored, with `commit`
    outbox: Outbox = field(default_factory=Outbox)
    applied: list[Item] = field(default_factory=list)
    ignored: list[tuple[Item, str]] = field(default_factory=list)
    finished: bool = False


def apply(record: Record, items: list[Item], lookup: Lookup, limits: Limits, token: str) -> Applied:
    """Apply `items` in order to the instance that `record` holds.

    `token` is this commit's random token. An event whose outcome cannot be made, encoded or sent
    is set aside, and a fault takes its place. Raises StateUnusable when that is not possible
    either: then what is wrong is the stored state itself.
    """

    def attempt(some: list[Item]) -> Applied:
        fold = _Fold(record, lookup, token, limits)
        for item in some:
            fold.add(item)
        return fold.close()

    while True:
        try:
            return attempt(items)
        except Exception as error:  # noqa: BLE001 — one instance's trouble must not stop the rest
            items = without_culprit(items, attempt, error)


class StateTooLarge(Exception):
    """What one event led to holds so much, by repetition, that it must not even be encoded."""


def _check_repetition(transition: Transition) -> None:
    """Raise StateTooLarge where many steps have handed on one large value: a fork of a thousand
    branches with an input of 3 MB takes as much in memory, and 3 GB as JSON."""
    if len(transition.history) > FEW_ENTRIES and exceeds(
        [transition.snapshot, transition.history], ENCODED_BYTES
    ):
        raise StateTooLarge(
            f"the state would take more than {ENCODED_BYTES} bytes, because many tasks have the "
            "same large value: keep large data outside and pass references"
        )


def _no_definition(namespace: str, wanted: str, found: Unusable | None) -> JsonObject:
    """Why a workflow cannot be started."""
    if found is not None:
        title, detail = "Unusable workflow", f"workflow {wanted!r} cannot be used: {found.reason}"
    else:
        title = "Unknown workflow"
        detail = (
            f"workflow {wanted!r} is not registered in namespace {namespace!r}: "
            f"deploy it (wf deploy FILE) and start it again under another id"
        )
    return {"type": CONFIGURATION, "status": 404, "title": title, "detail": detail}


class _Fold:
    """A working state: the snapshot so far and the net effect of what was applied."""

    def __init__(self, record: Record, lookup: Lookup, token: str, limits: Limits) -> None:
        self._record = record
        self._lookup = lookup
        self._snapshot = record.snapshot
        self._token = token
        self._limits = limits
        self.result = Applied()
        self._history: list[HistoryEntry] = []
        self._events: list[JsonObject] = []
        self._dead: list[tuple[str, str, JsonObject]] = []
        self._tasks: dict[int, None] = {}
        self._timers: dict[int, None] = {}
        self._cancelled: dict[int, None] = {}
        self._sends: list[tuple[str, JsonObject]] = []
        self._own = False  # the snapshot is this fold's: the next event may change it in place
        self._steps: list[tuple[Definition | None, JsonObject, int]] = []

    def add(self, item: Item) -> None:
        if self._snapshot is None and item.event["kind"] != "start":
            self.result.ignored.append((item, "unknown"))
            return
        if self._snapshot is None and "scheduled" in item.event and not self._is_due(item.event):
            self.result.ignored.append((item, "unscheduled"))
            return
        event, overlay = self._complete(item.event, len(item.delivery.data))
        reason = self._step(item, event, overlay)
        if reason is None:
            self.result.applied.append(item)
        else:
            self.result.ignored.append((item, reason))

    def _complete(self, event: JsonObject, size: int) -> tuple[JsonObject, JsonObject]:
        """A start names a version, or says why there is none; the rest is complete as it came."""
        if (
            event["kind"] == "fault"
        ):  # in place of one that was convicted; the machine sets it aside
            return event, event
        if "refused" in event:
            self._dead.append(("faulted", event["workflow"], event["evidence"]))
            return event, event
        if size > self._limits.message:
            return self._oversize(event, size)
        if event["kind"] != "start" or self._snapshot is not None:
            return event, {}
        namespace, name, version = event["namespace"], event["workflow"], event.get("version")
        found = self._lookup(namespace, name, version)
        overlay: JsonObject
        if isinstance(found, Definition):
            overlay = {"version": found.version}
        else:
            overlay = {
                "version": version or "",
                "refused": _no_definition(namespace, f"{name} {version or ''}".strip(), found),
            }
        return {**event, **overlay}, overlay

    def _oversize(self, event: JsonObject, size: int) -> tuple[JsonObject, JsonObject]:
        """An event that its history message could not repeat: what it is for fails instead."""
        detail = (
            f"the message takes {size} bytes, {self._limits.message} are possible here: pass a "
            f"reference instead of the data"
        )
        if event["kind"] == "start" and self._snapshot is None:
            refused = fault_event("Input too large", detail)["error"]
            event = {**event, "input": None, "version": "", "refused": refused}
        elif event["kind"] == "result" and self._is_current(event):
            event = fault_event("Result too large", detail, run=event["run"])
        elif event["kind"] == "child" and self._is_awaited(event):
            event = fault_event("Output too large", detail, run=event["run"])
        else:
            event = {"kind": "oversize"}  # ignored by the machine
        return event, event

    def _is_due(self, event: JsonObject) -> bool:
        """The schedule that fired is still the workflow's."""
        definition = self._lookup(event["namespace"], event["workflow"], None)
        return isinstance(definition, Definition) and definition.is_scheduled(event)

    def _is_current(self, event: JsonObject) -> bool:
        """The result is of its run's current attempt: an older one is no reason to fail it."""
        run = (self._snapshot or {"runs": {}})["runs"].get(str(event["run"]))
        return run is not None and run["attempt"] == event["attempt"]

    def _is_awaited(self, event: JsonObject) -> bool:
        """A child's output that is too large fails the run that waits for it."""
        run = (self._snapshot or {"runs": {}})["runs"].get(str(event["run"]))
        return run is not None and run.get("child") == event.get("child")

    def _definition(self, event: JsonObject) -> Definition | Unusable | None:
        source = self._snapshot if self._snapshot is not None else event
        return self._lookup(source["namespace"], source["workflow"], source["version"] or None)

    def _step(self, item: Item, event: JsonObject, overlay: JsonObject) -> str | None:
        """One event through the machine. Returns why it was ignored, else None."""
        now_ms = item.delivery.timestamp_ms
        found = None if "refused" in event else self._definition(event)
        definition = found if isinstance(found, Definition) else None
        if definition is None and self._snapshot is not None and event["kind"] != "fault":
            version = f"{self._snapshot['workflow']} {self._snapshot['version']}"
            event = overlay = fault_event(
                "Definition lost",
                f"definition {version} "
                + (
                    f"cannot be used: {found.reason}"
                    if isinstance(found, Unusable)
                    else "is no longer registered"
                ),
            )
        elif self._record.missing and event["kind"] != "fault":
            event = overlay = self._damaged()
        machine = self._limits.machine
        try:
            transition = advance(
                definition, self._snapshot, event, now_ms, machine, reuse=self._own
            )
            _check_repetition(transition)
            entries = self._entries(item, transition)
        except Exception as error:  # noqa: BLE001 — a bug met by one instance must not stop the rest
            self._go_back()
            event = overlay = self._crash(item, event, error)
            definition = None
            transition = advance(None, self._snapshot, event, now_ms, machine)
            entries = self._entries(item, transition)
        if transition.ignored is not None:
            return transition.ignored
        self._snapshot = transition.snapshot
        self._own = True
        self._steps.append((definition, event, now_ms))
        self._events.append(event)
        self._history.append(
            (
                now_ms,
                item.delivery.stream,
                item.delivery.sequence,
                orjson.Fragment(entries),
                overlay,
            )
        )
        self._merge(transition.commands)
        return None

    def _entries(self, item: Item, transition: Transition) -> bytes:
        """Encoded once, for the history message and for the outbox in the snapshot."""
        entries = orjson.dumps(trimmed(transition.history))
        if len(item.delivery.data) + len(entries) > self._limits.message:
            entries = orjson.dumps(trimmed(transition.history, FEW_ENTRIES))
        return entries

    def _damaged(self) -> JsonObject:
        """Somebody deleted what only the engine may: going on without it would be guessing."""
        keys = ", ".join(self._record.missing)
        detail = (
            f"values of this instance are gone from the bucket WORKFLOW_STATES: {keys}. Look "
            f"at its history (wf history), and start what is left to do as a new instance"
        )
        return fault_event("State damaged", detail, forget=True)

    def _go_back(self) -> None:
        """To the snapshot before an event that raised, which may have half changed its own."""
        if not self._own:
            return
        snapshot = self._record.snapshot
        for definition, event, now_ms in self._steps:
            snapshot = advance(definition, snapshot, event, now_ms, self._limits.machine).snapshot
        self._snapshot = snapshot

    def _crash(self, item: Item, event: JsonObject, error: Exception) -> JsonObject:
        """The machine raised: evidence for the dead letters, and a fault in the event's place."""
        title, detail = "Engine error", gate.error_text(error)
        if isinstance(error, StateTooLarge):
            title, detail = "State too large", str(error)
        else:
            self._dead.append(
                ("engine", item.instance, {
                    "event": event, "sequence": item.delivery.sequence,
                    "traceback": traceback_text(error),
                })
            )  # fmt: skip
        if self._snapshot is None:
            refused = fault_event(title, detail)["error"]
            return {**event, "input": None, "version": "", "refused": refused}
        return fault_event(title, detail)

    def _merge(self, commands: list[Any]) -> None:
        for command in commands:
            if isinstance(command, Dispatch):
                self._tasks[command.run] = None
            elif isinstance(command, SetTimer):
                self._timers[command.timer] = None
            elif isinstance(command, CancelTimer):
                if command.timer in self._timers:
                    del self._timers[command.timer]
                else:
                    self._cancelled[command.timer] = None
            elif isinstance(command, Send):
                effects.merge(self._sends, command.kind, command.body)
            elif isinstance(command, DeadLetter):
                self._dead.append((command.kind, command.name, command.evidence))
            elif isinstance(command, Finished):
                self.result.finished = True

    def close(self) -> Applied:
        limits = self._limits
        if not self._history:
            self.result.snapshot = self._record.snapshot
            return self.result
        size = self._seal()
        # A task's input is part of the snapshot: only a large snapshot can hold a too large task.
        if size > min(limits.message, limits.snapshot):
            self._fault_oversize_tasks(limits.message)
            size = self._seal()
        if size > limits.snapshot:
            return self._faulted_oversize(size, limits.snapshot)
        return self.result

    def _seal(self, *, last_resort: bool = False) -> int:
        """Commit record, KV value and messages of what has been applied so far; bytes of state.
        `last_resort`: it is stored, however large it is."""
        snapshot = self._snapshot
        assert snapshot is not None
        last = self._record.commit
        carried = last.tasks if last is not None and last.parked else []
        runs, timers = snapshot["runs"], snapshot["timers"]
        commit = Commit(
            number=self._record.commit_number + 1,
            token=self._token,
            events=[(item.delivery.stream, item.delivery.sequence) for item in self.result.applied],
            history=self._history,
            tasks=[run for run in dict.fromkeys([*carried, *self._tasks]) if str(run) in runs],
            timers=[timer for timer in self._timers if str(timer) in timers],
            cancelled=list(self._cancelled),
            sends=effects.settled(self._sends),
            dead=[(kind, name, outbox_builder.fitting(one)) for kind, name, one in self._dead],
            lifecycle=self._limits.lifecycle,
            trace=last.trace if last is not None else self._trace(),
        )
        commit.parked = bool(last and last.parked and commit.tasks)
        result = self.result
        result.finished = result.finished and snapshot["status"] in TERMINAL  # not retried since
        result.snapshot, result.commit = snapshot, commit
        result.sealed = records.seal(snapshot, commit, self._record.watch, self._limits.apart)
        if last_resort or result.sealed.size <= self._limits.snapshot:  # else nothing is stored
            result.outbox = outbox_builder.build(snapshot, commit, self._events)
        return result.sealed.size

    def _trace(self) -> str | None:
        headers = self.result.applied[0].delivery.headers
        trace = headers.get("traceparent") if headers else None
        return trace if trace is not None and TRACEPARENT.match(trace) else None

    def _fault_oversize_tasks(self, limit: int) -> None:
        """A task too large for the wire fails its run; that may dispatch others: look again."""
        item = self.result.applied[-1]
        checked: set[int] = set()
        while fresh := [run for run in self._open_tasks() if run not in checked]:
            checked.update(fresh)
            for run in fresh:
                size = _task_bytes(self._snapshot, run)
                if size > limit:
                    detail = (
                        f"the input of run {run} takes {size} bytes, the broker's limit is "
                        f"{limit}: pass a reference instead of the data"
                    )
                    event = fault_event("Task too large", detail, run=run)
                    self._step(item, event, event)

    def _open_tasks(self) -> list[int]:
        runs = self._snapshot["runs"] if self._snapshot else {}
        return [run for run in self._tasks if str(run) in runs]

    def _faulted_oversize(self, size: int, limit: int) -> Applied:
        """Go back to the stored snapshot and fault that: the new data is what was too large."""
        detail = (
            f"the state would take {size} bytes, [orchestrator.limits] snapshot allows {limit}: "
            f"keep large data outside and pass references"
        )
        fold = _Fold(self._record, self._lookup, self._token, self._limits)
        fold.result.applied, fold.result.ignored = self.result.applied, self.result.ignored
        last = self.result.applied[-1]
        event = fault_event("State too large", detail)
        if self._record.snapshot is None:
            first = self.result.applied[0].event
            event = {**first, "input": None, "version": "", "refused": event["error"]}
        fold._step(last, event, event)
        fold._seal(last_resort=True)
        return fold.result


def trimmed(entries: list[JsonObject], limit: int = HISTORY_ENTRIES) -> list[JsonObject]:
    """At most about `limit` of one event: a loop without a wait may make 100,000. What is left out
    is told by its number; facts stay, for a replay needs them."""
    spare = len(entries) - limit
    if spare <= 0:
        return entries
    half = limit // 2
    middle = entries[half : half + spare]
    facts = [entry for entry in middle if "fact" in entry]
    note: JsonObject = {"type": "entries.omitted", "count": len(middle) - len(facts)}
    return [*entries[:half], *facts, note, *entries[half + spare :]]


def _task_bytes(snapshot: JsonObject | None, run: int) -> int:
    """Size of the task message of `run`, with room for its other fields; 0 when it is closed."""
    open_run = snapshot["runs"].get(str(run)) if snapshot else None
    return 0 if open_run is None else len(orjson.dumps(open_run["input"])) + 1024
