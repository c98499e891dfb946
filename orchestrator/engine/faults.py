"""Faults that take the place of an event which can have no other outcome. Pure."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any

from orchestrator.ingest.messages_in import Item
from orchestrator.ingest.poison_journal import Case
from orchestrator.state.commit import StateUnusable
from wf.protocol import gate

JsonObject = dict[str, Any]

RUNTIME = "https://open-workflow-specification.org/spec/1.0.0/errors/runtime"


def fault_event(title: str, detail: str, **more: Any) -> JsonObject:
    """An event of the shell's own that faults the whole instance."""
    error = {"type": RUNTIME, "status": 500, "title": title, "detail": detail}
    return {"kind": "fault", "error": error, **more}


def convicted(item: Item, case: Case) -> Item:
    """In place of an event that has killed the process that applied it."""
    evidence = {
        "event": item.event,
        "stream": item.delivery.stream,
        "sequence": item.delivery.sequence,
        "deaths": case.falls,
        "how": case.how,
    }
    detail = f"applying this event ended the process {case.falls} times: {case.cause}"
    return _in_place_of(item, "Event killed the engine", detail, evidence)


def _in_place_of(item: Item, title: str, detail: str, evidence: JsonObject) -> Item:
    """A fault of the instance, where `item` can have no other outcome."""
    event = fault_event(title, detail, evidence=evidence)
    if item.event["kind"] == "start":
        event = {
            **item.event,
            "input": None,
            "version": "",
            "refused": event["error"],
            "evidence": evidence,
        }
    return Item(item.delivery, item.instance, event)


def without_culprit(
    items: list[Item], attempt: Callable[[list[Item]], Any], error: Exception
) -> list[Item]:
    """`items` with a fault in the place of the first that raises. Raises StateUnusable when it is
    such a fault already."""
    good, bad = 0, len(items)
    while bad - good > 1:
        middle = (good + bad) // 2
        try:
            attempt(items[:middle])
        except Exception as another:  # noqa: BLE001 — what is looked for
            bad, error = middle, another
        else:
            good = middle
    culprit = items[bad - 1]
    if culprit.event["kind"] == "fault" or "refused" in culprit.event:
        raise StateUnusable(gate.error_text(error)) from error
    evidence = {
        "event": culprit.event,
        "stream": culprit.delivery.stream,
        "sequence": culprit.delivery.sequence,
        "traceback": traceback_text(error),
    }
    fault = _in_place_of(culprit, "Engine error", gate.error_text(error), evidence)
    return [*items[: bad - 1], fault, *items[bad:]]


def traceback_text(error: Exception) -> str:
    """The end of its traceback, as it can be stored."""
    return gate.text("".join(traceback.format_exception(error))[-8000:])
