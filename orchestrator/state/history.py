"""The messages of WORKFLOW_HISTORY: one for each applied event. Pure."""

from __future__ import annotations

from typing import Any

import orjson

from orchestrator.state.commit import HistoryEntry
from wf.jetstream.port import Outgoing
from wf.protocol import messages, subjects

JsonObject = dict[str, Any]


def history_message(
    snapshot: JsonObject,
    commit_number: int,
    n: int,
    entry: HistoryEntry,
    event: JsonObject,
) -> Outgoing:
    """One applied event with the entries it gave (docs/protocol.md, history)."""
    now_ms, stream, sequence, entries, _overlay = entry
    instance = snapshot["id"]
    body = {
        "v": messages.VERSION,
        "commit": commit_number,
        "n": n,
        "now_ms": now_ms,
        "namespace": snapshot["namespace"],
        "workflow": snapshot["workflow"],
        "version": snapshot["version"],
        "stream": stream,
        "sequence": sequence,
        "event": event,
        "entries": entries,
    }
    return Outgoing(
        subjects.history(instance),
        orjson.dumps(body),
        message_id=messages.history_message_id(instance, commit_number, n),
    )


def overlaid(event: JsonObject, overlay: JsonObject) -> JsonObject:
    """The event that the machine saw: with a `kind` the overlay is the whole of it."""
    return overlay if "kind" in overlay else {**event, **overlay}
