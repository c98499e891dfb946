"""retry: a faulted instance goes on, from the task that failed or from one that is named.

The command's event may have `from` (a task's JSON pointer) with `input` (what it begins with), and
`parent` (true: a parent that goes on itself asks, and waits for this child's end).
"""

from __future__ import annotations

from typing import Any

from orchestrator.definition import Definition
from orchestrator.definition.compiler.nodes import Block
from orchestrator.machine.calls import timeout
from orchestrator.machine.events import consume
from orchestrator.machine.flow import blocks, tasks
from orchestrator.machine.kernel import deduplication
from orchestrator.machine.kernel.finish import tell_parent
from orchestrator.machine.kernel.handler import handler_of
from orchestrator.machine.kernel.step import LIVENESS, Step

JsonObject = dict[str, Any]


def reason_to_ignore(
    definition: Definition | None, snapshot: JsonObject, event: JsonObject
) -> str | None:
    """Why a retry of an instance that has ended has no effect; None when it has."""
    reason = deduplication.before(snapshot, event)
    if reason is not None:
        return reason
    if definition is None:
        return "definition"
    if event.get("parent") is True and "parent" in snapshot:
        return None  # whatever this child is, its parent gets an answer
    if snapshot["status"] != "faulted":
        return "not faulted"
    if "compensated" in snapshot:
        return "compensated"
    place = event.get("from")
    if place is None:
        return None if goes_on(snapshot) else "from"
    if "input" not in event:
        return "input"
    return None if place in places(definition, snapshot) else "from"


def goes_on(snapshot: JsonObject) -> bool:
    """Whether the task that failed can be begun again from what is kept."""
    failed = snapshot.get("failed", {})
    frames, at = failed.get("frames", {}), failed.get("at")
    if at is None:
        return any(_is_open(state) for state in frames.values())
    if "raw" in failed or _is_open(frames[at]):
        return True
    return any(_is_open(frames[frame]) for frame in _below(frames, at))


def _is_open(state: JsonObject) -> bool:
    return any(key in state for key in ("spent", "run", "timer")) or consume.is_open(state)


def places(definition: Definition, snapshot: JsonObject) -> list[str]:
    """The tasks from which it may go on: those of every list around the one that failed."""
    return [task.pointer for _, block in _scopes(definition, snapshot) for task in block.tasks]


def failed_task(snapshot: JsonObject) -> str | None:
    """The pointer of the task that failed first, if one did."""
    failed = snapshot.get("failed", {})
    at = failed.get("at")
    return None if at is None else failed["frames"][at]["node"]


def _scopes(definition: Definition, snapshot: JsonObject) -> list[tuple[str, Block]]:
    """(frame, block), from the innermost out; the frame is "" for a root that is gone."""
    failed = snapshot.get("failed", {})
    frames: dict[str, JsonObject] = failed.get("frames", {})
    path = [failed["at"]] if "at" in failed else sorted(frames, key=int, reverse=True)[:1]
    while path and (parent := frames[path[-1]]["parent"]) in frames:
        path.append(parent)
    found = []
    for frame in path:
        node = definition.workflow.nodes.get(frames[frame]["node"])
        if isinstance(node, Block):
            found.append((frame, node))
    root = definition.workflow.block
    if not found or found[-1][1] is not root:
        found.append(("", root))
    return found


def apply(step: Step, event: JsonObject) -> None:
    """Take a retry that is not to be ignored, and go on."""
    deduplication.remember(step, event["sequence"])
    if only_tells(step.snapshot, event):
        tell(step)
    else:
        go_on(step, event)


def only_tells(snapshot: JsonObject, event: JsonObject) -> bool:
    """Whether the parent asks a child that cannot go on: it hears once more how that ended."""
    return event.get("parent") is True and (
        snapshot["status"] != "faulted" or not goes_on(snapshot)
    )


def tell(step: Step) -> None:
    """Tell the parent once more."""
    status = step.snapshot["status"]
    step.history.append({"type": "parent.told", "status": status})
    tell_parent(step, status)


def go_on(step: Step, event: JsonObject) -> None:
    """Begin where the retry says."""
    snapshot = step.snapshot
    place = event.get("from")
    failed: JsonObject = snapshot.pop("failed", {})
    frames: dict[str, JsonObject] = failed.get("frames", {})
    scope = None
    if type(place) is str and step.definition is not None:
        before = {**snapshot, "failed": failed} if failed else snapshot
        scope = next(
            (frame, block.positions[task.name], block)
            for frame, block in _scopes(step.definition, before)
            for task in block.tasks
            if task.pointer == place
        )
    snapshot.pop("error", None)
    failed_ms = snapshot.pop("ended_ms")
    snapshot["control_sequence"] = max(snapshot["control_sequence"], event["sequence"])
    snapshot["status"] = "running"
    step.count("retries")
    _note(step, event)
    dropped = set() if scope is None else _below(frames, scope[0]) if scope[0] else set(frames)
    _restore(step, failed, dropped)
    again = failed.get("at") if scope is None and "raw" in failed else None
    for frame in sorted(frames.keys() - dropped, key=int):
        if frame != again:
            _reopen(step, frame, failed, failed_ms)
    if again is not None:
        state = step.frames[again]
        step.frames[again] = {key: state[key] for key in _IDENTITY if key in state}
        step.later(again, tasks.enter, failed["raw"][0])
    if scope is not None:
        frame, at, block = scope
        blocks.begin_at(step, frame or step.open(block, ""), at, event["input"])


_IDENTITY = ("node", "parent", "branch", "iteration")


def _note(step: Step, event: JsonObject) -> None:
    entry: JsonObject = {"type": "instance.retried", "status": "running"}
    for key in ("from", "reason"):
        if type(event.get(key)) is str:
            entry[key] = event[key]
    step.history.append(entry)


def _below(frames: JsonObject, top: str) -> set[str]:
    """The frames of `frames` that are below `top`."""
    found: set[str] = set()
    for frame in sorted(frames, key=int):  # a frame is older than those inside of it
        parent = frames[frame]["parent"]
        if parent == top or parent in found:
            found.add(frame)
    return found


def _restore(step: Step, failed: JsonObject, dropped: set[str]) -> None:
    """Put the frames back, with the runs that they have; each parent knows its child again."""
    runs: JsonObject = failed.get("runs", {})
    restored = [frame for frame in failed.get("frames", {}) if frame not in dropped]
    for frame in restored:
        state = step.frames[frame] = failed["frames"][frame]
        if "run" in state:
            step.runs[str(state["run"])] = runs[str(state["run"])]
    for frame in restored:
        parent: str = step.frames[frame]["parent"]
        if parent and frame not in step.frames[parent].get("children", ()):
            step.edit(parent)["child"] = frame


def _reopen(step: Step, frame: str, failed: JsonObject, failed_ms: int) -> None:
    """Set up again what the fault has closed. Timers get the time that they had left."""
    if "ended" in step.frames[frame]:
        return
    state = step.edit(frame)
    state.pop(LIVENESS, None)  # the next attempt has its own
    state.pop("release", None)  # sent at the fault; who needs it sets it again
    left_ms: dict[str, int | None] = {}
    for key in ("timer", "deadline"):
        timer = failed.get("timers", {}).get(str(state.pop(key, None)))
        left_ms[key] = None if timer is None else max(timer["due_ms"] - failed_ms, 0)
    if left_ms["deadline"] is not None:
        step.later(frame, Step.set_timer, left_ms["deadline"], "deadline")
    elif frame == failed.get("at"):
        step.later(frame, timeout.set_anew)
    step.later(frame, handler_of(step, step.node(frame)).reopen, left_ms["timer"])
