"""The protocol of handlers: one for blocks, and one for each kind of task.

A handler has no state of its own; what it must remember is in its frame, under its own keys.
Keys that every handler may use, because closing a frame releases what they name: `run`, `timer`,
`deadline` (a timer that makes the frame fail), `child`, `children`, and `release` (a list of [kind,
body] to be sent then: what must be undone outside when the frame ends, however it does). `branch`
gives all that is inside a copy of the context, kept as `context` once it differs; `variables`
defines variables there. `ended` is in the frame that a branch leaves behind (branches.py).
"""

from __future__ import annotations

from typing import Any

from orchestrator.definition.compiler.nodes import Block, Task
from orchestrator.machine.kernel.errors import Fault
from orchestrator.machine.kernel.step import Child, Step

JsonObject = dict[str, Any]


class Handler:
    """The answers of a node that contains nothing and waits for nothing."""

    def enter(self, step: Step, frame: str, input: Any) -> None:
        """Begin, with the transformed input. To end, queue `tasks.complete`."""
        raise NotImplementedError

    def child_completed(self, step: Step, frame: str, child: Child, output: Any, then: str) -> None:
        """A child has ended and is closed. `then` is its directive, if it is a task."""
        raise NotImplementedError

    def child_faulted(self, step: Step, frame: str, child: Child, fault: Fault) -> None:
        """A child has failed and is closed. By default so does this."""
        raise fault

    def timer_fired(self, step: Step, frame: str) -> None:
        """This frame's timer has fired, and is gone."""
        raise NotImplementedError

    def run_succeeded(self, step: Step, frame: str, output: Any) -> None:
        """This frame's run has ended well, and is gone."""
        raise NotImplementedError

    def run_abandoned(self, step: Step, frame: str) -> None:
        """This frame and its run are about to be closed although the run has not ended."""

    def run_failed(self, step: Step, frame: str, fault: Fault) -> None:
        """This frame's run has failed for good, and is gone. By default so does this."""
        raise fault

    def reopen(self, step: Step, frame: str, left_ms: int | None) -> None:
        """The instance goes on (`retry`) after a fault that closed this frame and what it held:
        its `release` was sent. `left_ms` is what was left of its timer. The frames below, if any,
        are reopened by themselves."""
        if left_ms is not None:
            step.set_timer(frame, left_ms)


def handler_of(step: Step, node: Task | Block) -> Handler:
    """What answers for a node."""
    found: Handler = step.handlers[node.kind]
    return found
