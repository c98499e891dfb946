"""run: workflow. A child instance, started through the outbox, and what its end means here.

A child is a run without a task: its entry in `runs` has `child` (the instance's id) and `workflow`
in place of an activity. Its end comes as an event of kind `child`:

    run      that of the parent
    child    id of the instance that ended
    status   completed, faulted or cancelled
    output   when completed
    error    when faulted
    reason   maybe, when cancelled

While the child runs, the frame's `release` cancels it: whatever closes the frame, the child ends
with it.
"""

from __future__ import annotations

from typing import Any

from orchestrator.definition.compiler.nodes import RunWorkflow
from orchestrator.machine.flow import tasks
from orchestrator.machine.kernel.errors import Fault, brief, mended, runtime_error
from orchestrator.machine.kernel.handler import Handler, handler_of
from orchestrator.machine.kernel.step import START_CHILD, TERMINAL, Step
from wf.protocol.ids import child_id
from wf.protocol.subjects import is_name, qualified

JsonObject = dict[str, Any]

CANCEL_CHILD = "cancel-child"
RETRY_CHILD = "retry-child"


class ChildHandler(Handler):
    """Frame: `run` and `release`, while the child is awaited.

    Run: `workflow`, `child`, `attempt`, `pointer`, `frame`, and the child's `input`, which a
    `retry` of this instance may need once more.
    """

    def enter(self, step: Step, frame: str, input: Any) -> None:
        task = step.task(frame)
        body: RunWorkflow = task.body
        given = input
        if body.arguments is not None:
            given = tasks.build_inside(step, frame, body.arguments, input)
        depth = step.snapshot.get("depth", 0) + 1
        if depth > step.limits.max_depth:
            detail = (
                f"{depth - 1} workflows have run each other already: look for one that runs "
                "itself without an end"
            )
            raise Fault(runtime_error("Too many workflows deep", detail, task.pointer), False)
        self._start(step, frame, input, given)

    def _start(self, step: Step, frame: str, input: Any, given: Any) -> None:
        """A new child; `input` is what the task passes on when it does not wait for it."""
        task = step.task(frame)
        body: RunWorkflow = task.body
        depth = step.snapshot.get("depth", 0) + 1
        run = step.count("last_run")
        child = child_id(step.snapshot["id"], run)
        known = {"run": run, "child": child, "workflow": _title(body), "awaited": body.awaited}
        step.note("child.started", task, **known)
        start: JsonObject = {
            "id": child,
            "namespace": body.namespace,
            "workflow": body.workflow,
            "input": given,
            "parent": {"id": step.snapshot["id"], "run": run, "awaited": body.awaited},
            "depth": depth,
        }
        if body.version is not None:
            start["version"] = body.version
        step.send(START_CHILD, start)
        if not body.awaited:
            tasks.complete(step, frame, input if body.returns else None)
            return
        step.runs[str(run)] = {
            "workflow": qualified(body.namespace, body.workflow),
            "child": child,
            "attempt": 1,
            "pointer": task.pointer,
            "input": given,
            "frame": frame,
        }
        _await(step, frame, run, child)

    def reopen(self, step: Step, frame: str, left_ms: int | None) -> None:
        """A child that faulted is asked to go on itself; one that was cancelled, as by the fault
        of its parent, or has completed, is followed by a new one with the same input."""
        state = step.edit(frame)
        spent = state.pop("spent", None)
        if spent is not None and spent["status"] == "faulted":
            number: int = spent["run"]
            kept = ("workflow", "child", "attempt", "pointer", "input", "frame")
            step.runs[str(number)] = {key: spent[key] for key in kept}
            _await(step, frame, number, spent["child"])
            step.send(RETRY_CHILD, {"id": spent["child"], "run": number})
            return
        if spent is None:
            spent = step.runs.pop(str(state.pop("run")))
        self._start(step, frame, None, spent["input"])

    def run_succeeded(self, step: Step, frame: str, output: Any) -> None:
        body: RunWorkflow = step.task(frame).body
        tasks.complete(step, frame, output if body.returns else None)


def _await(step: Step, frame: str, run: int, child: str) -> None:
    state = step.edit(frame)
    state["run"] = run
    state["release"] = [[CANCEL_CHILD, {"id": child, "run": run}]]


def parent_of(event: JsonObject) -> JsonObject | None:
    """{id, run, awaited} that a start names as its parent; None when it names none."""
    given = event.get("parent")
    if type(given) is not dict:
        return None
    found: JsonObject = {key: given.get(key) for key in ("id", "run", "awaited")}
    shape = (type(found["id"]), type(found["run"]), type(found["awaited"]))
    if shape != (str, int, bool) or not is_name(found["id"]):
        return None
    return found


def _title(body: RunWorkflow) -> str:
    return f"{qualified(body.namespace, body.workflow)} {body.version or ''}".strip()


def reason_to_ignore(snapshot: JsonObject, event: JsonObject) -> str | None:
    """Why the end of a child has no effect; None when it has."""
    run, status = event.get("run"), event.get("status")
    if type(run) is not int or type(status) is not str or status not in TERMINAL:
        return "malformed"
    open_run = snapshot["runs"].get(str(run))
    if open_run is None or open_run.get("child", "") != event.get("child"):  # a call's has none
        return "late"
    return None


def apply(step: Step, event: JsonObject) -> None:
    """The child has ended: so has its run."""
    run, status = str(event["run"]), event["status"]
    ended = step.runs.pop(run)
    frame: str = ended["frame"]
    state = step.edit(frame)
    for key in ("run", "release"):
        state.pop(key, None)
    state["spent"] = {**ended, "run": event["run"], "status": status}  # until the frame closes
    error = None if status == "completed" else _error(event, ended)
    entry = {"pointer": ended["pointer"], "run": event["run"], "child": ended["child"]}
    if error is not None:
        entry["error"] = brief(error)
    step.history.append({"type": f"child.{status}", **entry})
    handler = handler_of(step, step.node(frame))
    if error is None:
        step.later(frame, handler.run_succeeded, event.get("output"))
    else:
        step.later(frame, handler.run_failed, Fault(error))


def _error(event: JsonObject, ended: JsonObject) -> JsonObject:
    """The error of the task: the child's own, which says where in the child it was."""
    child: JsonObject = {"id": ended["child"], "workflow": ended["workflow"]}
    if event["status"] == "cancelled":
        reason = event.get("reason")
        because = f": {reason}" if type(reason) is str and reason else ""
        detail = f"instance {ended['child']} of {ended['workflow']} was cancelled{because}"
        error = runtime_error("Child cancelled", detail, ended["pointer"])
        return {**error, "child": child}
    given = event.get("error")
    if type(given) is dict and type(given.get("instance")) is str:
        child["instance"] = given["instance"]
    return {**mended(given, ended["pointer"], **_titled(given)), "child": child}


def _titled(given: Any) -> JsonObject:
    has_title = type(given) is dict and type(given.get("title")) is str
    return {} if has_title else {"title": "Child faulted"}
