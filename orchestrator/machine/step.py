"""One step of the machine: the snapshot being made, and the work still to do for the event.

A snapshot is never changed: tables are copied when the step begins, entries when they are touched.
Only the tables of a snapshot that is given up (`reuse`) are changed themselves, so that a thousand
results for a fork of a thousand branches do not make a thousand copies of a thousand entries.
Work is an explicit list, so that neither long sequences nor deep nesting use the Python stack.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from orchestrator.definition import Definition
from orchestrator.definition.nodes import Block, Task
from orchestrator.machine import compensating, retention, scheduling, slot
from orchestrator.machine.commands import (
    CancelTimer,
    Command,
    Dispatch,
    Finished,
    Send,
    SetTimer,
    Transition,
)
from orchestrator.machine.errors import (
    Fault,
    brief,
    runtime_error,
)
from orchestrator.machine.evaluating import Evaluating
from orchestrator.machine.limits import Limits
from orchestrator.machine.scope import Scope

if TYPE_CHECKING:
    from orchestrator.machine.handler import Handler

JsonObject = dict[str, Any]
Work = Callable[..., None]


class Child(NamedTuple):
    """A frame that is closed, as its parent learns of it: a branch's `context` is in the state."""

    frame: str
    state: JsonObject


TERMINAL = frozenset({"cancelled", "faulted", "completed"})

LIVENESS = "liveness"  # the key of a frame for the timer that waits for its worker (liveness.py)
TIMERS = ("timer", "deadline", LIVENESS)

# Kinds of sends (orchestrator/sends.py)
LISTEN, UNLISTEN = "listen", "unlisten"
START_CHILD = "start-child"
CHILD_ENDED = "child-ended"


class Step(Evaluating):
    """Everything that one call of `advance` reads and writes."""

    __slots__ = (
        "_fresh",
        "_skipped",
        "_work",
        "commands",
        "definition",
        "frames",
        "handlers",
        "nodes",
        "now_ms",
        "runs",
        "snapshot",
        "timers",
    )

    def __init__(
        self,
        definition: Definition | None,
        snapshot: JsonObject,
        now_ms: int,
        limits: Limits,
        handlers: Mapping[str, Handler],
        *,
        reuse: bool = False,
    ) -> None:
        super().__init__(limits)
        self.now_ms: int = now_ms
        self.definition = definition
        self.handlers = handlers
        self.nodes = definition.workflow.nodes if definition is not None else {}
        if not reuse:
            tables = ("frames", "runs", "timers")
            snapshot = {**snapshot, **{table: dict(snapshot[table]) for table in tables}}
        self.snapshot = snapshot
        self.frames: dict[str, JsonObject] = snapshot["frames"]
        self.runs: dict[str, JsonObject] = snapshot["runs"]
        self.timers: dict[str, JsonObject] = snapshot["timers"]
        self.commands: list[Command] = []
        self._fresh: set[str] = set()
        self._skipped: set[str] = set()  # frames that were closed with work still to do
        self._work: deque[tuple[str, Work, tuple[Any, ...]]] = deque()

    # --- work ---------------------------------------------------------------------------------

    def later(self, frame: str, work: Work, *arguments: Any) -> None:
        """Queue `work(self, frame, *arguments)`; a Fault that it raises is that frame's."""
        self._work.append((frame, work, arguments))

    def run(self) -> None:
        """Work until nothing is left to do before the next event."""
        work, left = self._work, self.limits.max_steps
        while work:
            left -= 1
            if left < 0:
                detail = (
                    f"more than {self.limits.max_steps} steps without waiting for anything: "
                    "look for a loop that has no call and no wait"
                )
                self.fault(runtime_error("Too many steps", detail, "/"), whole=True)
                left = self.limits.max_steps  # for what undoes the rest, if there is something
                continue
            frame, function, arguments = work.popleft()
            if frame and frame not in self.frames:
                self._skipped.add(frame)  # cancelled meanwhile
                continue
            try:
                function(self, frame, *arguments)
            except Fault as fault:
                self.failed(frame, fault)

    # --- frames -------------------------------------------------------------------------------

    def count(self, name: str) -> int:
        """The next number of a counter that is never reset."""
        number: int = self.snapshot.get(name, 0) + 1
        self.snapshot[name] = number
        return number

    def open(self, node: Task | Block, parent: str) -> str:
        """A new frame for a node; its id."""
        frame = str(self.count("last_frame"))
        self.frames[frame] = {"node": node.pointer, "parent": parent}
        self._fresh.add(frame)
        return frame

    def edit(self, frame: str) -> JsonObject:
        """The frame, to be changed."""
        if frame in self._fresh:
            return self.frames[frame]
        self._fresh.add(frame)
        copy = self.frames[frame] = dict(self.frames[frame])
        return copy

    def node(self, frame: str) -> Task | Block:
        return self.nodes[self.frames[frame]["node"]]

    def task(self, frame: str) -> Task:
        node = self.node(frame)
        assert isinstance(node, Task)
        return node

    def block(self, frame: str) -> Block:
        node = self.node(frame)
        assert isinstance(node, Block)
        return node

    def handler(self, node: Task | Block) -> Handler:
        return self.handlers[node.kind]

    def cancel(self, frame: str) -> None:
        """Close a frame that is still at work, if it is open."""
        if frame in self.frames:
            self._note_open("task.cancelled", self.frames[frame])
            self._abandon(frame)
            self.close(frame)

    def _abandon(self, frame: str) -> None:
        """Tell the handlers of the runs that are open in this frame or below: a `try` around may
        begin again."""
        pending = [frame]
        while pending:
            inside = pending.pop()
            state = self.frames.get(inside)
            if state is None:
                continue
            if "run" in state:
                self.handler(self.node(inside)).run_abandoned(self, inside)
            if "child" in state:
                pending.append(state["child"])
            pending.extend(state.get("children", ()))

    def close(self, frame: str, kept: JsonObject | None = None) -> Child:
        """Remove a frame with all that is below it; what it was. `kept` gets what is removed."""
        closed = Child(frame, self.frames[frame])
        pending = [frame]
        while pending:
            inside = pending.pop()
            state = self.frames.pop(inside, None)
            if state is None:
                continue
            if kept is not None:
                retention.keep(self, kept, inside, state)
            if inside != frame:
                self._note_open("task.cancelled", state)
            if "run" in state:
                self.runs.pop(str(state["run"]), None)
            if "release" in state:
                self._release(state)
            for key in TIMERS:
                if key in state:
                    self.cancel_timer(state[key])
            if "child" in state:
                pending.append(state["child"])
            pending.extend(state.get("children", ()))
        return closed

    def _release(self, state: JsonObject) -> None:
        """Send what the frame wants to be sent when it ends, however it does."""
        for kind, body in state["release"]:
            self.send(kind, body)

    def failed(self, frame: str, fault: Fault) -> None:
        """A frame fails: it is closed, and what contains it decides."""
        if not frame:
            self.fault(fault.error, fault)
            return
        node = self.node(frame)
        if isinstance(node, Task):
            self.note("task.faulted", node, error=brief(fault.error))
        if compensating.settled(self, frame):
            return
        self._abandon(frame)
        child = self.close(frame, retention.begin(fault, frame))
        parent: str = child.state["parent"]
        if not parent:
            self.fault(fault.error, fault)
        else:
            self.later(parent, self.handler(self.node(parent)).child_faulted, child, fault)

    # --- data ---------------------------------------------------------------------------------

    @property
    def document(self) -> JsonObject:
        return {} if self.definition is None else self.definition.document

    def context(self, frame: str) -> Any:
        """What a branch around has made of its copy, else what was there before it."""
        owner = self._nearest(frame, "context")
        return self.snapshot["context"] if owner is None else self.frames[owner]["context"]

    def set_context(self, frame: str, value: Any) -> None:
        """Inside a branch only its copy changes, which is made here: while a branch is open,
        nothing changes the context around it."""
        owner = self._nearest(frame, "branch")
        if owner is None:
            self.snapshot["context"] = value
        else:
            self.edit(owner)["context"] = value

    def _nearest(self, frame: str, key: str) -> str | None:
        """The nearest frame around, or this one, that has `key`."""
        while frame:
            state = self.frames[frame]
            if key in state:
                return frame
            frame = state["parent"]
        return None

    def variable(self, frame: str, name: str) -> Any:
        """A variable that an enclosing task defines; null when none does."""
        while frame:
            state = self.frames[frame]
            if name in state.get("variables", ()):
                return state["variables"][name]
            frame = state["parent"]
        return None

    # --- runs and timers ----------------------------------------------------------------------

    def dispatch(self, run: str) -> None:
        """Have a task published for the run's current attempt."""
        state = self.runs[run]
        self.commands.append(Dispatch(int(run)))
        self.history.append(
            {
                "type": "run.dispatched",
                "pointer": state["pointer"],
                "run": int(run),
                "attempt": state["attempt"],
                "activity": state["activity"],
            }
        )

    def send(self, kind: str, body: JsonObject) -> None:
        """Have a message published that is made from `body` alone (orchestrator/sends.py)."""
        self.commands.append(Send(kind, body))

    def set_timer(self, frame: str, delay_ms: int, key: str = "timer") -> None:
        """A timer that comes back to this frame; a frame has one at most of each `key`, which
        are those of TIMERS."""
        place = self.frames[frame]["node"]
        if len(self.timers) >= self.limits.max_timers:
            detail = f"{self.limits.max_timers} timers are pending already"
            raise Fault(runtime_error("Too many timers", detail, place))
        number = self.count("last_timer")
        due_ms = self.now_ms + delay_ms
        self.timers[str(number)] = {"due_ms": due_ms, "frame": frame}
        self.edit(frame)[key] = number
        self.commands.append(SetTimer(number))
        self.history.append(
            {"type": "timer.set", "pointer": place, "timer": number, "due_ms": due_ms}
        )

    def cancel_timer(self, number: int) -> None:
        if self.timers.pop(str(number), None) is not None:
            self.commands.append(CancelTimer(number))

    # --- the end ------------------------------------------------------------------------------

    def note(self, type_: str, task: Task, **more: Any) -> None:
        """A history entry about a task."""
        self.history.append({"type": type_, "pointer": task.pointer, "name": task.name, **more})

    def note_open(self, type_: str) -> None:
        """A history entry about each task that has not ended, the oldest first."""
        for frame in sorted(self.frames, key=int):
            self._note_open(type_, self.frames[frame])

    def _note_open(self, type_: str, state: JsonObject) -> None:
        node = self.nodes.get(state.get("node", ""))
        if isinstance(node, Task) and "ended" not in state:
            self.note(type_, node)

    def drop(self, kept: set[str], *, completed: bool = False) -> None:
        """Drop everything that is still open, but for the frames `kept`, each with what is its
        own. `completed`: a task has ended the workflow, those around it are not cancelled."""
        self._work.clear()
        left = [self.frames[frame] for frame in kept]
        clocks = [state.get(key) for state in left for key in TIMERS]
        timers = {str(number) for number in clocks}
        runs = {str(state["run"]) for state in left if "run" in state}
        for number in [number for number in self.timers if number not in timers]:
            self.cancel_timer(int(number))
        for frame in sorted(self.frames.keys() - kept, key=int):
            state = self.frames.pop(frame)
            if not (completed and ("child" in state or "children" in state)):
                self._note_open("task.cancelled", state)
            if "release" in state:
                self._release(state)
        for run in [run for run in self.runs if run not in runs]:
            del self.runs[run]

    def finish(self, status: str, **entry: Any) -> None:
        """Reach a terminal status: everything that is still open is dropped."""
        self.drop(set(), completed=status == "completed")
        for kept in ("held", "signals", "consumed"):
            self.snapshot.pop(kept, None)
        if status != "faulted" or self.definition is not None:
            self.snapshot.pop("compensations", None)
        self.snapshot["status"] = status
        self.snapshot["ended_ms"] = self.now_ms
        if "slot" in self.snapshot:
            slot.leave(self)
        self.tell_parent(status)
        scheduling.ended(self, status)
        self.history.append({"type": f"instance.{status}", "status": status, **entry})
        self.commands.append(Finished())

    def tell_parent(self, status: str) -> None:
        """A child that is awaited says how it ended. A later commit may change what is in the
        snapshot (a retry), so the message takes from there only the output."""
        parent = self.snapshot.get("parent")
        if parent is None or not parent["awaited"]:
            return
        told = {"parent": parent["id"], "run": parent["run"], "status": status}
        for key, of in (("error", "faulted"), ("reason", "cancelled")):
            if status == of and key in self.snapshot:
                told[key] = self.snapshot[key]
        self.send(CHILD_ENDED, told)

    def fault(self, error: JsonObject, fault: Fault | None = None, *, whole: bool = False) -> None:
        """Fault the instance; `fault` is what came out of its tasks, if it did. What has been done
        is undone first, where the definition says how (compensating.py); of what undoes it only
        the part that fails is given up, unless the fault concerns the instance as a `whole`.
        Otherwise what is needed to go on after a `retry` stays, under `failed`."""
        if compensating.under_way(self.snapshot):
            (compensating.abort if whole else compensating.failed)(self, error)
            return
        if compensating.is_due(self, fault):
            compensating.begin(self, "faulted", {"error": error}, fault)
            return
        self.snapshot["error"] = error
        retention.store(self, fault, self._skipped.union(frame for frame, _, _ in self._work))
        self.finish("faulted", error=error)

    def complete(self, output: Any) -> None:
        """Complete the instance with the output of its last task."""
        if compensating.under_way(self.snapshot):
            compensating.completed(self)
            return
        if self.definition is not None:
            workflow = self.definition.workflow
            try:
                if workflow.output_as is not None:
                    output = self.build(workflow.output_as, output, Scope(self, ""), "/output/as")
                self.validate(workflow.output_schema, output, "output", "/output/schema")
            except Fault as fault:
                self.fault(fault.error)
                return
        self.snapshot["output"] = output
        self.finish("completed")

    def transition(self) -> Transition:
        """The outcome. A dispatch or a timer that was taken back within the step is left out."""
        status = self.snapshot["status"]
        if status not in TERMINAL and status != "suspended":
            self._settle(self.active_status, status)
        set_here = {command.timer for command in self.commands if type(command) is SetTimer}
        kept = [command for command in self.commands if self._stands(command, set_here)]
        return Transition(self.snapshot, kept, self.history)

    @property
    def active_status(self) -> str:
        """The status while it has not ended and is not suspended."""
        if compensating.under_way(self.snapshot):
            return compensating.COMPENSATING
        if slot.is_waiting(self.snapshot):
            return "pending"
        return "running" if self.runs else "waiting"

    def _settle(self, status: str, before: str) -> None:
        self.snapshot["status"] = status
        if status != before:
            self.history.append({"type": f"instance.{status}", "status": status})

    def _stands(self, command: Command, set_here: set[int]) -> bool:
        if type(command) is Dispatch:
            return str(command.run) in self.runs
        if type(command) is SetTimer:
            return str(command.timer) in self.timers
        if type(command) is CancelTimer:
            return command.timer not in set_here
        return True
