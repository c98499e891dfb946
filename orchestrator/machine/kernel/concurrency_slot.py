"""The instance's place among those of its workflow that may run at once: `slot` in its snapshot.

    row     who shares the places: `<namespace>.<workflow>.<hash of the key>`
    key     what `concurrencyKey` gave; not there without one
    turn    1, and one more for each time that it stands in line again
    state   waiting, held or released
    retry   while it waits to be retried: `event`, the command, and `ended_ms`, when it had faulted

It stands in line by an entry of the bucket WORKFLOW_PLACES, `<row>.<instance>.<turn>`, and gives
its place up by taking that out. Who has a place is for the shell to say
(orchestrator/concurrency/waiting_lines.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from orchestrator.definition.compiler.nodes import Concurrency
from orchestrator.machine.kernel.digest import digest
from orchestrator.machine.kernel.errors import Fault, expression_error
from orchestrator.machine.kernel.scope import Scope

if TYPE_CHECKING:
    from orchestrator.machine.kernel.step import Step

JsonObject = dict[str, Any]

TAKE_PLACE, LEAVE_PLACE = (
    "take-place",
    "leave-place",
)  # kinds of sends (orchestrator/dispatch/effects.py)

WAITING, HELD, RELEASED = "waiting", "held", "released"
ONE_ROW = "all"  # in place of the hash, without a key
MAX_KEY_BYTES = 1024
KEY_PLACE = "/document/metadata/wf/concurrencyKey"


def is_waiting(snapshot: JsonObject) -> bool:
    """True when it has not begun, or not gone on, because it waits for a place."""
    return "slot" in snapshot and snapshot["slot"]["state"] == WAITING


def entry_key(row: str, instance: str, turn: int) -> str:
    return f"{row}.{instance}.{turn}"


def ask(step: Step, concurrency: Concurrency, **more: Any) -> None:
    """Stand in line, at the end. Raises Fault when the key cannot be evaluated."""
    snapshot = step.snapshot
    before: JsonObject = snapshot.get("slot") or _row(step, concurrency)
    turn = before.get("turn", 0) + 1
    snapshot["slot"] = {**before, "turn": turn, "state": WAITING, **more}
    snapshot["status"] = "pending"
    shown = {"key": before["key"]} if "key" in before else {}
    step.history.append({"type": "place.requested", "status": "pending", "turn": turn, **shown})
    step.send(TAKE_PLACE, {"key": entry_key(before["row"], snapshot["id"], turn)})


def _row(step: Step, concurrency: Concurrency) -> JsonObject:
    """Where it belongs, worked out once: its input does not change."""
    snapshot = step.snapshot
    names = f"{snapshot['namespace']}.{snapshot['workflow']}"
    if concurrency.key is None:
        return {"row": f"{names}.{ONE_ROW}"}
    value = step.build(concurrency.key, snapshot["input"], Scope(step, ""), KEY_PLACE)
    size = len(orjson.dumps(value))
    if size > MAX_KEY_BYTES:
        detail = f"gives {size} bytes, {MAX_KEY_BYTES} are possible: take what identifies it"
        raise Fault(expression_error(detail, KEY_PLACE))
    return {"row": f"{names}.{digest((('key', ''),), [value])}", "key": value}


def take(step: Step) -> JsonObject:
    """It has its place now; the slot as it was."""
    before: JsonObject = step.snapshot["slot"]
    kept = {name: value for name, value in before.items() if name != "retry"}
    step.snapshot["slot"] = {**kept, "state": HELD}
    step.history.append({"type": "place.taken", "turn": before["turn"]})
    return before


def leave(step: Step) -> None:
    """It ends: its place, or its turn, is another's."""
    slot: JsonObject = step.snapshot["slot"]
    if slot["state"] == RELEASED:
        return
    if "retry" in slot:
        step.snapshot.pop("failed", None)  # what it would have gone on with
    kept = {name: value for name, value in slot.items() if name != "retry"}
    step.snapshot["slot"] = {**kept, "state": RELEASED}
    step.history.append({"type": "place.released", "turn": slot["turn"]})
    step.send(LEAVE_PLACE, {"key": entry_key(slot["row"], step.snapshot["id"], slot["turn"])})
