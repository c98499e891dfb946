"""Waiting for a place among the instances of one workflow that may run at once
(orchestrator/machine/kernel/concurrency_slot.py).

Having got it is an event of kind `place`: `turn`, which says for which time in line. Before it only
the input is checked and the key evaluated; all the rest is done with the place, which is kept until
the instance has ended, suspended or not.
"""

from __future__ import annotations

from typing import Any

from orchestrator.definition import Definition
from orchestrator.machine.control import retry as retrying
from orchestrator.machine.kernel import (
    compensate,
    concurrency_slot,
    deduplication,
    ending,
)
from orchestrator.machine.kernel import (
    start as beginning,
)
from orchestrator.machine.kernel.errors import Fault
from orchestrator.machine.kernel.step import Step

JsonObject = dict[str, Any]

_KEPT = ("sequence", "from", "input", "reason", "parent")  # of a retry that has to wait


def start(step: Step, definition: Definition) -> None:
    """Begin, or stand in line first."""
    concurrency = definition.workflow.concurrency
    if concurrency is None:
        beginning.begin(step, definition)
        return
    try:
        beginning.check_input(step, definition)
        concurrency_slot.ask(step, concurrency)
    except Fault as fault:
        ending.fault(step, fault.error)


def retry(step: Step, event: JsonObject) -> None:
    """Go on after a fault, or stand in line again first."""
    concurrency = None if step.definition is None else step.definition.workflow.concurrency
    if concurrency is None or retrying.only_tells(step.snapshot, event):
        retrying.apply(step, event)
        return
    deduplication.remember(step, event["sequence"])
    snapshot = step.snapshot
    kept = {name: event[name] for name in _KEPT if name in event}
    snapshot["control_sequence"] = max(snapshot["control_sequence"], event["sequence"])
    snapshot.pop("error", None)
    ended_ms = snapshot.pop("ended_ms")
    try:
        concurrency_slot.ask(step, concurrency, retry={"event": kept, "ended_ms": ended_ms})
    except Fault as fault:
        step.count("retries")
        ending.fault(step, fault.error)


def reason_to_ignore(snapshot: JsonObject, event: JsonObject) -> str | None:
    """Why a place has no effect; None when it has."""
    if type(event.get("turn")) is not int:
        return "malformed"
    mine = snapshot.get("slot")
    if mine is None or mine["turn"] != event["turn"]:
        return "late"
    return None if mine["state"] == concurrency_slot.WAITING else "duplicate"


def apply(step: Step, event: JsonObject) -> None:
    """Begin, or go on, now that there is a place."""
    before = concurrency_slot.take(step)
    assert step.definition is not None
    if compensate.under_way(step.snapshot):
        return  # it ends; what undoes it has not waited
    if "retry" in before:
        step.snapshot["ended_ms"] = before["retry"]["ended_ms"]
        retrying.go_on(step, before["retry"]["event"])
    else:
        beginning.begin(step, step.definition, checked=True)
