"""Options that several commands share, and what they mean."""

from __future__ import annotations

from typing import Annotated

import typer


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        from wf.cli import output

        output.print_line(f"wf {version('wf-supervisor')}")
        raise typer.Exit


Version = Annotated[
    bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print it.")
]
Config = Annotated[
    str | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="The pool.toml to connect by. Else WF_CONFIG, ./pool.toml, ./config/pool.toml, "
        "/etc/wf-supervisor/pool.toml.",
        show_default=False,
    ),
]
Server = Annotated[
    list[str] | None,
    typer.Option(
        "--server",
        metavar="URL",
        help="Connect to this broker instead, e.g. nats://127.0.0.1:4222. May be repeated.",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Identifier = Annotated[str, typer.Argument(metavar="ID", help="The instance's id.")]
Reason = Annotated[
    str | None,
    typer.Option("--reason", metavar="TEXT", help="Recorded in the instance's history."),
]
