"""Which execution of a task it is: its pointer and, inside of loops, the iterations."""

from __future__ import annotations

from orchestrator.machine.kernel.step import Step


def occurrence_of(step: Step, frame: str, pointer: str) -> str:
    """The task at `pointer`, and in which iterations of the loops around it."""
    indexes: list[str] = []
    while frame:
        state = step.frames[frame]
        if "iteration" in state:
            indexes.append(str(state["iteration"]))
        frame = state["parent"]
    return f"{pointer}#{'.'.join(reversed(indexes))}" if indexes else pointer
