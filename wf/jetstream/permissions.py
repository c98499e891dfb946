"""What each role may do at the embedded broker (and should, at any other)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from wf.protocol import subjects

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


def worker_permissions(activities: Sequence[str]) -> Permissions:
    """Those of a worker of these activities and no others."""
    own = [subject for activity in activities for subject in _serving(activity)]
    return Permissions((*own, *_ANY_WORKER), ("_INBOX_worker.>",))


def _reading_results(activity: str) -> str:
    """The last result for an instance: who is told that theirs is a duplicate looks whose it is."""
    return f"$JS.API.DIRECT.GET.WORKFLOW_EVENTS.{subjects.completed('*', activity)}.*"


def _serving(activity: str) -> tuple[str, ...]:
    """What it takes to serve one activity; `*` stands for any."""
    consumer = "*" if activity == "*" else subjects.task_consumer(activity)
    return (
        f"$JS.API.CONSUMER.INFO.ACTIVITY_TASKS.{consumer}",
        f"$JS.API.CONSUMER.MSG.NEXT.ACTIVITY_TASKS.{consumer}",
        f"$JS.ACK.ACTIVITY_TASKS.{consumer}.>",
        subjects.catalog(activity),
        subjects.completed("*", activity),
        _reading_results(activity),
        subjects.dead_letter("message", activity),
    )


_ANY_WORKER = (subjects.worker_status("*"), *reading("KV_ACTIVITY_CATALOG"))
_PUBLISH = {
    "worker": (*_serving("*"), *_ANY_WORKER),
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
        _reading_results("*"),
        *reading("KV_POOL_STATUS", "KV_ACTIVITY_CATALOG", "ACTIVITY_TASKS"),
    ),
}
_SUBSCRIBE = {"client": ("workflow.finished.*",)}
