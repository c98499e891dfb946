"""`wf replay`: does the history of an instance give what is stored of it?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from wf.cli import arguments, exit_status, output, session
from wf.client import definitions, instances
from wf.client.client import Client
from wf.client.instances import HistoryEntry
from wf.errors import NotFound
from wf.process.engine_functions import resolve
from wf.settings import find_config, load

JsonObject = dict[str, Any]

VALUE_CHARACTERS = 400
STATUSES = {"same": exit_status.OK, "different": exit_status.FAILED, "partial": exit_status.PARTIAL}


def replay(target: session.Target, id: str, *, json: bool) -> int:
    """Fold, compare, tell the first difference."""
    arguments.check_name("instance", id)
    settings = None if target.servers else load(find_config(target.config))

    async def work(client: Client) -> JsonObject:
        instance = await instances.find(client.port, id)
        history = await client.history(id)
        if instance is None and not history:
            raise NotFound(f"nothing is recorded about {id!r}: it was never started, or aged out")
        found: JsonObject = resolve("replay")(
            [entry.message for entry in history],
            None if instance is None else instance.snapshot,
            await _documents(client, history),
            settings,
        )
        return found

    shape = {"id": id, **session.run(target, work)}
    if json:
        output.print_json(shape)
    else:
        _tell(shape)
    return STATUSES[shape["result"]]


async def _documents(
    client: Client, history: Sequence[HistoryEntry]
) -> dict[tuple[str, str, str], JsonObject]:
    """Every definition that the history names and that is registered."""
    names = {
        (body["namespace"], body["workflow"], body["version"])
        for body in (entry.message for entry in history)
        if body["version"]
    }
    found = {name: await definitions.find(client.port, *name) for name in sorted(names)}
    return {name: orjson.loads(one.body) for name, one in found.items() if one is not None}


def _tell(shape: JsonObject) -> None:
    compared = f"{shape['events']} events up to commit {shape['commit']}"
    if shape["result"] == "same":
        output.print_line(f"{shape['id']}: the same, {compared}")
        return
    if shape["result"] == "partial":
        output.note(f"{shape['id']}: partial, {compared}: {shape['detail']}")
        return
    found = shape["difference"]
    output.print_line(
        f"{shape['id']}: different at commit {found['commit']}.{found['n']}, event "
        f"{found['event']}, {found['pointer'] or '/'}"
    )
    for name in ("recorded", "replayed"):
        value = orjson.dumps(found[name]).decode()
        output.print_line(f"  {name}  {value[:VALUE_CHARACTERS]}")
