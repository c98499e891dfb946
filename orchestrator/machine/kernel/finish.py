"""An instance reaches its terminal status: what it holds is given up, and who waits for it is
told.
"""

from __future__ import annotations

from typing import Any

from orchestrator.machine.kernel import concurrency_slot, next_start
from orchestrator.machine.kernel.commands import Finished
from orchestrator.machine.kernel.step import CHILD_ENDED, Step


def finish(step: Step, status: str, **entry: Any) -> None:
    """Reach a terminal status: everything that is still open is dropped."""
    step.drop(set(), completed=status == "completed")
    for kept in ("held", "signals", "consumed"):
        step.snapshot.pop(kept, None)
    if status != "faulted" or step.definition is not None:
        step.snapshot.pop("compensations", None)
    step.snapshot["status"] = status
    step.snapshot["ended_ms"] = step.now_ms
    if "slot" in step.snapshot:
        concurrency_slot.leave(step)
    tell_parent(step, status)
    next_start.ended(step, status)
    step.history.append({"type": f"instance.{status}", "status": status, **entry})
    step.commands.append(Finished())


def tell_parent(step: Step, status: str) -> None:
    """A child that is awaited says how it ended. A later commit may change what is in the
    snapshot (a retry), so the message takes from there only the output."""
    parent = step.snapshot.get("parent")
    if parent is None or not parent["awaited"]:
        return
    told = {"parent": parent["id"], "run": parent["run"], "status": status}
    for key, of in (("error", "faulted"), ("reason", "cancelled")):
        if status == of and key in step.snapshot:
            told[key] = step.snapshot[key]
    step.send(CHILD_ENDED, told)
