"""`wf explain`: a definition run offline, task by task."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text
from rich.tree import Tree

from wf.cli import arguments, exit_status, output, render
from wf.client.instances import describe_error
from wf.process.engine_functions import resolve
from wf.protocol.durations import format_duration

JsonObject = dict[str, Any]

VALUE_CHARACTERS = 160
STYLES = {**render.STYLES, "skipped": "dim", "open": "blue"}


def explain(
    file: str,
    input: str | None,
    stubs: Sequence[str],
    stubs_file: str | None,
    events: Sequence[str],
    *,
    json: bool,
) -> int:
    """Run it, print it. The status is that of the run: a run that faults or waits fails."""
    value = arguments.read_json(input, "--input")
    given = read_stubs(stubs, stubs_file)
    source, at_ms = read(file), time.time_ns() // 1_000_000
    shape: JsonObject = resolve("explain")(
        source, file, value, given, at_ms, [read_event(text) for text in events]
    )
    if json:
        output.print_json(shape)
    else:
        output.print_rich(view(shape))
    for note in shape["notes"]:
        output.note(note)
    return exit_status.status_of_instance(shape["status"])


def read(file: str) -> bytes:
    """Raises UsageError."""
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise arguments.UsageError(f"{file}: cannot read it: {error.strerror or error}") from error


def read_event(text: str) -> JsonObject:
    """A CloudEvent of `--event`. Raises UsageError."""
    event = arguments.read_json(text, "--event")
    if not isinstance(event, dict) or not event.get("type"):
        raise arguments.UsageError(
            f"""--event {text}: write a CloudEvent, such as '{{"type": "paid", "data": {{}}}}'"""
        )
    return event


def read_stubs(texts: Sequence[str], file: str | None) -> JsonObject:
    """Those of the file, and over them those of the command line."""
    found: JsonObject = {}
    if file is not None:
        document, _ = resolve("definition.read")(read(file), file)
        if not isinstance(document, dict):
            raise arguments.UsageError(
                f"--stubs {file}: must be an object, activity name → what it gives"
            )
        found.update(document)
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise arguments.UsageError(
                f"--stub {text!r}: write NAME=JSON, such as charge_card='{{\"paid\": true}}'"
            )
        found[name] = arguments.parse_json(value.encode(), f"--stub {name}=")
    return found


def view(shape: JsonObject) -> RenderableType:
    """A tree of the tasks as they ran, below it how it ended; a context where it changed. Pure."""
    title = f"{shape['workflow']} {shape['version']}"
    root = Tree(Text(title, style="bold"))
    branches = [root]
    context: Any = {}
    for task in shape["tasks"]:
        shown = {key: value for key, value in task.items() if key != "context" or value != context}
        context = task.get("context", context)
        branch = branches[min(task["depth"], len(branches) - 1)].add(_task(shown))
        branches[task["depth"] + 1 :] = [branch]
    return Group(root, "", _end(shape))


def _task(task: JsonObject) -> Text:
    status = task["status"]
    text = Text.assemble(
        (task["name"], "bold"),
        f"  {task['kind']}  ",
        (status, STYLES.get(status, "")),
        (f"  {task['pointer']}", "dim"),
    )
    if task["ended_ms"] is not None and task["ended_ms"] > task["started_ms"]:
        took_s = (task["ended_ms"] - task["started_ms"]) / 1000
        text.append(f"  took {format_duration(took_s)}", style="dim")
    if task.get("sent") == task["input"]:
        task.pop("sent", None)
    for key in ("input", "sent", "output", "context"):
        if key in task and status != "skipped":
            text.append(f"\n  {key:<8}", style="dim")
            text.append(render.brief(task[key], VALUE_CHARACTERS))
    if "error" in task:
        text.append("\n  error   ", style="dim")
        text.append(describe_error(task["error"]), style="red")
    return text


def _end(shape: JsonObject) -> Text:
    took = format_duration(shape["took_ms"] / 1000)
    status = shape["status"]
    text = Text.assemble((status, STYLES.get(status, "")), f" after {took} of its own time")
    if "output" in shape:
        text.append(f"\noutput  {render.brief(shape['output'], VALUE_CHARACTERS)}")
    if "error" in shape:
        text.append(f"\nerror   {describe_error(shape['error'])}")
    return text
