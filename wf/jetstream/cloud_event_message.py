"""The message of CLOUD_EVENTS that publishes an event. Pure."""

from __future__ import annotations

from wf.jetstream.port import Outgoing
from wf.protocol import gate, subjects
from wf.protocol.cloudevents import CONTENT_TYPE, EVENT_DEPTH, JsonObject


def cloud_event_message(event: JsonObject, message_id: str) -> Outgoing:
    """The message of CLOUD_EVENTS that publishes a checked event."""
    return Outgoing(
        subjects.cloud_event(event["type"]),
        gate.encode(event, "event", depth=EVENT_DEPTH),
        message_id=message_id,
        headers={"Content-Type": CONTENT_TYPE},
    )
