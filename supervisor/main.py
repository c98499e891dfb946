"""`wf-supervisor`: run the pool, check its configuration, make a new one, ask how it goes."""

from __future__ import annotations

import faulthandler
import gc
import os
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer
from loguru import logger

from supervisor import roles
from supervisor.control.cli import ConfigOption, complain, register
from supervisor.control.credentials import app as credentials_app
from supervisor.daemon import Daemon
from supervisor.launch import Launcher
from supervisor.lock import lock_state
from supervisor.processes.guard import Guard
from supervisor.processes.spawn import become_subreaper, name_process
from supervisor.processes.timing import Timing
from supervisor.reload.configuration import Configuration, read, read_again
from supervisor.scaffold import make_pool
from supervisor.sd_notify import Notifier
from wf.errors import BrokerError, ConfigError
from wf.process import log, standard_streams
from wf.process.child import EXIT_BROKER, EXIT_CONFIG
from wf.settings import find_config, load

app = typer.Typer(
    add_completion=False,
    no_args_is_help=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Run a pool of workflow workers, its engine and its broker.",
    epilog="Signals: HUP reload; TERM, INT drain and stop, a second one stop now; USR2 log state.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"wf-supervisor {version('wf-supervisor')}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def run_pool(
    context: typer.Context,
    config: ConfigOption = None,
    check: Annotated[
        bool, typer.Option("--check", help="Say what would be started and what is wrong; then end.")
    ] = False,
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a setting: --set nats.port=4333"),
    ] = None,
    show_version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print it."),
    ] = False,
) -> None:
    """Run a pool of workflow workers, its engine and its broker."""
    context.obj = config
    if context.invoked_subcommand is not None:
        return
    try:
        path, overrides = find_config(config), _overrides(assignments or [])
        if check:
            raise typer.Exit(_check(path, overrides))
        raise typer.Exit(run(path, overrides))
    except ConfigError as error:
        complain(error.problems)
        raise typer.Exit(1 if check else EXIT_CONFIG) from None


@app.command("init")
def init_command(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Where to make the pool.")],
) -> None:
    """Write a new pool that works: pool.toml, an activity, a workflow."""
    try:
        typer.echo(make_pool(directory))
    except ConfigError as error:
        complain(error.problems)
        raise typer.Exit(1) from None


register(app)
app.add_typer(credentials_app, name="credentials")


def run(
    path: Path,
    overrides: Mapping[str, object] | None = None,
    table: Mapping[str, str] = roles.TABLE,
    timing: Timing | None = None,
) -> int:
    """Run the pool of `path` until it is stopped; the exit status.

    Raises ConfigError before anything is started. `table` names the code of each role.
    """
    standard_streams.install()
    faulthandler.enable()  # also for SIGABRT, which systemd's watchdog sends
    settings = load(path, overrides)
    logging = settings.supervisor
    log.configure(level=logging.log_level, format=logging.log_format, process="supervisor")
    lock = lock_state(settings.supervisor.state_dir, settings.supervisor.name, path)
    try:
        timing = timing or Timing()
        configuration = read(path, overrides, timing.imports_s[0], timing.imports_s[0])
        return _serve(configuration, path, overrides or {}, table, timing)
    except BrokerError as error:
        logger.bind(error=str(error)).critical("supervisor.failed")
        return EXIT_BROKER
    finally:
        lock.release()


def _serve(
    configuration: Configuration,
    path: Path,
    overrides: Mapping[str, object],
    table: Mapping[str, str],
    timing: Timing,
) -> int:
    become_subreaper()
    name_process("wf-supervisor")
    logger.bind(config=str(path)).info("supervisor.started")
    launcher = Launcher(configuration.settings, roles.resolve(table), os.getpid())
    launcher.prepare()
    notifier = Notifier.from_environment()
    guard = Guard(configuration.settings.supervisor.log_format)
    gc.collect()
    gc.freeze()  # what is in memory now is shared by every child: the collector must not touch it

    def again(before: Configuration, import_s: float) -> Configuration:
        return read_again(path, overrides, before, import_s)

    daemon = Daemon(configuration, again, launcher, guard, notifier, timing)
    try:
        return daemon.run()
    finally:
        daemon.close()


def _check(path: Path, overrides: Mapping[str, object]) -> int:
    from supervisor.reload.check import (
        check,  # brings the client along, which a pool has no use for
    )

    lines, problems = check(read(path, overrides))
    typer.echo("\n".join(lines))
    complain(problems)
    return 1 if problems else 0


def _overrides(assignments: list[str]) -> dict[str, object]:
    wrong = [text for text in assignments if "=" not in text]
    if wrong:
        raise ConfigError(
            [f"--set {text}: write KEY=VALUE, as in nats.port=4333" for text in wrong]
        )
    pairs = (text.split("=", 1) for text in assignments)
    return {key.strip(): value.strip() for key, value in pairs}


def main() -> None:
    """The console script."""
    app()


if __name__ == "__main__":
    main()
