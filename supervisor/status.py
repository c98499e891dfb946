"""What `wf-supervisor status` shows: a JSON document, and the same for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from supervisor.configuration import Configuration
from supervisor.place import Place
from supervisor.process import READY, Process
from supervisor.tree import Tree


def document(
    tree: Tree, configuration: Configuration, facts: dict[str, Any], now: float
) -> dict[str, Any]:
    """The whole state as plain values; durations in seconds. `facts` are the daemon's own."""
    processes: list[dict[str, Any]] = []
    for place in (place for name in tree.pools for place in tree.in_pool(name)):
        processes.append(_process(place, place.process, now))
        if place.successor is not None:
            processes.append(_process(place, place.successor, now))
    held = {id(p) for place in tree.places.values() for p in (place.process, place.successor)}
    processes += [
        _process(None, process, now)
        for process in tree.processes.values()
        if id(process) not in held
    ]
    return {
        **facts,
        "processes": processes,
        "pools": [_pool(tree, name, now) for name in tree.pools],
        "broken_modules": [
            {"path": path, "error": error} for path, error in configuration.broken().items()
        ],
    }


def _process(place: Place | None, process: Process | None, now: float) -> dict[str, Any]:
    spec = process.spec if process is not None else place.spec if place is not None else None
    last = place.last_exit if place is not None else None
    waiting = place is not None and process is None
    return {
        "name": spec.name if spec else "",
        "role": spec.role if spec else "",
        "pool": spec.pool if spec else "",
        "pid": process.pid if process else None,
        "state": process.state if process else "waiting",
        "uptime_s": round(now - process.started_at, 3) if process else None,
        "boot_ms": _boot_ms(process) if process else None,
        "done": process.done if process else None,
        "generation": process.generation if process else None,
        "restarts": place.restarts if place else None,
        "next_start_s": round(max(0.0, place.next_start - now), 3) if place and waiting else None,
        "last_exit": {
            "cause": last.cause,
            "how": last.how,
            "ago_s": round(now - last.at, 3),
            "error": last.error,
        }
        if last
        else None,
    }


def _boot_ms(process: Process) -> float | None:
    """From its fork until it said that it is ready."""
    if process.ready_at is None:
        return None
    return round(1000 * (process.ready_at - process.started_at), 1)


def _pool(tree: Tree, name: str, now: float) -> dict[str, Any]:
    pool, places = tree.pools[name], tree.in_pool(name)
    return {
        "name": name,
        "role": pool.role,
        "state": pool.state(now, places),
        "wanted": len(places),
        "ready": sum(1 for p in places if p.process is not None and p.process.state == READY),
        "activities": list(places[0].spec.activities) if places else [],
        "modules": list(places[0].spec.modules) if places else [],
        "breaker": pool.breaker.state(now),
        "error": pool.error,
        "roll_error": pool.roll_error,
    }


def one_line(status: dict[str, Any]) -> str:
    """STATUS for systemd, and the first line for people."""
    workers = [pool for pool in status["pools"] if pool["role"] == "worker"]
    ready, wanted = (sum(pool[key] for pool in workers) for key in ("ready", "wanted"))
    parts = [f"{status['state']}: {ready}/{wanted} workers ready"]
    for state in ("failed", "degraded"):
        names = [pool["name"] for pool in status["pools"] if pool["state"] == state]
        if names:
            parts.append(f"{state}: {', '.join(names)}")
    if status["reload_error"]:
        parts.append(f"reload refused: {status['reload_error'][0]}")
    if status["restart_needed"]:
        parts.append(f"restart needed for {', '.join(status['restart_needed'])}")
    return "; ".join(parts).replace("\n", " ")


def text(status: dict[str, Any]) -> str:
    """The document for a terminal."""
    lines = [
        f"{status['name']}  pid {status['pid']}  up {age(status['uptime_s'])}  {one_line(status)}",
        f"broker {status['broker'] or '-'}",
        "",
        *table(
            ("PROCESS", "PID", "STATE", "UP", "DONE", "RESTARTS", "LAST EXIT"),
            [_row(process) for process in status["processes"]],
        ),
        "",
        *table(
            ("POOL", "STATE", "READY", "ACTIVITIES"),
            [
                (
                    pool["name"],
                    pool["state"],
                    f"{pool['ready']}/{pool['wanted']}",
                    ", ".join(pool["activities"]) or "-",
                )
                for pool in status["pools"]
            ],
        ),
    ]
    for problem in status["reload_error"]:
        lines += ["", f"reload refused: {problem}"]
    for module in status["broken_modules"]:
        lines += ["", f"broken module {module['path']}", *_indented(module["error"])]
    known = {module["error"] for module in status["broken_modules"]}
    for pool in status["pools"]:
        for key in ("error", "roll_error"):
            if pool[key] and pool[key] not in known:
                lines += ["", f"pool {pool['name']}: {key}", *_indented(pool[key])]
    return "\n".join(lines) + "\n"


def _row(process: dict[str, Any]) -> tuple[str, ...]:
    last = process["last_exit"]
    state = process["state"]
    if process["next_start_s"]:
        state = f"{state} {age(process['next_start_s'])}"
    return (
        process["name"],
        _shown(process["pid"]),
        state,
        "-" if process["uptime_s"] is None else age(process["uptime_s"]),
        _shown(process["done"]),
        _shown(process["restarts"]),
        f"{last['cause']} ({last['how']}), {age(last['ago_s'])} ago" if last else "-",
    )


def _shown(value: object) -> str:
    return "-" if value is None else str(value)


def _indented(error: str) -> list[str]:
    return [f"    {line}" for line in error.rstrip().splitlines()]


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Left-aligned columns, two spaces apart."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in [header, *rows]
    ]


def age(seconds: float) -> str:
    """`0.4s`, `12s`, `3m05s`, `2h07m`, `5d03h`."""
    if seconds < 10:
        return f"{seconds:.1f}s"
    if seconds < 60:
        return f"{seconds:.0f}s"
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 60:
        return f"{minutes}m{rest:02}s"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours}h{minutes:02}m"
    days, hours = divmod(hours, 24)
    return f"{days}d{hours:02}h"
