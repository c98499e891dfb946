"""`wf show`, `wf list`, `wf history`."""

from __future__ import annotations

import time

from wf.cli import arguments, exit_status, json_documents, output, session
from wf.client import instances
from wf.client.client import Client
from wf.client.instances import HistoryEntry, Instance
from wf.errors import NotFound


def show(target: session.Target, id: str, *, raw: bool, json: bool) -> int:
    """One instance."""
    arguments.check_name("instance", id)

    async def work(client: Client) -> tuple[Instance, list[HistoryEntry]]:
        instance = await client.get(id)
        return instance, [] if json or raw else await client.history(id)

    instance, history = session.run(target, work)
    if json or raw:
        output.print_json(json_documents.shown(instance, raw=raw))
    else:
        from wf.cli import render

        output.print_rich(render.instance_view(instance, history, time.time_ns() // 1_000_000))
    return exit_status.OK


def list_instances(target: session.Target, status: str | None, limit: int, *, json: bool) -> int:
    """The newest instances."""
    known = (*instances.STATUSES, instances.QUARANTINED)
    if status is not None and status not in known:
        raise arguments.UsageError(f"--status {status!r} is not one of {', '.join(known)}")
    recent = session.run(target, lambda client: client.recent(limit=limit, status=status))
    if json:
        output.print_json([json_documents.listed(instance) for instance in recent.instances])
    elif recent.instances:
        from wf.cli import render

        output.print_rich(render.instances_table(recent.instances))
    if recent.bounded:
        output.note(
            f"only the last {recent.window:,} messages of history were read: older instances "
            "are not listed"
        )
    elif not recent.instances and not json:
        output.note("no instances" + (f" with status {status}" if status else ""))
    return exit_status.OK


def history(target: session.Target, id: str, *, json: bool) -> int:
    """The timeline of one instance."""
    arguments.check_name("instance", id)
    entries = session.run(target, lambda client: client.history(id))
    if not entries:
        raise NotFound(
            f"nothing is recorded about {id!r}: it was never started, or its history has aged out"
        )
    if json:
        output.print_json(json_documents.history(entries))
        return exit_status.OK
    from wf.cli import render

    output.print_rich(render.timeline(entries))
    if entries[0].commit > 1:
        output.note(f"partial: what came before commit {entries[0].commit} has aged out")
    return exit_status.OK
