"""The commands of `wf dead-letters`. Each only reads its options."""

from __future__ import annotations

from typing import Annotated

import typer

from wf.cli import options
from wf.cli.session import Target

app = typer.Typer(
    help="What was given up, with the evidence.", no_args_is_help=True, rich_markup_mode=None
)
_Sequence = Annotated[
    int, typer.Argument(metavar="SEQUENCE", min=1, help="Its number in the list.")
]
_Sequences = Annotated[
    list[int], typer.Argument(metavar="SEQUENCE…", help="Their numbers in the list.")
]


def _target(config: str | None, server: list[str] | None) -> Target:
    return Target(config, tuple(server or ()))


@app.command("list")
def list_(
    kind: Annotated[
        str | None,
        typer.Option("--kind", metavar="KIND", help="Only these: message, crashed, undeliverable…"),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, max=10_000)] = 50,
    config: options.Config = None,
    server: options.Server = None,
    json: options.Json = False,
) -> None:
    """List the newest dead letters."""
    from wf.cli import dead_letters

    raise typer.Exit(dead_letters.list_letters(_target(config, server), kind, limit, json=json))


@app.command()
def show(
    sequence: _Sequence,
    config: options.Config = None,
    server: options.Server = None,
    json: options.Json = False,
) -> None:
    """Show one with all its evidence."""
    from wf.cli import dead_letters

    raise typer.Exit(dead_letters.show(_target(config, server), sequence, json=json))


@app.command()
def requeue(
    sequences: _Sequences,
    payload: Annotated[
        str | None,
        typer.Option("--payload", metavar="JSON|@FILE|-", help="A mended body in its place."),
    ] = None,
    config: options.Config = None,
    server: options.Server = None,
    json: options.Json = False,
) -> None:
    """Put messages that could not be read back to where they came from."""
    from wf.cli import dead_letters

    raise typer.Exit(dead_letters.put_back(_target(config, server), sequences, payload, json=json))


@app.command()
def drop(
    sequences: _Sequences,
    config: options.Config = None,
    server: options.Server = None,
    json: options.Json = False,
) -> None:
    """Delete dead letters for good."""
    from wf.cli import dead_letters

    raise typer.Exit(dead_letters.throw_away(_target(config, server), sequences, json=json))
