"""A child that cannot be made, because its id is another instance's: its parent must hear of it."""

from __future__ import annotations

from typing import Any

from loguru import logger

from orchestrator.ingest.messages_in import Item
from orchestrator.machine.calls.child_workflow import parent_of
from wf.jetstream import topology
from wf.jetstream.port import Accepted, Outgoing, Port
from wf.jetstream.publish_until_stored import refused, store_one
from wf.protocol import messages, subjects

JsonObject = dict[str, Any]

CONFIGURATION = "https://open-workflow-specification.org/spec/1.0.0/errors/configuration"


async def refuse(port: Port, item: Item, existing: JsonObject | None) -> None:
    """Tell the parent that awaits the child of this start, unless `existing` is that child.

    `existing`: the snapshot that has the id, None when it ended and expired. Told twice, it counts
    once. Raises BrokerError.
    """
    parent = parent_of(item.event)
    if parent is None or not parent["awaited"]:
        return
    if existing is not None and existing.get("parent") == parent:
        return  # the start has come twice
    detail = (
        f"instance {item.instance} exists already and is not this run's child: it was started by "
        f"somebody else under the id that this child would have"
    )
    error = {"type": CONFIGURATION, "status": 409, "title": "Child not started", "detail": detail}
    message = Outgoing(
        subjects.child_completed(parent["id"], parent["run"]),
        messages.encode(messages.child_body(child=item.instance, status="faulted", error=error)),
        message_id=f"{item.instance}:refused:{item.delivery.sequence}",
    )
    outcome = await store_one(port, topology.WORKFLOW_EVENTS, message)
    if not isinstance(outcome, Accepted):
        raise refused(topology.WORKFLOW_EVENTS, outcome)
    logger.bind(instance=item.instance, parent=parent["id"]).warning("child.refused")
