"""One step of the machine: the snapshot being made, and the work still to do for the event.

A snapshot is never changed: tables are copied when the step begins, entries when they are touched.
Only the tables of a snapshot that is given up (`reuse`) are changed themselves, so that a thousand
results for a fork of a thousand branches do not make a thousand copies of a thousand entries.
Work is an explicit list, so that neither long sequences nor deep nesting use the Python stack.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from orchestrator.definition import Definition
from orchestrator.definition.compiler.nodes import Block, Task
from orchestrator.machine.kernel import failed_frames
from orchestrator.machine.kernel.commands import (
    CancelTimer,
    Command,
    Dispatch,
    Send,
    SetTimer,
)
from orchestrator.machine.kernel.errors import Fault, runtime_error
from orchestrator.machine.kernel.evaluation import Evaluating
from orchestrator.machine.kernel.limits import Limits

JsonObject = dict[str, Any]
Work = Callable[..., None]


class Child(NamedTuple):
    """A frame that is closed, as its parent learns of it: a branch's `context` is in the state."""

    frame: str
    state: JsonObject


TERMINAL = frozenset({"cancelled", "faulted", "completed"})

LIVENESS = "liveness"  # the key of a frame for the timer that waits for its worker (liveness.py)
TIMERS = ("timer", "deadline", LIVENESS)

# Kinds of sends (orchestrator/dispatch/effects.py)
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
        handlers: Mapping[str, Any],
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

    def next_work(self) -> tuple[str, Work, tuple[Any, ...]] | None:
        """(frame, function, arguments) of what is next; None: nothing is left."""
        return self._work.popleft() if self._work else None

    def skip(self, frame: str) -> None:
        """The frame was closed with work still to do."""
        self._skipped.add(frame)

    def interrupted(self) -> set[str]:
        """Frames that had, or have, more to do in this step."""
        return self._skipped.union(frame for frame, _, _ in self._work)

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

    def cancel(self, frame: str) -> None:
        """Close a frame that is still at work, if it is open."""
        if frame in self.frames:
            self._note_open("task.cancelled", self.frames[frame])
            self.abandon(frame)
            self.close(frame)

    def abandon(self, frame: str) -> None:
        """Tell the handlers of the runs that are open in this frame or below: a `try` around may
        begin again."""
        pending = [frame]
        while pending:
            inside = pending.pop()
            state = self.frames.get(inside)
            if state is None:
                continue
            if "run" in state:
                self.handlers[self.node(inside).kind].run_abandoned(self, inside)
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
                failed_frames.keep(self, kept, inside, state)
            if inside != frame:
                self._note_open("task.cancelled", state)
            if "run" in state:
                self.runs.pop(str(state["run"]), None)
            if "release" in state:
                self.release(state)
            for key in TIMERS:
                if key in state:
                    self.cancel_timer(state[key])
            if "child" in state:
                pending.append(state["child"])
            pending.extend(state.get("children", ()))
        return closed

    def release(self, state: JsonObject) -> None:
        """Send what the frame wants to be sent when it ends, however it does."""
        for kind, body in state["release"]:
            self.send(kind, body)

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
        """Have a message published that is made from `body` alone
        (orchestrator/dispatch/effects.py).
        """
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

    # --- for onlookers ------------------------------------------------------------------------

    def entered(self, frame: str, raw: Any) -> None:
        """A task is entered with its raw input."""

    def began(self, frame: str, input: Any) -> None:
        """Its kind begins, with the transformed input."""

    def left(self, frame: str, parent: str, output: Any) -> None:
        """It has ended, with what it passes on."""

    def faulted(self, frame: str, error: JsonObject) -> None:
        """It fails, and is about to be closed."""

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
                self.release(state)
        for run in [run for run in self.runs if run not in runs]:
            del self.runs[run]
