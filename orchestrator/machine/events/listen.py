"""listen: registered in an index outside, decided here.

While the frame is open, entries of WORKFLOW_LISTENERS point at it; whoever publishes a CloudEvent
that an entry may stand for has it delivered as a machine event of kind `event`:

    listener   the frame, and "-<n>" when it was opened again by the nth retry: a name that was
               taken back never comes again, so a late message about it can do no harm
    sequence   of the CloudEvent in its stream; each counts once for a listener
    time_ms    when that stream stored it
    event      the CloudEvent
    match      "<listener>:<sequence>"
    entry      maybe, the key of the index entry (for the shell, which clears stale ones)

An event that one listen of the instance has taken is not taken by one that is opened later,
although that looks back: `consumed` in the snapshot holds [sequence, last frame then, time_ms].
"""

from __future__ import annotations

from typing import Any

from orchestrator.definition.compiler.nodes import Filter, Listen
from orchestrator.machine.events import consume, sequence_ranges, signals
from orchestrator.machine.events.correlation import Key, type_token
from orchestrator.machine.events.filters import fit
from orchestrator.machine.flow import tasks
from orchestrator.machine.kernel.digest import digest
from orchestrator.machine.kernel.handler import Handler
from orchestrator.machine.kernel.step import LISTEN, UNLISTEN, Child, Step

JsonObject = dict[str, Any]

KEEP_CONSUMED = 1000
CONSUMED_SLACK_MS = 60_000


class ListenHandler(Handler):
    """Frame: `left` (of each `all`, the filters that wait), `expected` and `learned` (values of
    correlations), `outputs`, `seen` (orchestrator/machine/events/sequence_ranges.py), `done` once
    nothing more is taken; with
    `foreach` also `queue` ([sequence, value] of what waits for its turn), `at` and `child`."""

    def enter(self, step: Step, frame: str, input: Any) -> None:
        body: Listen = step.task(frame).body
        state = step.edit(frame)
        state.update(left={}, expected={}, learned={}, outputs=[], seen=[], at=0)
        if body.foreach is not None:
            state["queue"] = []
        for part, strategy in body.parts:
            if strategy.kind == "all":
                state["left"][part] = list(range(len(strategy.filters)))
        _register(step, frame, input)
        step.note("listen.started", step.task(frame))
        step.later(frame, signals.offer)

    def child_completed(self, step: Step, frame: str, child: Child, output: Any, then: str) -> None:
        step.edit(frame).pop("child", None)
        consume.iterated(step, frame, output, child.state["variables"])

    def reopen(self, step: Step, frame: str, left_ms: int | None) -> None:
        """Listen again, for the values that were expected; what came since counts as far back as
        the buffer reaches."""
        if consume.is_open(step.frames[frame]):
            step.edit(frame)["listener"] = f"{frame}-{step.snapshot['retries']}"
            _register(step, frame, None)
            step.later(frame, signals.offer)


def _register(step: Step, frame: str, input: Any) -> None:
    """Send the entries of the index, and leave word to take them back."""
    body: Listen = step.task(frame).body
    entries: dict[str, JsonObject] = {}
    for part, strategy in body.parts:
        if not strategy.filters:
            key, entry = _entry(step, frame, None, part, 0, input)
            entries[key] = entry
        for index, one in enumerate(strategy.filters):
            key, entry = _entry(step, frame, one, part, index, input)
            entries[key] = entry
    for key, entry in entries.items():
        step.send(LISTEN, {"key": key, **entry})
    step.edit(frame)["release"] = [[UNLISTEN, {"key": key}] for key in entries]


def _entry(
    step: Step, frame: str, one: Filter | None, part: str, index: int, input: Any
) -> tuple[str, JsonObject]:
    """Key and body of the entry for one filter; None is the filter that takes everything."""
    snapshot, expected = step.snapshot, step.frames[frame]["expected"]
    spec: list[tuple[str, str]] = []
    values: list[Any] = []
    for correlation in sorted(one.correlations, key=lambda c: c.name) if one is not None else ():
        if correlation.expect is not None:
            place = f"{part}/{index}/{correlation.name}"
            if place not in expected:  # it is when the listen is opened again
                expected[place] = tasks.build_inside(step, frame, correlation.expect, input)
            value = expected[place]
            spec.append((correlation.name, correlation.source.source))
            values.append(value)
    key = Key(
        type_token(one.type if one is not None else None),
        digest(tuple(spec), values),
        snapshot["id"],
        step.frames[frame].get("listener", frame),
    )
    # Without a correlation nothing says that an event from before the instance is meant for it.
    from_ms = max(step.now_ms - step.limits.event_buffer_ms, 0)
    if not spec:
        from_ms = max(from_ms, snapshot["started_ms"])
    return str(key), {"from_ms": from_ms, "correlate": spec}


def reason_to_ignore(snapshot: JsonObject, event: JsonObject) -> str | None:
    """Why an event has no effect; None when its filters must be asked."""
    listener: Any = event.get("listener")
    sequence: Any = event.get("sequence")
    shape = tuple(type(event.get(key)) for key in ("listener", "sequence", "time_ms", "event"))
    if shape != (str, int, int, dict) or event.get("match") != f"{listener}:{sequence}":
        return "malformed"
    frame = frame_of(listener)
    state = snapshot["frames"].get(frame)
    if state is None or not consume.is_open(state) or state.get("listener", frame) != listener:
        return "late"
    if sequence_ranges.has(state["seen"], sequence):
        return "duplicate"
    opened = int(frame)
    for consumed, last_frame, _ in snapshot.get("consumed", ()):
        if consumed == sequence and last_frame < opened:
            return "consumed"
    return None


def frame_of(listener: str) -> str:
    """The frame of the listener's name."""
    return listener.partition("-")[0]


def unfit(step: Step, event: JsonObject) -> str | None:
    """Why an event that comes while the instance is suspended need not be kept."""
    if step.definition is None:
        return None  # nobody can tell
    return "filter" if fit(step, frame_of(event["listener"]), event["event"]) is None else None


def apply(step: Step, event: JsonObject) -> str | None:
    """Take an event that is not to be ignored; why not, when no filter wants it."""
    frame = frame_of(event["listener"])
    found = fit(step, frame, event["event"])
    if found is None:
        return "filter"
    state = step.edit(frame)
    state["seen"] = sequence_ranges.added(state["seen"], event["sequence"])
    _remember(step, event)
    consume.consume(step, frame, event["event"], found, event["sequence"])
    return None


def _remember(step: Step, event: JsonObject) -> None:
    """Keep what later listeners of this instance must not find when they look back."""
    buffer_ms = step.limits.event_buffer_ms
    if buffer_ms <= 0:
        return
    oldest = step.now_ms - buffer_ms - CONSUMED_SLACK_MS
    kept = [one for one in step.snapshot.get("consumed", ()) if one[2] >= oldest]
    kept.append([event["sequence"], step.snapshot["last_frame"], event["time_ms"]])
    step.snapshot["consumed"] = kept[-KEEP_CONSUMED:]
