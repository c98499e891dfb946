"""Tables and timelines for people. Pure: values in, rich renderables out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson
from rich.console import Group, RenderableType
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from wf.client.definitions import RegisteredDefinition
from wf.client.instances import HistoryEntry, Instance, describe_error
from wf.client.schedules import Pending
from wf.protocol.durations import format_duration

JsonObject = dict[str, Any]

STYLES = {
    "completed": "green",
    "faulted": "bold red",
    "cancelled": "yellow",
    "suspended": "magenta",
    "compensating": "bold yellow",
    "waiting": "blue",
    "running": "cyan",
    "pending": "dim",
}


def moment(time_ms: int | None) -> str:
    """`2026-11-21 09:30:00.123Z`; a dash for none, and for no time that there is."""
    try:
        instant = None if time_ms is None else datetime.fromtimestamp(time_ms / 1000, UTC)
    except (TypeError, ValueError, OverflowError, OSError):  # somebody else wrote it
        instant = None
    if instant is None or time_ms is None:
        return "–"
    return instant.strftime("%Y-%m-%d %H:%M:%S.") + f"{time_ms % 1000:03d}Z"


def span(started_ms: int | None, ended_ms: int | None) -> str:
    """How long it took, to the millisecond; a dash where either end is missing."""
    if type(started_ms) is not int or type(ended_ms) is not int:
        return "–"
    return format_duration(max(0, ended_ms - started_ms) / 1000)


def status(name: str) -> Text:
    return Text(name, style=STYLES.get(name, ""))


def brief(value: Any, limit: int = 60) -> str:
    """JSON on one line, cut to `limit` characters."""
    return _cut(orjson.dumps(value).decode(), limit)


def _cut(text: str, limit: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def json_block(value: Any) -> RenderableType:
    """Indented JSON, coloured where the terminal can."""
    text = orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()
    return Syntax(text, "json", background_color="default", word_wrap=True)


def table(title: str | None, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Table:
    """A plain table; cells are text or renderables, never markup."""
    made = Table(*columns, title=title, title_justify="left", box=None, pad_edge=False)
    for row in rows:
        made.add_row(*(cell if isinstance(cell, Text) else Text(str(cell)) for cell in row))
    return made


def instances_table(found: Sequence[Instance]) -> Table:
    """`wf list`."""
    rows = [
        (
            instance.id,
            status(instance.status),
            f"{instance.workflow} {instance.version or ''}".strip(),
            moment(instance.started_ms),
            span(instance.started_ms, instance.ended_ms),
        )
        for instance in found
    ]
    return table(None, ("ID", "STATUS", "WORKFLOW", "STARTED", "TOOK"), rows)


def definitions_table(
    found: Sequence[RegisteredDefinition], due_ms: Mapping[tuple[str, str], int | None]
) -> Table:
    """`wf definitions`, sorted by version. `due_ms`: when a workflow starts by itself next; None:
    with events."""
    latest = {(d.namespace, d.name): d.version for d in found}
    rows = []
    for d in found:
        key = d.namespace, d.name
        due: str | Text = ""
        if key in due_ms and latest[key] == d.version:
            due = _due(due_ms[key])
        if d.problem:
            due = Text(f"unreadable: {d.problem}", style="yellow")
        rows.append((*key, d.version, moment(d.registered_ms), due))
    return table(None, ("NAMESPACE", "NAME", "VERSION", "REGISTERED", "NEXT START"), rows)


def schedules_table(found: Sequence[Pending], now_ms: int) -> Table:
    """`wf schedules`."""
    rows = [
        (
            one.workflow,
            one.schedule,
            "–" if one.due_ms is None and one.sequence else _due(one.due_ms),
            "" if one.due_ms is None else span(now_ms, one.due_ms),
        )
        for one in found
    ]
    return table(None, ("WORKFLOW", "SCHEDULE", "NEXT START", "IN"), rows)


def _due(due_ms: int | None) -> str:
    return "with events" if due_ms is None else moment(due_ms)


def instance_view(
    instance: Instance, history: Sequence[HistoryEntry], now_ms: int
) -> RenderableType:
    """`wf show`: what it is, what it waits for, what its activities gave, how it ended."""
    parts: list[RenderableType] = [_facts(instance, now_ms)]
    runs = open_runs(instance.snapshot)
    if runs:
        parts += ["", table("Open runs", ("RUN", "ACTIVITY", "ATTEMPT", "TASK"), runs)]
    timers = open_timers(instance.snapshot, now_ms)
    if timers:
        parts += ["", table("Timers", ("TIMER", "WAKES", "DUE", "IN"), timers)]
    children = child_instances(history)
    if children:
        parts += [
            "",
            table("Children", ("RUN", "INSTANCE", "WORKFLOW", "STATUS", "TASK"), children),
        ]
    results = activity_results(history)
    if results:
        columns = ("RUN", "ACTIVITY", "ATTEMPT", "OUTCOME", "AT", "RESULT")
        parts += ["", table("Activities", columns, results)]
    parts += ["", Text("Input", style="bold"), json_block(instance.snapshot.get("input"))]
    if instance.snapshot.get("context"):
        parts += ["", Text("Context", style="bold"), json_block(instance.snapshot["context"])]
    for key in ("ending", "compensated"):
        if key in instance.snapshot:
            found = instance.snapshot[key]
            parts += ["", Text(key.capitalize(), style="bold yellow"), json_block(found)]
    if instance.error is not None:
        parts += ["", Text("Error", style="bold red"), json_block(instance.error)]
    if instance.status == "completed":
        parts += ["", Text("Output", style="bold"), json_block(instance.output)]
    return Group(*parts)


def _facts(instance: Instance, now_ms: int) -> Table:
    facts = Table(box=None, show_header=False, pad_edge=False)
    ended = instance.ended_ms
    took = span(instance.started_ms, now_ms if ended is None else ended)
    for label, value in (
        ("Instance", Text(instance.id, style="bold")),
        ("Workflow", Text(f"{instance.workflow} {instance.version or ''}".strip())),
        ("Status", status(instance.status)),
        ("Started", Text(moment(instance.started_ms))),
        (
            "Ended" if ended is not None else "Running for",
            Text(f"{moment(ended)} ({took})" if ended is not None else took),
        ),
    ):
        facts.add_row(Text(label, style="dim"), value)
    slot = instance.snapshot.get("slot")
    if slot and slot.get("state") == "waiting":
        key = f", of those with {brief(slot['key'])}" if "key" in slot else ""
        text = f"a place among the instances that run at once{key}"
        facts.add_row(Text("Waits for", style="dim"), Text(text))
    parent = instance.snapshot.get("parent")
    if parent:
        kept = "" if parent.get("awaited") else ", which does not wait for it"
        text = f"{parent.get('id')} (run {parent.get('run')}){kept}"
        facts.add_row(Text("Parent", style="dim"), Text(text))
    if instance.snapshot.get("reason"):
        facts.add_row(Text("Reason", style="dim"), Text(str(instance.snapshot["reason"])))
    return facts


def _records(snapshot: JsonObject, key: str) -> list[tuple[str, JsonObject]]:
    held = snapshot.get(key) or {}
    pairs = held.items() if isinstance(held, dict) else enumerate(held)
    return [(str(name), record) for name, record in pairs if isinstance(record, dict)]


def open_runs(snapshot: JsonObject) -> list[tuple[Any, ...]]:
    """(run, activity, attempt, pointer) of what is dispatched and has no outcome yet."""
    return [
        (
            name,
            record.get("activity") or record.get("workflow", "–"),
            record.get("attempt", 1),
            record.get("pointer", "–"),
        )
        for name, record in _records(snapshot, "runs")
    ]


def open_timers(snapshot: JsonObject, now_ms: int) -> list[tuple[Any, ...]]:
    """(timer, what it wakes, due, how long until then)."""
    frames = snapshot.get("frames") or {}
    retries = {
        record.get("frame"): f"{record.get('activity')}, attempt {record.get('attempt')}"
        for _, record in _records(snapshot, "runs")
    }
    rows: list[tuple[Any, ...]] = []
    for name, record in _records(snapshot, "timers"):
        due_ms, frame = record.get("due_ms"), record.get("frame")
        left = "–" if due_ms is None else format_duration(max(0, due_ms - now_ms) / 1000)
        place = (frames.get(frame) or {}).get("node", "–")
        wakes = f"{place} ({retries[frame]})" if frame in retries else place
        rows.append((name, wakes, moment(due_ms), left))
    return rows


def activity_results(history: Sequence[HistoryEntry]) -> list[tuple[Any, ...]]:
    """(run, activity, attempt, outcome, when, result) of every result that history records."""
    rows: list[tuple[Any, ...]] = []
    for entry in history:
        event = entry.event
        if event.get("kind") != "result":
            continue
        outcome = str(event.get("outcome", "–"))
        error = event.get("error")
        if outcome != "completed" and isinstance(error, dict):
            result = _cut(describe_error(error), 100)  # title and detail: the type says less
        else:
            result = brief(event.get("output"))
        rows.append(
            (
                event.get("run", "–"),
                event.get("activity", "–"),
                event.get("attempt", "–"),
                Text(outcome, style="green" if outcome == "completed" else "red"),
                moment(entry.now_ms),
                result,
            )
        )
    return rows


def child_instances(history: Sequence[HistoryEntry]) -> list[tuple[Any, ...]]:
    """(run, instance, workflow, status, pointer) of every child that history records."""
    rows: dict[str, tuple[Any, ...]] = {}
    for record in (record for entry in history for record in entry.entries):
        kind, child = str(record.get("type")), str(record.get("child"))
        if kind == "child.started":
            first = "started" if record.get("awaited") else "not awaited"
            given = (record.get("run"), child, record.get("workflow", "–"))
            rows[child] = (*given, Text(first), record.get("pointer", "–"))
        elif child in rows and kind.startswith("child."):
            known = rows[child]
            rows[child] = (*known[:3], status(kind.removeprefix("child.")), known[4])
    return list(rows.values())


def timeline(history: Sequence[HistoryEntry]) -> RenderableType:
    """`wf history`: one line per event, below it what the machine made of it."""
    if not history:
        return Text("(nothing recorded)")
    first_ms = history[0].now_ms
    rows: list[tuple[Any, ...]] = []
    for entry in history:
        offset = "+" + format_duration(max(0, entry.now_ms - first_ms) / 1000)
        rows.append(
            (moment(entry.now_ms), offset, Text(_event_text(entry.event), style="bold"), "")
        )
        for record in entry.entries:
            kind = str(record.get("type", "?"))
            rows.append(("", "", f"  {kind}", _details(record)))
    return table(None, ("WHEN", "AFTER", "WHAT", "DETAILS"), rows)


def _details(record: JsonObject) -> str:
    """What an entry says beside its type: the task's place first, then `key=value`."""
    placed = "pointer" in record
    words = [str(record["pointer"])] if placed else []
    for key, value in record.items():
        if key == "error" and isinstance(value, dict):
            words.append(f"error={_cut(describe_error(value), 100)}")
        elif key not in ("type", "pointer") and not (placed and key == "name"):
            words.append(f"{key}={value if isinstance(value, str) else brief(value)}")
    return " ".join(words)


def _event_text(event: JsonObject) -> str:
    kind = str(event.get("kind", "?"))
    named = {
        "start": ("workflow",),
        "result": ("activity", "outcome"),
        "signal": ("name",),
        "child": ("child", "status"),
        "command": ("verb", "reason"),
        "timer": ("timer",),
        "place": ("turn",),
    }.get(kind, ())
    words = [kind, *(str(event[key]) for key in named if event.get(key) is not None)]
    if kind == "result":
        words.append(f"(run {event.get('run', '?')}, attempt {event.get('attempt', '?')})")
    return " ".join(words)
