"""The commands of `wf`. Each only reads its options; the work is in the modules beside this one.

Those are imported inside the commands, so that `wf --help` loads neither nats-py nor tables.
"""

from __future__ import annotations

from typing import Annotated

import typer

from wf.cli import dead_letters_app, options
from wf.cli.session import Target

app = typer.Typer(
    name="wf",
    help="Deploy workflows, start them, and see what happened. `wf COMMAND --help` tells more.",
    epilog="Exit status: 0 done or completed, 1 faulted, cancelled, not found or refused, "
    "2 usage, 3 the broker cannot be reached, 4 --timeout was over first, 5 only a part replayed, "
    "6 the result could not be printed.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

_Files = Annotated[
    list[str], typer.Argument(metavar="FILE…", help="Workflow definitions, YAML or JSON.")
]
_Timeout = Annotated[
    str | None,
    typer.Option("--timeout", metavar="30s", help="Stop waiting after this long (exit status 4)."),
]


@app.callback()
def common(
    version: options.Version = False,
) -> None:
    """Deploy workflows, start them, and see what happened."""


app.add_typer(dead_letters_app.app, name="dead-letters")


def _target(config: str | None, server: list[str] | None) -> Target:
    return Target(config, tuple(server or ()))


@app.command()
def validate(
    files: _Files,
    online: Annotated[
        bool,
        typer.Option("--online", help="Ask the broker too: which activities have workers?"),
    ] = False,
    config: options.Config = None,
    server: options.Server = None,
    json: options.Json = False,
) -> None:
    """Check definitions; without --online no broker is needed."""
    from wf.cli import deploy as deploying

    target = _target(config, server) if online else None
    raise typer.Exit(deploying.validate(files, target, json=json))


_Definition = Annotated[str, typer.Argument(metavar="FILE", help="A definition, YAML or JSON.")]
_Input = Annotated[
    str | None, typer.Option("--input", metavar="JSON|@FILE|-", help="The workflow's input.")
]
_Stub = Annotated[
    list[str] | None,
    typer.Option(
        "--stub",
        metavar="NAME=JSON",
        help="What an activity, or the call at a JSON pointer, gives. Repeatable.",
    ),
]
_Stubs = Annotated[
    str | None,
    typer.Option("--stubs", metavar="FILE", help="The same from a YAML or JSON object."),
]
_Event = Annotated[
    list[str] | None,
    typer.Option(
        "--event",
        metavar="JSON|@FILE",
        help="A CloudEvent that comes, after its `$after`. Repeatable.",
    ),
]


@app.command()
def explain(
    file: _Definition,
    input: _Input = None,
    stub: _Stub = None,
    stubs: _Stubs = None,
    event: _Event = None,
    json: options.Json = False,
) -> None:
    """Run a definition here with stubbed activities, and show what every task gets and gives."""
    from wf.cli import explain as explaining

    raise typer.Exit(explaining.explain(file, input, stub or [], stubs, event or [], json=json))


@app.command("test")
def check(
    file: _Definition,
    input: _Input = None,
    stub: _Stub = None,
    stubs: _Stubs = None,
    event: _Event = None,
    crash_everywhere: Annotated[
        bool,
        typer.Option(
            "--crash-everywhere",
            help="Once more for every place where the engine or a worker may die.",
        ),
    ] = False,
    crashes: Annotated[
        int, typer.Option("--crashes", min=1, help="Try so many places at most.")
    ] = 3000,
    expect_status: Annotated[
        str | None,
        typer.Option("--expect-status", metavar="STATUS", help="How it must end: completed."),
    ] = None,
    expect_output: Annotated[
        str | None,
        typer.Option("--expect-output", metavar="JSON|@FILE", help="What it must give."),
    ] = None,
    json: options.Json = False,
) -> None:
    """Run a definition here with stubbed activities, and check how it ends, whoever dies."""
    from wf.cli import test

    status = test.test(
        file,
        test.Given(input, stub or [], stubs, event or []),
        test.Expected(expect_status, expect_output),
        crash_everywhere=crash_everywhere,
        max_runs=crashes,
        json=json,
    )
    raise typer.Exit(status)


@app.command()
def deploy(
    files: _Files,
    config: options.Config = None,
    server: options.Server = None,
    json: options.Json = False,
) -> None:
    """Register definitions. A registered version never changes: a new body needs a new version."""
    from wf.cli import deploy as deploying

    raise typer.Exit(deploying.deploy(_target(config, server), files, json=json))


@app.command()
def undeploy(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Workflow, or NAMESPACE.NAME.")],
    version: Annotated[str, typer.Argument(metavar="VERSION", help="The version to remove.")],
    config: options.Config = None,
    server: options.Server = None,
    json: options.Json = False,
) -> None:
    """Remove a registered version that no instance needs any more."""
    from wf.cli import undeploy as undeploying

    status = undeploying.undeploy(_target(config, server), name, version, json=json)
    raise typer.Exit(status)


@app.command()
def definitions(
    config: options.Config = None, server: options.Server = None, json: options.Json = False
) -> None:
    """List the registered definitions."""
    from wf.cli import deploy as deploying

    raise typer.Exit(deploying.definitions(_target(config, server), json=json))


@app.command()
def schedules(
    config: options.Config = None, server: options.Server = None, json: options.Json = False
) -> None:
    """List the workflows that start by themselves, and when they do next."""
    from wf.cli import deploy as deploying

    raise typer.Exit(deploying.schedules(_target(config, server), json=json))


@app.command()
def hosts(
    config: options.Config = None, server: options.Server = None, json: options.Json = False
) -> None:
    """Show every host's supervisor: its pools, and what waits for whom."""
    from wf.cli import hosts as hosting

    raise typer.Exit(hosting.hosts(_target(config, server), json=json))


@app.command()
def start(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Workflow, or NAMESPACE.NAME.")],
    id: Annotated[
        str | None,
        typer.Option("--id", metavar="ID", help="Id of the instance; starting it again is safe."),
    ] = None,
    input: Annotated[
        str | None,
        typer.Option("--input", metavar="JSON|@FILE|-", help="The input; - is standard input."),
    ] = None,
    version: Annotated[
        str | None,
        typer.Option("--version", metavar="VERSION", help="Of the definition; else the newest."),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the end, print output.")] = False,
    timeout: _Timeout = None,
    config: options.Config = None,
    server: options.Server = None,
    json: options.Json = False,
) -> None:
    """Start an instance; prints its id, or with --wait its output."""
    from wf.cli import start as starting

    wish = starting.Wish(name, id, input, version, wait, timeout, json)
    raise typer.Exit(starting.start(_target(config, server), wish))


@app.command()
def show(
    id: options.Identifier,
    raw: Annotated[
        bool, typer.Option("--raw", help="The snapshot with the engine's record.")
    ] = False,
    config: options.Config = None,
    server: options.Server = None,
    json: options.Json = False,
) -> None:
    """Show one instance: status, what it waits for, what its activities gave."""
    from wf.cli import show as looking

    raise typer.Exit(looking.show(_target(config, server), id, raw=raw, json=json))


@app.command("list")
def list_(
    status: Annotated[
        str | None,
        typer.Option("--status", metavar="STATUS", help="Only these, e.g. faulted."),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, max=1000)] = 20,
    config: options.Config = None,
    server: options.Server = None,
    json: options.Json = False,
) -> None:
    """List the newest instances, from the last part of history."""
    from wf.cli import show as looking

    raise typer.Exit(looking.list_instances(_target(config, server), status, limit, json=json))


@app.command()
def history(
    id: options.Identifier,
    config: options.Config = None,
    server: options.Server = None,
    json: options.Json = False,
) -> None:
    """Show all that happened to an instance, in order."""
    from wf.cli import show as looking

    raise typer.Exit(looking.history(_target(config, server), id, json=json))


@app.command()
def signal(
    id: options.Identifier,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The signal's name.")],
    data: Annotated[
        str | None,
        typer.Option("--data", metavar="JSON|@FILE|-", help="What the signal carries."),
    ] = None,
    config: options.Config = None,
    server: options.Server = None,
    json: options.Json = False,
) -> None:
    """Send a signal to an instance."""
    from wf.cli import control

    raise typer.Exit(control.signal(_target(config, server), id, name, data, json=json))


@app.command()
def emit(
    type: Annotated[str, typer.Argument(metavar="TYPE", help="Such as com.example.paid.v1.")],
    data: Annotated[
        str | None,
        typer.Option("--data", metavar="JSON|@FILE|-", help="What the event carries."),
    ] = None,
    source: Annotated[
        str | None, typer.Option("--source", metavar="URI", help="Where it comes from.")
    ] = None,
    subject: Annotated[
        str | None, typer.Option("--subject", metavar="TEXT", help="What it is about.")
    ] = None,
    event_id: Annotated[
        str | None, typer.Option("--id", metavar="ID", help="Stored once in two minutes.")
    ] = None,
    config: options.Config = None,
    server: options.Server = None,
    json: options.Json = False,
) -> None:
    """Publish a CloudEvent to whoever listens."""
    from wf.cli import control

    given = {"source": source, "subject": subject, "id": event_id}
    raise typer.Exit(control.emit(_target(config, server), type, data, given, json=json))


@app.command()
def cancel(
    id: options.Identifier,
    reason: options.Reason = None,
    now: Annotated[
        bool, typer.Option("--now", help="undo nothing: what is left to undo is set aside")
    ] = False,
    config: options.Config = None,
    server: options.Server = None,
    json: options.Json = False,
) -> None:
    """Cancel an instance. What its definition says how to undo is undone first."""
    from wf.cli import control

    target = _target(config, server)
    raise typer.Exit(control.command(target, "cancel", id, reason, json=json, now=now))


@app.command()
def suspend(
    id: options.Identifier,
    reason: options.Reason = None,
    config: options.Config = None,
    server: options.Server = None,
    json: options.Json = False,
) -> None:
    """Suspend an instance: what runs may end, nothing new begins."""
    from wf.cli import control

    raise typer.Exit(control.command(_target(config, server), "suspend", id, reason, json=json))


@app.command()
def resume(
    id: options.Identifier,
    reason: options.Reason = None,
    config: options.Config = None,
    server: options.Server = None,
    json: options.Json = False,
) -> None:
    """Let a suspended instance go on."""
    from wf.cli import control

    raise typer.Exit(control.command(_target(config, server), "resume", id, reason, json=json))


@app.command()
def retry(
    id: options.Identifier,
    from_: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="POINTER", help="The task to go on from; else the one that failed."
        ),
    ] = None,
    input: Annotated[
        str | None,
        typer.Option(
            "--input", metavar="JSON|@FILE|-", help="What it begins with; else what it was given."
        ),
    ] = None,
    reason: options.Reason = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the end, print output.")] = False,
    timeout: _Timeout = None,
    config: options.Config = None,
    server: options.Server = None,
    json: options.Json = False,
) -> None:
    """Let a faulted instance go on from the task that failed, or from a named one."""
    from wf.cli import control

    wish = control.Retry(id, from_, input, reason, wait, timeout, json)
    raise typer.Exit(control.retry(_target(config, server), wish))


@app.command()
def replay(
    id: options.Identifier,
    config: options.Config = None,
    server: options.Server = None,
    json: options.Json = False,
) -> None:
    """Fold the history of an instance and compare it with what is stored."""
    from wf.cli import replay as replaying

    raise typer.Exit(replaying.replay(_target(config, server), id, json=json))


@app.command()
def worker(
    activities: Annotated[
        list[str],
        typer.Option("--activities", metavar="FILE…", help="Modules with activities."),
    ],
    more: Annotated[list[str] | None, typer.Argument(metavar="FILE", hidden=True)] = None,
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="NAME", help="Serve only this activity. Repeatable."),
    ] = None,
    concurrency: Annotated[
        int | None,
        typer.Option("--concurrency", metavar="N", min=1, help="Tasks of one type at a time."),
    ] = None,
    config: options.Config = None,
    server: options.Server = None,
) -> None:
    """Run a worker without a supervisor, on any host that reaches the broker."""
    from wf.cli import worker as working

    files = [*activities, *(more or [])]  # `--activities a.py b.py`: click gives b.py to `more`
    status = working.work(_target(config, server), files, only or [], concurrency)
    raise typer.Exit(status)
