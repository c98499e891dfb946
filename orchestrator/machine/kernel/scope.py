"""What an expression sees: `$context`, `$input`, … built only when referenced."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from orchestrator.definition.compiler.nodes import Task
from orchestrator.expressions.jq import NOW

JsonObject = dict[str, Any]

RUNTIME: JsonObject = {"name": "wf-supervisor", "version": "1", "metadata": {}}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MAX_MS = 253_402_300_799_000  # the end of the year 9999


class Surroundings(Protocol):
    """What is read of a step."""

    now_ms: int
    snapshot: JsonObject

    @property
    def document(self) -> JsonObject: ...

    def context(self, frame: str) -> Any: ...

    def variable(self, frame: str, name: str) -> Any: ...


class Scope:
    """The surroundings of one evaluation: the frame, and the data of the task at that point."""

    __slots__ = (
        "frame",
        "input",
        "output",
        "raw",
        "started_ms",
        "step",
        "task",
        "transformed",
        "variables",
    )

    def __init__(
        self,
        step: Surroundings,
        frame: str,
        task: Task | None = None,
        *,
        raw: Any = None,
        input: Any = None,
        output: Any = None,
        started_ms: int | None = None,
        variables: JsonObject | None = None,
    ) -> None:
        self.step = step
        self.frame = frame
        self.task = task
        self.raw = raw
        self.input = input
        self.output = output  # raw, as $task.output
        self.transformed: Any = None  # as $output
        self.started_ms = step.now_ms if started_ms is None else started_ms
        self.variables = variables  # not yet in a frame: the error while a catch is decided

    def resolve(self, name: str) -> Any:
        """The value of `$name`; null for a name that registration should have refused."""
        if self.variables is not None and name in self.variables:
            return self.variables[name]
        reader = _READERS.get(name)
        return self.step.variable(self.frame, name) if reader is None else reader(self)


def moment(ms: int) -> JsonObject:
    """The specification's date-time descriptor."""
    ms = min(max(ms, 0), _MAX_MS)
    text = (_EPOCH + timedelta(milliseconds=ms)).isoformat(timespec="milliseconds")
    return {
        "iso8601": text.removesuffix("+00:00") + "Z",
        "epoch": {"seconds": ms // 1000, "milliseconds": ms},
    }


def _task(scope: Scope) -> JsonObject | None:
    task = scope.task
    if task is None:
        return None
    return {
        "name": task.name,
        "reference": task.pointer,
        "definition": task.source,
        "input": scope.raw,
        "output": scope.output,
        "startedAt": moment(scope.started_ms),
    }


def _workflow(scope: Scope) -> JsonObject:
    snapshot = scope.step.snapshot
    return {
        "id": snapshot["id"],
        "definition": scope.step.document,
        "input": snapshot["input"],
        "startedAt": moment(snapshot["started_ms"]),
    }


_READERS: dict[str, Callable[[Scope], Any]] = {
    "context": lambda scope: scope.step.context(scope.frame),
    "input": lambda scope: scope.input,
    "output": lambda scope: scope.transformed,
    "task": _task,
    "workflow": _workflow,
    "runtime": lambda scope: RUNTIME,
    NOW: lambda scope: scope.step.now_ms / 1000,
}
