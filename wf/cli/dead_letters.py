"""`wf dead-letters list`, `show`, `requeue`, `drop`."""

from __future__ import annotations

from typing import Any

from wf.cli import arguments, exit_status, output, session
from wf.client.client import Client
from wf.client.dead_letters import DeadLetter, drop, get, newest, requeue
from wf.jetstream.client import JetStream


def list_letters(target: session.Target, kind: str | None, limit: int, *, json: bool) -> int:
    """The newest ones."""
    if kind is not None:
        arguments.check_name("kind", kind)

    async def work(client: Client) -> list[DeadLetter]:
        return await newest(client.port, kind=kind, limit=limit)

    found = session.run(target, work)
    if json:
        output.print_json([letter.public() for letter in found])
    elif found:
        output.print_rich(table(found))
    else:
        output.note("no dead letters" + (f" of kind {kind}" if kind else ""))
    return exit_status.OK


def show(target: session.Target, sequence: int, *, json: bool) -> int:
    """One of them, with all its evidence."""

    async def work(client: Client) -> DeadLetter:
        return await get(client.port, sequence)

    letter = session.run(target, work)
    if json:
        output.print_json(letter.public())
    else:
        from wf.cli import render

        body = {key: value for key, value in letter.public().items() if value is not None}
        dump = letter.evidence.get("stack_dump")
        if isinstance(dump, str):  # in JSON it would be one long line
            body["evidence"] = {**letter.evidence, "stack_dump": "below"}
        output.print_rich(render.json_block(body))
        if isinstance(dump, str):
            output.print_line("\n" + dump)
    return exit_status.OK


def put_back(
    target: session.Target, sequences: list[int], payload: str | None, *, json: bool
) -> int:
    """Send messages to where they came from once more."""
    if payload is not None and len(sequences) != 1:
        raise arguments.UsageError("--payload is for one dead letter: name just that one")
    mended = None if payload is None else arguments.read_bytes(payload, "--payload")

    async def work(js: JetStream) -> list[dict[str, Any]]:
        done = []
        for sequence in sequences:
            subject = await requeue(js, await get(js, sequence), mended)
            done.append({"sequence": sequence, "subject": subject})
        return done

    return _tell(session.run_as_operator(target, work), "put back to {subject}", json)


def throw_away(target: session.Target, sequences: list[int], *, json: bool) -> int:
    """Delete letters for good."""

    async def work(js: JetStream) -> list[dict[str, Any]]:
        for sequence in sequences:
            await drop(js, sequence)
        return [{"sequence": sequence} for sequence in sequences]

    return _tell(session.run_as_operator(target, work), "dropped", json)


def _tell(done: list[dict[str, Any]], what: str, json: bool) -> int:
    if json:
        output.print_json(done)
    else:
        for one in done:
            output.print_line(f"{one['sequence']}: {what.format(**one)}")
    return exit_status.OK


def table(found: list[DeadLetter]) -> Any:
    from wf.cli import render

    rows = [
        (
            str(letter.sequence),
            render.moment(letter.at_ms),
            letter.kind,
            letter.name,
            letter.instance or "-",
            render.brief(letter.reason, 80),
        )
        for letter in found
    ]
    return render.table(None, ("SEQUENCE", "WHEN", "KIND", "NAME", "INSTANCE", "REASON"), rows)
