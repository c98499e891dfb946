"""Signals: events for one instance, by name.

The name is that of a listen task: then the signal is the next event of the one that has waited
longest, whatever its filters say. Or it is a type of events: then the signal is an event of that
type for every listen of this instance whose filters it fits. A signal that nobody waits for yet is
kept in the snapshot for the buffer time: `signals`, [[name, sequence, now_ms, data], …].
"""

from __future__ import annotations

from typing import Any

import orjson

from orchestrator.definition import Definition
from orchestrator.definition.compiler.nodes import Listen, Task
from orchestrator.machine.events.consume import consume, is_open
from orchestrator.machine.events.filters import Fit, fit
from orchestrator.machine.kernel.deduplication import remember
from orchestrator.machine.kernel.scope import moment
from orchestrator.machine.kernel.step import Step

JsonObject = dict[str, Any]
Kept = list[Any]  # name, sequence, now_ms, data

MAX_KEPT = 100
MAX_KEPT_BYTES = 256 * 1024


def reason_to_ignore(snapshot: JsonObject, event: JsonObject) -> str | None:
    """Why a signal has no effect; None when it has."""
    if type(event.get("name")) is not str or type(event.get("sequence")) is not int:
        return "malformed"
    if "data" not in event:
        return "malformed"
    if any(known == event["sequence"] for known, _ in snapshot["applied"]):
        return "duplicate"
    return None


def unfit(step: Step, event: JsonObject) -> str | None:
    """Why a signal will never be taken, whatever happens: no listen has its name."""
    names = None if step.definition is None else receivers(step.definition)
    return None if names is None or event["name"] in names else "name"


def apply(step: Step, event: JsonObject) -> str | None:
    """Give it to who waits, else keep it; or say that nobody ever will."""
    reason = unfit(step, event)
    if reason is not None:
        return reason
    name: str = event["name"]
    kept = [name, event["sequence"], step.now_ms, event.get("data")]
    remember(step, event["sequence"])
    waiting = sorted((frame for frame, state in step.frames.items() if is_open(state)), key=int)
    named = [frame for frame in waiting if step.task(frame).name == name]
    taken = [_give(step, frame, kept) for frame in named[:1] or waiting]
    if not any(taken):
        _keep(step, kept)
    return None


def offer(step: Step, frame: str) -> None:
    """Give a listen that has just begun what was kept for it, one after the other."""
    if "signals" not in step.snapshot:
        return
    kept = step.snapshot["signals"] = _fresh(step)
    for one in kept:
        if not is_open(step.frames[frame]):
            return
        if _give(step, frame, one):
            step.snapshot["signals"] = [other for other in kept if other is not one]
            step.later(frame, offer)  # when it is known whether more is wanted
            return


def _give(step: Step, frame: str, kept: Kept) -> bool:
    event, found = _as_event(step, frame, kept)
    if found is None:
        return False
    consume(step, frame, event, found)
    return True


def receivers(definition: Definition) -> frozenset[str] | None:
    """The names that a signal may have: those of listen tasks, and the types that they want. None:
    one of them takes any."""
    names: set[str] = set()
    for node in definition.workflow.nodes.values():
        wanted = _wanted(node)
        if wanted is None:
            return None
        names |= wanted
    return frozenset(names)


def _wanted(node: Any) -> set[str] | None:
    if not isinstance(node, Task) or not isinstance(node.body, Listen):
        return set()
    names = {node.name}
    for _, strategy in node.body.parts:
        types = [one.type for one in strategy.filters]
        if not types or None in types:
            return None
        names.update(type_ for type_ in types if type_ is not None)
    return names


def _as_event(step: Step, frame: str, kept: Kept) -> tuple[JsonObject, Fit | None]:
    """The signal as an event, and the filter of the frame that it counts for, if any."""
    name, sequence, at_ms, data = kept
    task = step.task(frame)
    body: Listen = task.body
    event = {
        "specversion": "1.0",
        "id": f"{step.snapshot['id']}:signal:{sequence}",
        "source": "/signals",
        "type": name,
        "time": moment(at_ms)["iso8601"],
        "data": data,
    }
    if task.name != name:
        return event, fit(step, frame, event)
    left = step.frames[frame]["left"].get("to")
    index = left[0] if left else 0
    if body.to.filters:
        event["type"] = body.to.filters[index].type or name
    return event, Fit("to", index, {})


def _keep(step: Step, kept: Kept) -> None:
    """Keep it for a listen that is still to come, within limits."""
    before = _fresh(step)
    size = sum(len(orjson.dumps(one)) for one in (*before, kept))
    if len(before) >= MAX_KEPT or size > MAX_KEPT_BYTES or step.limits.event_buffer_ms <= 0:
        step.history.append({"type": "signal.dropped", "name": kept[0], "sequence": kept[1]})
        return
    step.snapshot["signals"] = [*before, kept]
    step.history.append({"type": "signal.kept", "name": kept[0], "sequence": kept[1]})


def _fresh(step: Step) -> list[Kept]:
    """What is kept and not too old; what is too old is told."""
    oldest = step.now_ms - step.limits.event_buffer_ms
    fresh: list[Kept] = []
    for one in step.snapshot.get("signals", ()):
        if one[2] >= oldest:
            fresh.append(one)
        else:
            step.history.append({"type": "signal.expired", "name": one[0], "sequence": one[1]})
    return fresh
