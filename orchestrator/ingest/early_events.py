"""Events for instances that do not exist: which may be dropped, which must wait. Pure."""

from __future__ import annotations

from orchestrator.ingest.messages_in import Item
from wf.jetstream import topology


def droppable(items: list[Item], floor: int) -> tuple[list[Item], list[Item]]:
    """(drop, wait). `floor`: up to where every event is acked.

    An event waits while one below it is not acked, for that may be its instance's start. A timer
    never waits: only an instance that existed can have set it. Neighbours that are all unknown
    go together, so that a thousand of them do not take a thousand rounds.
    """
    drop: list[Item] = []
    wait: list[Item] = []
    for item in sorted(items, key=lambda item: item.delivery.sequence):
        if item.delivery.stream != topology.WORKFLOW_EVENTS:
            drop.append(item)
        elif item.delivery.sequence <= floor + 1:
            floor = max(floor, item.delivery.sequence)
            drop.append(item)
        else:
            wait.append(item)
    return drop, wait
