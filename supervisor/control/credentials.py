"""`wf-supervisor credentials`: logins for workers of some activities, and the broker's accounts."""

from __future__ import annotations

from typing import Annotated

import typer

from supervisor.control.cli import ConfigOption, fail
from wf.errors import BrokerError, ConfigError, MessageError
from wf.jetstream import embedded, logins
from wf.jetstream.accounts import accounts_text
from wf.settings import Settings, find_config, load

EXIT_REFUSED = 1

app = typer.Typer(add_completion=False, no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def credentials() -> None:
    """Logins at the broker: each reaches its own, and nothing else."""


@app.command("worker")
def worker(
    context: typer.Context,
    activities: Annotated[
        list[str], typer.Option(metavar="NAME[,NAME…]", help="The activities it may serve.")
    ],
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of the login; else made of the activities.")
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Make the login of a worker that may serve these activities only; print its file."""
    settings = _settings(context, config)
    if not settings.nats.embedded:
        fail(
            [
                "[nats] embedded = false: logins are made at that broker; what they need there is"
                " printed by `wf-supervisor credentials accounts`"
            ],
            EXIT_REFUSED,
        )
    wanted = [part for given in activities for part in given.split(",") if part]
    try:
        path = logins.make_worker(settings, wanted, name)
        running = embedded.reload(settings)
    except (BrokerError, MessageError) as error:
        fail([str(error)], EXIT_REFUSED)
    typer.echo(path)
    if not running:
        typer.echo("the broker does not run: it knows this login from its next start on", err=True)


@app.command("accounts")
def accounts() -> None:
    """Print the accounts that a broker of your own needs, for the configuration of nats-server."""
    typer.echo(accounts_text(logins.placeholders()), nl=False)


def _settings(context: typer.Context, config: ConfigOption) -> Settings:
    try:
        return load(find_config(config or context.obj))
    except ConfigError as error:
        fail(error.problems, EXIT_REFUSED)
