"""`wf start`."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from wf.cli import arguments, exit_status, json_documents, output, session
from wf.client.client import Client
from wf.client.instances import Instance, describe_error
from wf.client.start import Start, Started, fresh_id
from wf.errors import NotEnded
from wf.protocol import subjects

PATIENCE_S = 5.0  # after this long without a snapshot a waiter is told why nothing happens


@dataclass(slots=True, frozen=True)
class Wish:
    """The command line of `wf start`, as typed."""

    name: str
    id: str | None
    input: str | None
    version: str | None
    wait: bool
    timeout: str | None
    json: bool


def start(target: session.Target, wish: Wish) -> int:
    """Start, maybe wait, print."""
    if wish.timeout is not None and not wish.wait:
        raise arguments.UsageError("--timeout says how long to wait: it needs --wait")
    timeout_s = arguments.read_duration(wish.timeout, "--timeout")
    request = _request(wish)

    async def work(client: Client) -> int:
        if wish.id is not None:
            await client.check_ids([request])
        started = (await client.start_many([request]))[0]
        if not wish.wait:
            return _tell_started(started, wish.json)
        repeated = f"{started.id} was started before: nothing is started again, only awaited"
        output.note(repeated if started.duplicate else f"started {started.id}")
        return tell_ended(await _wait(client, started.id, timeout_s), json=wish.json)

    return session.run(target, work)


def _request(wish: Wish) -> Start:
    namespace, workflow = subjects.split_qualified(wish.name)
    arguments.check_name("namespace", namespace)
    arguments.check_name("workflow", workflow)
    if wish.id is not None:
        arguments.check_name("instance", wish.id)
    value: Any = arguments.read_json(wish.input, "--input")
    return Start(
        workflow, value, fresh_id() if wish.id is None else wish.id, wish.version, namespace
    )


def _tell_started(started: Started, json: bool) -> int:
    if json:
        output.print_json({"id": started.id, "duplicate": started.duplicate})
    else:
        output.print_line(started.id)
        if started.duplicate:
            output.note("already started under this id: nothing was started again")
    return exit_status.OK


async def _wait(client: Client, id: str, timeout_s: float | None) -> Instance:
    if timeout_s is None or timeout_s > PATIENCE_S:
        hint = asyncio.create_task(_hint_when_idle(client, id))
        try:
            return await client.wait(id, timeout_s=timeout_s)
        finally:
            hint.cancel()
    return await client.wait(id, timeout_s=timeout_s)


async def _hint_when_idle(client: Client, id: str) -> None:
    try:
        await client.wait_until(id, lambda _: True, timeout_s=PATIENCE_S)
    except NotEnded:
        output.note(
            "still waiting: no orchestrator has taken the start yet; does the pool run? "
            "(`wf-supervisor status`) The start is stored and will not be lost"
        )


def tell_ended(instance: Instance, *, json: bool) -> int:
    """Print how the instance ended; the exit status that says it."""
    if json:
        output.print_json(json_documents.waited(instance))
    elif instance.status == "completed":
        output.print_json(instance.output)
    if instance.status == "faulted":
        output.complain(f"{instance.id} faulted: {describe_error(instance.error or {})}")
    elif instance.status == "cancelled":
        output.complain(f"{instance.id} was cancelled")
    return exit_status.status_of_instance(instance.status)
