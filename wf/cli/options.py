"""Options that several commands share, and what they mean."""

from __future__ import annotations

from typing import Annotated

import typer

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
