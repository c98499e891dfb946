"""What each role may do at the embedded broker (and should, at any other)."""

from __future__ import annotations

from dataclasses import dataclass

_CLIENT_READS = (
    "KV_WORKFLOW_STATES",
    "KV_WORKFLOW_DEFINITIONS",
    "KV_ACTIVITY_CATALOG",
    "KV_POOL_STATUS",
    "WORKFLOW_HISTORY",
    "WORKFLOW_TIMERS",
    "DEAD_LETTERS",
)


@dataclass(frozen=True, slots=True)
class Permissions:
    """Subjects that a role may publish to and subscribe to."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]


def reading(*streams: str) -> tuple[str, ...]:
    """API subjects for reading streams, without consumers."""
    subjects: list[str] = []
    for stream in streams:
        subjects += [
            f"$JS.API.DIRECT.GET.{stream}",
            f"$JS.API.DIRECT.GET.{stream}.>",
            f"$JS.API.STREAM.MSG.GET.{stream}",
            f"$JS.API.STREAM.INFO.{stream}",
        ]
    return tuple(subjects)


def permissions(role: str) -> Permissions:
    """The role's permissions. Every client role may read every instance."""
    if role == "orchestrator":
        return Permissions((">",), (">",))
    return Permissions(_PUBLISH[role], (f"_INBOX_{role}.>", *_SUBSCRIBE.get(role, ())))


_PUBLISH = {
    "worker": (
        "$JS.API.CONSUMER.INFO.ACTIVITY_TASKS.*",
        "$JS.API.CONSUMER.MSG.NEXT.ACTIVITY_TASKS.*",
        "$JS.ACK.ACTIVITY_TASKS.>",
        "$KV.ACTIVITY_CATALOG.*",
        "workflow.activity.completed.*.*",
        "dead.message.*",
        *reading("KV_ACTIVITY_CATALOG"),
    ),
    "client": (
        "workflow.start.>",
        "workflow.signal.received.>",
        "workflow.command.requested.>",
        "$KV.WORKFLOW_DEFINITIONS.>",
        "cloudevents.>",
        "$JS.API.STREAM.INFO.CLOUD_EVENTS",  # its last event, for a definition that events start
        *reading(*_CLIENT_READS),
    ),
    "monitor": (
        "$KV.POOL_STATUS.>",
        "$JS.API.STREAM.INFO.*",
        "$JS.API.CONSUMER.INFO.*.*",
        "$JS.ACK.ACTIVITY_TASKS.>",
        "workflow.activity.completed.*.*",
        *reading("KV_POOL_STATUS", "KV_ACTIVITY_CATALOG", "ACTIVITY_TASKS"),
    ),
}
_SUBSCRIBE = {"client": ("workflow.finished.*",)}
