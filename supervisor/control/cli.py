"""The commands that ask a running supervisor: status, top, explain, scale, drain, restart, …"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NoReturn

import orjson
import typer

from supervisor.control import explain, status, top
from supervisor.control.socket import ask
from supervisor.control.state_dir import state_dir_of
from supervisor.health import process_usage
from wf.errors import ConfigError
from wf.settings import find_config

EXIT_REFUSED = 1
EXIT_NOT_RUNNING = 3
EXIT_UNABLE = 4  # it runs, and something keeps it, or a part of it, from its work
_LOOK_S = 0.1

Document = dict[str, Any]

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", "-c", metavar="FILE", help="pool.toml; else WF_CONFIG, ./pool.toml …"),
]
JsonOption = Annotated[bool, typer.Option("--json", help="For programs.")]
WaitOption = Annotated[bool, typer.Option("--wait", help="Until it has come about.")]
PoolArgument = Annotated[str, typer.Argument(metavar="POOL", help="A pool of workers.")]
NameArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="A process (`mail #0`, or its pid) or a pool.")
]


class Supervisor:
    """The running supervisor of a pool.toml, as seen from a terminal."""

    def __init__(self, config: Path | None) -> None:
        try:
            self._state_dir, self.problems = state_dir_of(find_config(config))
        except ConfigError as error:
            fail(error.problems, EXIT_REFUSED)

    def ask(self, command: str, **request: object) -> Document:
        """Its answer. Ends this command when there is none, or when it is a refusal."""
        try:
            answer = ask(self._state_dir, {"command": command, **request})
        except (FileNotFoundError, ConnectionRefusedError):
            if self.problems:  # so perhaps it runs elsewhere
                fail(self.problems, EXIT_REFUSED)
            fail(
                [f"no wf-supervisor runs on {self._state_dir}: start it with `wf-supervisor`"],
                EXIT_NOT_RUNNING,
            )
        except OSError as error:
            problem = f"cannot ask the wf-supervisor of {self._state_dir}: {error}"
            fail([problem], EXIT_NOT_RUNNING)
        if "error" in answer:
            fail([answer["error"]], EXIT_REFUSED)
        return answer


def register(app: typer.Typer) -> None:
    """Add the commands to the console script."""
    for command in (status_, top_, explain_, scale, drain, restart, pause, resume):
        app.command(command.__name__.rstrip("_"))(command)


def status_(
    context: typer.Context, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Show every process and pool of the running supervisor.

    Exit status 4: something keeps it, or a part of it, from its work; `trouble` lines say what.
    """
    supervisor = Supervisor(config or context.obj)
    answer = supervisor.ask("status")
    # The pool goes on with the settings that it read before; it may not have noticed yet.
    complain([one for one in supervisor.problems if one not in answer["reload_error"]])
    if as_json:
        _print_json(answer)
    else:
        typer.echo(status.text(answer), nl=False)
    if not answer["able"]:
        raise typer.Exit(EXIT_UNABLE)


def top_(
    context: typer.Context,
    config: ConfigOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="One document a line.")] = False,
    once: Annotated[bool, typer.Option("--once", help="Show it once and end.")] = False,
    interval_s: Annotated[
        float, typer.Option("--interval", min=0.2, metavar="SECONDS", help="Between two looks.")
    ] = 2.0,
) -> None:
    """Watch every process and pool: tasks, CPU, memory, restarts. Ctrl-C ends it."""
    look = partial(Supervisor(config or context.obj).ask, "status")
    meter = process_usage.Meter()
    try:
        if as_json:
            typer.echo(orjson.dumps(top.first_samples(look, meter)).decode())
            while not once:
                time.sleep(interval_s)
                typer.echo(orjson.dumps(top.sample(look, meter)).decode())
        elif once:
            _print_rich(top.render(top.first_samples(look, meter)))
        else:
            top.watch(look, interval_s)
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


def explain_(
    context: typer.Context,
    name: Annotated[
        str,
        typer.Argument(
            metavar="[NAME]", help="A process (`mail #0`, or its pid), a pool, or `supervisor`."
        ),
    ] = "supervisor",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say why a process or pool is as it is, what comes next, and what you can do."""
    answer = Supervisor(config or context.obj).ask("status")
    told = explain.explain(answer, name)
    if told is None:
        known = ", ".join(explain.names(answer))
        fail([f"there is no process or pool {name!r}; there are: {known}"], EXIT_REFUSED)
    if as_json:
        _print_json(asdict(told))
    else:
        typer.echo(told.text(), nl=False)


def scale(
    context: typer.Context,
    pool: PoolArgument,
    processes: Annotated[
        str, typer.Argument(metavar="N|auto", help="Worker processes; auto: as pool.toml says.")
    ],
    config: ConfigOption = None,
    wait: WaitOption = False,
    as_json: JsonOption = False,
) -> None:
    """Run a pool with N processes, until pool.toml states another count."""
    if processes != "auto" and not processes.isdecimal():
        fail([f"scale {pool} {processes}: say a number of processes, or `auto`"], 2)
    count = None if processes == "auto" else int(processes)
    _order(config or context.obj, wait, as_json, "scale", pool=pool, processes=count)


def drain(
    context: typer.Context,
    name: NameArgument,
    config: ConfigOption = None,
    wait: WaitOption = False,
    as_json: JsonOption = False,
) -> None:
    """Let a process finish what it has begun and leave; its place stays empty."""
    _order(config or context.obj, wait, as_json, "drain", name=name)


def restart(
    context: typer.Context,
    name: NameArgument,
    config: ConfigOption = None,
    wait: WaitOption = False,
    as_json: JsonOption = False,
) -> None:
    """Replace a process, or those of a pool one by one; workers lose no task by it."""
    _order(config or context.obj, wait, as_json, "restart", name=name)


def pause(
    context: typer.Context,
    pool: PoolArgument,
    config: ConfigOption = None,
    wait: WaitOption = False,
    as_json: JsonOption = False,
) -> None:
    """Let a pool finish what it has begun, and take no more until `resume`."""
    _order(config or context.obj, wait, as_json, "pause", pool=pool)


def resume(
    context: typer.Context,
    pool: PoolArgument,
    config: ConfigOption = None,
    wait: WaitOption = False,
    as_json: JsonOption = False,
) -> None:
    """End a pause, and fill the places that were drained."""
    _order(config or context.obj, wait, as_json, "resume", pool=pool)


def _order(config: Path | None, wait: bool, as_json: bool, command: str, **request: object) -> None:
    supervisor = Supervisor(config)
    answer = supervisor.ask(command, **request)
    if not as_json:
        typer.echo(answer["done"])
    if wait:
        _await_settled(partial(supervisor.ask, "status"), answer["pool"])
    if as_json:
        _print_json(answer)


def _await_settled(look: Callable[[], Document], pool: str) -> None:
    """Until the pool is as it is wanted. Ends this command when that will not come about."""
    while True:
        document = look()
        [told] = [one for one in document["pools"] if one["name"] == pool] or [None]
        if told is None or told["state"] in ("failed", "degraded") or told["roll_error"]:
            fail([f"it did not come about: `wf-supervisor explain {pool}` says why"], EXIT_REFUSED)
        mine = [one["state"] for one in document["processes"] if one["pool"] == pool]
        if not told["rolling"] and set(mine) <= {"ready", "paused", "held"}:
            return
        time.sleep(_LOOK_S)


def _print_json(document: Document) -> None:
    typer.echo(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode())


def _print_rich(renderable: Any) -> None:
    from wf.cli.output import print_rich

    print_rich(renderable)


def complain(problems: list[str]) -> None:
    """Say what is wrong, on standard error."""
    for problem in problems:
        typer.echo(f"wf-supervisor: {problem}", err=True)


def fail(problems: list[str], code: int) -> NoReturn:
    """Say what is wrong and end with `code`."""
    complain(problems)
    raise typer.Exit(code) from None
