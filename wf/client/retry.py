"""Letting a faulted instance go on."""

from __future__ import annotations

from typing import Any

import orjson

from wf.client import definitions, instances
from wf.client.instances import Instance
from wf.errors import NotFound, WfError
from wf.jetstream.port import Port
from wf.process.engine_functions import resolve
from wf.protocol import subjects

JsonObject = dict[str, Any]


async def command(
    port: Port, id: str, place: str | None, given: list[Any]
) -> tuple[int, JsonObject]:
    """The instance's revision, and the `from` and `input` that a retry needs; {} for neither.

    `place`: the task to go on from, None for the one that failed; `given`: [its input], or [] for
    what it was given before. Raises NotFound, WfError.
    """
    instance = await instances.get(port, id)
    if instance.status == instances.QUARANTINED:
        return instance.revision, {}  # the engine restores it first
    if instance.status != "faulted":
        raise WfError(f"retry refused: instance {id} is {instance.status}, not faulted")
    if "compensated" in instance.snapshot:
        raise WfError(
            f"retry refused: what instance {id} had done has been undone (compensate); start a new "
            "one"
        )
    if place is None and not given and "failed" in instance.snapshot:
        await _check_child(port, instance)
    document = await _document(port, instance)
    told = await instances.history(port, id)
    history = [entry.message for entry in told if entry.message]
    plan: JsonObject = resolve("retry.plan")(document, instance.snapshot, history, place, given)
    return instance.revision, plan


async def _document(port: Port, instance: Instance) -> JsonObject:
    snapshot = instance.snapshot
    where = (snapshot["namespace"], snapshot["workflow"], snapshot["version"])
    found = await definitions.find_of(port, snapshot)
    if found is None:
        name = f"{subjects.qualified(*where[:2])} {where[2]}".strip()
        raise NotFound(f"the definition {name} is not registered: deploy it, then retry")
    document: JsonObject = orjson.loads(found.body)
    return document


async def _check_child(port: Port, instance: Instance) -> None:
    """A child that is to go on must still be there; nobody would answer for it."""
    failed = instance.snapshot["failed"]
    spent = failed.get("frames", {}).get(failed.get("at"), {}).get("spent", {})
    child = spent.get("child")
    if child is None or spent.get("status") != "faulted":
        return
    if await instances.find(port, child) is None:
        raise WfError(
            f"its child {child}, which faulted, has expired: name a task with --from instead"
        )
