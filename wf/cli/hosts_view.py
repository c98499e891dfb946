"""What `wf hosts` shows to people. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from wf.cli.render import table
from wf.protocol.durations import format_duration

Entry = Mapping[str, Any]

SILENT_AFTER_S = 15.0  # three times what a monitor waits between two entries
SHOWN_CHARACTERS = 80
POOL_COLUMNS = ("HOST", "SUPERVISOR", "POOL", "STATE", "READY", "ACTIVITIES")
CLIENT_WORKER_COLUMNS = ("HOST", "CLIENT WORKER", "RUNNING", "TOLD", "ACTIVITIES")
QUEUE_COLUMNS = ("ACTIVITY", "PENDING", "OLDEST", "IN FLIGHT", "REDELIVERED")
TROUBLE = ("failed", "degraded", "unable", "paused")


def view(
    entries: Sequence[Entry], now_ms: int, client_workers: Sequence[Entry] = ()
) -> RenderableType:
    """`entries` and `client_workers` as they are in POOL_STATUS (docs/protocol.md), or whatever
    lies there."""
    whole = [entry for entry in entries if _is_whole(entry)]
    rows = [_host(one, now_ms) if _is_whole(one) else _unreadable(one) for one in entries]
    columns = ("HOST", "SUPERVISOR", "STATE", "UP", "WORKERS", "TOLD", "TROUBLE")
    parts: list[RenderableType] = [table(None, columns, rows)]
    entries = whole
    pools = [row for entry in entries for row in _pools(entry)]
    if pools:
        parts += ["", table(None, POOL_COLUMNS, pools)]
    waiting = list(_waiting(entries))
    if waiting:
        parts += ["", table(None, QUEUE_COLUMNS, waiting)]
    if client_workers:
        rows = [_client_worker(one, now_ms) for one in client_workers]
        parts += ["", table(None, CLIENT_WORKER_COLUMNS, rows)]
    return Group(*parts)


def _client_worker(entry: Entry, now_ms: int) -> tuple[Any, ...]:
    figures = entry["activities"].values()
    running, most = (sum(one[key] for one in figures) for key in ("running", "concurrency"))
    told = f"{_seconds(max(0.0, (now_ms - entry['written_ms']) / 1000))} ago"
    return entry["host"], entry["name"], f"{running}/{most}", told, ", ".join(entry["activities"])


def _is_whole(entry: Entry) -> bool:
    """Whether all that is shown of an entry is in it: anybody on the broker may have written it."""
    try:
        _host(entry, 0)
        list(_pools(entry))
        list(_waiting([entry]))
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        return False
    return True


def _unreadable(entry: Entry) -> tuple[Any, ...]:
    name = str(entry.get("host") or entry.get("key") or "?")[:SHOWN_CHARACTERS]
    reason = str(entry.get("unreadable") or "not an entry of this version")
    return name, "–", "–", "–", "–", "–", Text(f"unreadable: {reason}", style="yellow")


def _host(entry: Entry, now_ms: int) -> tuple[Any, ...]:
    workers = [pool for pool in entry["pools"] if pool["role"] == "worker"]
    ready, wanted = (sum(pool[key] for pool in workers) for key in ("ready", "wanted"))
    silent_s = max(0.0, (now_ms - entry["written_ms"]) / 1000)
    return (
        entry["host"],
        entry["name"],
        entry["state"],
        _seconds(entry["uptime_s"]),
        f"{ready}/{wanted}",
        f"{_seconds(silent_s)} ago",
        Text("; ".join(_trouble(entry, silent_s)) or "–", style="yellow"),
    )


def _trouble(entry: Entry, silent_s: float) -> Iterable[str]:
    if silent_s > SILENT_AFTER_S:
        yield "silent: the host is gone, or has lost the broker"
    for state in TROUBLE:
        names = [pool["name"] for pool in entry["pools"] if pool["state"] == state]
        if names:
            yield f"{state}: {', '.join(names)}"
    for one in entry.get("troubles") or ():
        yield f"{one['who']}: {one['what']}"
    if entry["reload_error"]:
        yield "reload refused"
    if entry["restart_needed"]:
        yield "restart needed"


def _pools(entry: Entry) -> Iterable[tuple[Any, ...]]:
    for pool in entry["pools"]:
        if pool["role"] == "worker":
            ready = f"{pool['ready']}/{pool['wanted']}"
            names = ", ".join(pool["activities"]) or "–"
            yield entry["host"], entry["name"], pool["name"], pool["state"], ready, names


def _waiting(entries: Sequence[Entry]) -> Iterable[tuple[Any, ...]]:
    """Queues belong to the broker, not to a host: of each activity the newest reading."""
    newest: dict[str, Entry] = {}
    for entry in sorted(entries, key=lambda one: int(one["written_ms"])):
        newest.update(entry["backlog"])
    for activity, figures in sorted(newest.items()):
        pending = figures["pending"]
        oldest = _seconds(figures["oldest_waiting_s"]) if pending else "–"
        yield activity, pending, oldest, figures["in_flight"], figures["redelivered"]


def _seconds(seconds: float) -> str:
    return format_duration(round(seconds, 1) if seconds < 10 else float(round(seconds)))
