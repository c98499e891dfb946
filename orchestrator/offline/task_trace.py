"""An onlooker of the machine: what goes into every task and comes out of it.

The machine keeps no more than it needs to go on; who wants to see data as it passes hands
`Watcher.step` to `advance` as its `step_type`. Nothing that the machine decides changes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from orchestrator.machine.kernel.step import Step

JsonObject = dict[str, Any]

OPEN = "open"


@dataclass(slots=True)
class Seen:
    """One execution of one task. `raw` is what it was given, `input` what `input.from` made of
    it, `sent` what an activity was given, `output` what it passed on, `context` what the context
    was after it."""

    frame: str
    pointer: str
    name: str
    kind: str
    depth: int
    started_ms: int
    raw: Any
    status: str = "skipped"
    input: Any = None
    sent: list[Any] = field(default_factory=list)  # one for each attempt
    output: Any = None
    context: Any = None
    error: JsonObject | None = None
    ended_ms: int | None = None


@dataclass(slots=True)
class Watcher:
    """Collects what was seen of one instance, in the order in which tasks began."""

    seen: list[Seen] = field(default_factory=list)
    _open: dict[str, Seen] = field(default_factory=dict)
    _depth: dict[str, int] = field(default_factory=dict)

    def step(self, *arguments: Any, **options: Any) -> Step:
        """The `step_type` for `advance`."""
        return _WatchedStep(self, *arguments, **options)

    def settle(self, frames: JsonObject) -> None:
        """After an event: what is gone without a word was cancelled. `frames`: the snapshot's."""
        for frame in [frame for frame in self._open if frame not in frames]:
            self._open.pop(frame).status = "cancelled"

    def entered(self, step: Step, frame: str, raw: Any) -> None:
        task = step.task(frame)
        depth = self._parent_depth(step, frame)
        self._depth[frame] = depth
        seen = Seen(frame, task.pointer, task.name, task.kind, depth, step.now_ms, raw)
        self.seen.append(seen)
        self._open[frame] = seen

    def _parent_depth(self, step: Step, frame: str) -> int:
        parent = step.frames[frame]["parent"]
        while parent and parent not in self._depth:
            parent = step.frames[parent]["parent"]
        return self._depth[parent] + 1 if parent else 0

    def began(self, frame: str, input: Any) -> None:
        seen = self._open.get(frame)
        if seen is not None:
            seen.status, seen.input = OPEN, input

    def dispatched(self, frame: str, input: Any) -> None:
        seen = self._open.get(frame)
        if seen is not None:
            seen.sent.append(input)

    def left(self, step: Step, frame: str, parent: str, output: Any) -> None:
        seen = self._open.pop(frame, None)
        if seen is not None:
            seen.status = "skipped" if seen.status == "skipped" else "completed"
            seen.output, seen.ended_ms = output, step.now_ms
            seen.context = step.context(parent)

    def faulted(self, step: Step, frame: str, error: JsonObject) -> None:
        seen = self._open.pop(frame, None)
        if seen is not None:
            seen.status, seen.error, seen.ended_ms = "faulted", error, step.now_ms
            seen.context = step.context(frame)


class _WatchedStep(Step):
    __slots__ = ("_watcher",)

    def __init__(self, watcher: Watcher, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._watcher = watcher

    def entered(self, frame: str, raw: Any) -> None:
        self._watcher.entered(self, frame, raw)

    def began(self, frame: str, input: Any) -> None:
        self._watcher.began(frame, input)

    def left(self, frame: str, parent: str, output: Any) -> None:
        self._watcher.left(self, frame, parent, output)

    def faulted(self, frame: str, error: JsonObject) -> None:
        self._watcher.faulted(self, frame, error)

    def dispatch(self, run: str) -> None:
        self._watcher.dispatched(self.runs[run]["frame"], self.runs[run]["input"])
        super().dispatch(run)
