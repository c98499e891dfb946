"""compensate: what has been done is undone, the latest first, when the instance faults or is
cancelled.

Snapshot, as long as there is something that could be undone:

    compensations   groups of at most GROUP entries, the oldest first: number → {todo: [entry, …]};
                    an entry has the list's `node`, the `output` of the task that was done, the
                    `variables` that the list sees, the task's `place`
                    (orchestrator/machine/kernel/occurrence.py), and what it
                    was `within`: frame → attempt of each `try` around it

and once it is being undone `ending`: the `status`, with `error` or `reason`, that it is to end
with, the list `at` work and its `input`, how many are `done`, and which have `failed` (pointers).

A call with compensations that is at work when the instance ends badly is awaited first, since
nobody could say what it has done: its frame stays, as `awaited`, and nothing of what was around it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestrator.definition.compiler.nodes import Block, Call, Compensate, Task
from orchestrator.machine.kernel.commands import DeadLetter
from orchestrator.machine.kernel.errors import Fault, brief
from orchestrator.machine.kernel.finish import finish
from orchestrator.machine.kernel.handler import handler_of
from orchestrator.machine.kernel.occurrence import occurrence_of

if TYPE_CHECKING:
    from orchestrator.machine.kernel.step import Step

JsonObject = dict[str, Any]

GROUP = 64  # so that the older ones are stored once (orchestrator/state/large_values.py)

COMPENSATING = "compensating"
LETTER = "uncompensated"  # kind of the dead letter for what could not be undone


def under_way(snapshot: JsonObject) -> bool:
    return "ending" in snapshot


# --- what there is to undo ------------------------------------------------------------------------


def remember(step: Step, frame: str, task: Task, output: Any) -> None:
    """The task of this frame, still open, has been done."""
    plan: Compensate | None = task.compensate
    if plan is None:
        return
    entry: JsonObject = {
        "node": plan.block.pointer,
        "output": output,
        "place": _place(step, frame, task),
    }
    variables = _variables(step, frame, task, plan)
    if variables:
        entry["variables"] = variables
    within = _tries_around(step, frame)
    if within:
        entry["within"] = within
        if any(attempt > 1 for attempt in within.values()):
            _forget_repeated(step, entry)
    _append(step, entry)


def _variables(step: Step, frame: str, task: Task, plan: Compensate) -> JsonObject:
    variables = {name: step.variable(frame, name) for name in plan.variables}
    if plan.own:
        input = step.frames[frame].get("input")
        variables[plan.own] = {"name": task.name, "reference": task.pointer, "input": input}
    return variables


def _place(step: Step, frame: str, task: Task) -> str:
    place: str | None = step.frames[frame].get("place")  # kept of a frame that stands by itself
    return occurrence_of(step, frame, task.pointer) if place is None else place


def _tries_around(step: Step, frame: str) -> dict[str, int]:
    found: dict[str, int] = dict(step.frames[frame].get("within", {}))
    while frame:
        state = step.frames[frame]
        if "attempt" in state:  # of a `try`
            found[frame] = state["attempt"]
        frame = state["parent"]
    return found


def _forget_repeated(step: Step, entry: JsonObject) -> None:
    """What was done in an earlier attempt of a `try`, and now once more, is the same piece of work
    (orchestrator/machine/kernel/occurrence.py): it is undone once. Where the new attempt does not
    come that far, it stays."""
    groups: JsonObject = step.snapshot.get("compensations", {})
    for number, group in groups.items():
        kept = [other for other in group["todo"] if not _is_repeated(other, entry)]
        if len(kept) < len(group["todo"]):
            groups = {**groups, number: {"todo": kept}}
    step.snapshot["compensations"] = groups


def _is_repeated(other: JsonObject, entry: JsonObject) -> bool:
    if other["place"] != entry["place"]:
        return False
    before: JsonObject = other.get("within", {})
    return any(before.get(frame, now) < now for frame, now in entry["within"].items())


def _append(step: Step, entry: JsonObject) -> None:
    groups: JsonObject = dict(step.snapshot.get("compensations", {}))
    latest = next(reversed(groups), "0")
    if latest == "0" or len(groups[latest]["todo"]) >= GROUP:
        latest = str(int(latest) + 1)
        groups[latest] = {"todo": []}
    groups[latest] = {"todo": [*groups[latest]["todo"], entry]}
    step.snapshot["compensations"] = groups


def _take(step: Step) -> JsonObject | None:
    """The latest entry, which is removed."""
    groups: JsonObject = dict(step.snapshot.get("compensations", {}))
    while groups:
        latest = next(reversed(groups))
        todo: list[JsonObject] = groups.pop(latest)["todo"] or []  # null: it was damaged
        if todo:
            groups[latest] = {"todo": todo[:-1]}
            step.snapshot["compensations"] = groups
            return todo[-1]
    step.snapshot.pop("compensations", None)
    return None


# --- undoing it -----------------------------------------------------------------------------------


def is_due(step: Step, fault: Fault | None = None) -> bool:
    """Whether an instance that ends badly now has something to undo first."""
    if step.definition is None:
        return False  # what is to be done is not known: it is kept for a retry
    return has_any(step.snapshot) or bool(_at_work(step, fault))


def has_any(snapshot: JsonObject) -> bool:
    """Whether something has been done that can be undone."""
    return any(group["todo"] for group in snapshot.get("compensations", {}).values())


def _at_work(step: Step, fault: Fault | None) -> list[str]:
    """Frames of calls whose compensations must wait for what they come to: of those that are open,
    and of those that `fault` has closed on its way."""
    closed: JsonObject = {} if fault is None or fault.kept is None else fault.kept["frames"]
    return [
        frame
        for frame, state in (*closed.items(), *step.frames.items())
        if "run" in state
        and "timer" not in state  # else it has failed, and is put off
        and isinstance(node := step.nodes[state["node"]], Task)
        and node.compensate is not None
        and isinstance(node.body, Call)
    ]


def begin(step: Step, status: str, why: JsonObject, fault: Fault | None = None) -> None:
    """The instance is to end with `status` and `why` (`error` or `reason`): undo first. `fault` is
    what came out of its tasks, if that is the reason."""
    awaited = _at_work(step, fault)
    closed: JsonObject = {} if fault is None or fault.kept is None else fault.kept
    step.frames.update(closed.get("frames", {}))  # for what is seen of the frames around
    for frame in awaited:
        _isolate(step, frame)
    for frame in closed.get("frames", {}):
        if frame not in awaited:
            del step.frames[frame]
    step.drop(set(awaited))
    for frame in awaited:
        if frame in closed.get("frames", {}):
            _take_up(step, frame, closed)
    step.snapshot.pop("failed", None)
    step.snapshot["ending"] = {"status": status, **why, "done": 0, "failed": []}
    step.snapshot["status"] = COMPENSATING
    entry: JsonObject = {"type": "instance.compensating", "status": COMPENSATING, **why}
    if awaited:
        entry["awaited"] = [step.frames[frame]["node"] for frame in awaited]
    step.history.append(entry)
    go_on(step)


def _take_up(step: Step, frame: str, closed: JsonObject) -> None:
    """The run of a frame that was closed in this very step is open again; so are its deadline and
    the wait for its worker."""
    state = step.edit(frame)
    run = str(state["run"])
    step.runs[run] = closed["runs"][run]
    for key in ("deadline", "liveness"):
        timer = closed["timers"].get(str(state.pop(key, None)))
        if timer is not None:
            step.set_timer(frame, max(timer["due_ms"] - step.now_ms, 0), key)


def _isolate(step: Step, frame: str) -> None:
    """Let the frame stand by itself: with what its expressions see of those around it."""
    task = step.task(frame)
    assert task.compensate is not None
    context = step.context(frame)
    variables = {name: step.variable(frame, name) for name in task.compensate.around}
    place = _place(step, frame, task)
    within = _tries_around(step, frame)
    state = step.edit(frame)
    state.update(parent="", awaited=True, place=place, context=context, branch=True)
    if variables:
        state["variables"] = variables
    if within:
        state["within"] = within


def settled(step: Step, frame: str) -> bool:
    """Whether this frame, which ends, was awaited; what is next begins then."""
    if "awaited" not in step.frames[frame]:
        return False
    step.close(frame)
    go_on(step)
    return True


def go_on(step: Step) -> None:
    """Begin the next list, unless something is at work; after the last one the instance ends."""
    if step.frames:
        return
    ending = step.snapshot["ending"] = dict(step.snapshot["ending"])
    ending.pop("at", None)
    ending.pop("input", None)
    entry = _take(step)
    if entry is None:
        _end(step)
        return
    block = step.nodes[entry["node"]]
    assert isinstance(block, Block)
    ending.update(at=block.pointer, input=entry["output"])
    step.snapshot["jumps"] = 0
    frame = step.open(block, "")
    step.edit(frame).update({key: entry[key] for key in ("variables",) if key in entry})
    step.history.append({"type": "compensation.started", "pointer": block.pointer})
    step.later(frame, handler_of(step, block).enter, entry["output"])


def completed(step: Step) -> None:
    """The list at work has come to its end."""
    ending: JsonObject = step.snapshot["ending"]
    step.history.append({"type": "compensation.completed", "pointer": ending["at"]})
    step.snapshot["ending"] = {**ending, "done": ending["done"] + 1}
    _next(step)


def failed(step: Step, error: JsonObject) -> None:
    """The list at work has failed: that is set aside, and the others are gone through."""
    ending = step.snapshot["ending"]
    _give_up(step, ending["at"], ending["input"], error)
    _next(step)


def abort(step: Step, error: JsonObject) -> None:
    """End now, with the status that was to come; what is not undone is set aside, one by one."""
    step.drop(set())
    ending: JsonObject = step.snapshot["ending"]
    if "at" in ending:
        _give_up(step, ending["at"], ending["input"], error)
    set_aside(step, error)
    _end(step)


def set_aside(step: Step, error: JsonObject) -> None:
    """Nothing of what could be undone will be: a dead letter for each."""
    while (entry := _take(step)) is not None:
        _give_up(step, entry["node"], entry["output"], error)


def _next(step: Step) -> None:
    step.drop(set())
    go_on(step)


def _give_up(step: Step, pointer: str, input: Any, error: JsonObject) -> None:
    """`input`: what the list was given to undo."""
    step.history.append({"type": "compensation.failed", "pointer": pointer, "error": brief(error)})
    key = "ending" if under_way(step.snapshot) else "compensated"
    known: JsonObject = step.snapshot.get(key, {"done": 0, "failed": []})
    step.snapshot[key] = {**known, "failed": [*known["failed"], pointer]}
    letter = {
        "instance": step.snapshot["id"],
        "pointer": pointer,
        "input": input,
        "error": error,
    }
    step.commands.append(DeadLetter(LETTER, step.snapshot["workflow"], letter))


def _end(step: Step) -> None:
    ending: JsonObject = step.snapshot.pop("ending")
    step.snapshot["compensated"] = {"done": ending["done"], "failed": ending["failed"]}
    why: JsonObject = {key: ending[key] for key in ("error", "reason") if key in ending}
    step.snapshot.update(why)
    finish(step, ending["status"], **why)
