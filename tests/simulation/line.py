"""Of a workflow with a limit never more run than it says, and in the end nobody stands in line."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.simulation import flows
from tests.support.memory.stream import MemoryStream

JsonObject = dict[str, Any]


class Running:
    """Which instances hold a place, by what is stored of them."""

    def __init__(self) -> None:
        self._rows: dict[str, set[str]] = {}

    def stored(self, snapshot: JsonObject) -> str | None:
        """A snapshot is stored; what is wrong with that."""
        slot: JsonObject | None = snapshot.get("slot")
        if slot is None:
            return None
        row = self._rows.setdefault(slot["row"], set())
        if slot["state"] != "held":
            row.discard(snapshot["id"])
            if snapshot["status"] in ("running", "waiting"):
                return f"{snapshot['id']} is {snapshot['status']}, and its slot is {slot}"
            return None
        row.add(snapshot["id"])
        limit = flows.LIMITED[snapshot["workflow"]]
        if len(row) > limit:
            return f"{sorted(row)} run at once, {limit} of {snapshot['workflow']} may"
        return None


def left(stream: MemoryStream) -> Iterator[str]:
    """Entries that nobody will take out."""
    for message in stream.messages.values():
        if not message.stored().is_marker:
            yield f"{message.subject} is left in the line"
