"""The JSON that `--json` prints (docs/guide.md describes it). Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wf.client.definitions import RegisteredDefinition
    from wf.client.instances import HistoryEntry, Instance
    from wf.client.schedules import Pending

JsonObject = dict[str, Any]


def listed(instance: Instance) -> JsonObject:
    """An element of `wf list --json`."""
    return {
        "id": instance.id,
        "status": instance.status,
        "workflow": instance.workflow,
        "version": instance.version,
        "started_ms": instance.started_ms,
        "ended_ms": instance.ended_ms,
    }


def shown(instance: Instance, *, raw: bool) -> JsonObject:
    """`wf show --json`: the snapshot, whole with --raw."""
    return instance.snapshot if raw else instance.public()


def waited(instance: Instance) -> JsonObject:
    """`wf start --wait --json`."""
    shape: JsonObject = {
        "id": instance.id,
        "status": instance.status,
        "output": instance.output,
    }
    if instance.error is not None:
        shape["error"] = instance.error
    return shape


def definition(found: RegisteredDefinition) -> JsonObject:
    """An element of `wf definitions --json`."""
    shape: JsonObject = {
        "namespace": found.namespace,
        "name": found.name,
        "version": found.version,
        "registered_ms": found.registered_ms,
    }
    return {**shape, "problem": found.problem} if found.problem else shape


def schedule(one: Pending) -> JsonObject:
    """An element of `wf schedules --json`."""
    return {
        "namespace": one.namespace,
        "name": one.name,
        "schedule": one.schedule,
        "next_ms": one.due_ms,
    }


def history(entries: list[HistoryEntry]) -> list[JsonObject]:
    """`wf history --json`: the messages as stored, in order, each once."""
    return [entry.message for entry in entries]
