"""What `wf-supervisor status` shows: a JSON document, and the same for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from supervisor.control.troubles import troubles
from supervisor.policy.spec import WORKER
from supervisor.processes.process import READY, STARTING, STOPPING, Process
from supervisor.processes.seat import Place, Pool
from supervisor.processes.tree import Tree
from supervisor.reload.configuration import Configuration
from wf.protocol import subjects

CLIENT_WORKER_COLUMNS = ("CLIENT WORKER", "HOST", "RUNNING", "WAITING", "ACTIVITIES")
MOST_TASKS = 20  # of one process; more say nothing new
UNABLE = "unable"  # up, and no work can come
PULSE_S = 1.0  # between two turns of a child's pulse, at most


@dataclass(frozen=True, slots=True)
class Counts:
    """Counts of processes that are not simply those of pool.toml, by pool."""

    ordered: Mapping[str, int]  # by the operator
    by_load: Mapping[str, dict[str, Any]]  # target, reason, vetoed


def document(
    tree: Tree,
    configuration: Configuration,
    counts: Counts,
    facts: dict[str, Any],
    now: float,
) -> dict[str, Any]:
    """The whole state as plain values; durations in seconds. `facts` are the daemon's own."""
    processes: list[dict[str, Any]] = []
    for place in (place for name in tree.pools for place in tree.in_pool(name)):
        processes.append(_process(tree, place, place.process, now))
        if place.successor is not None:
            processes.append(_process(tree, place, place.successor, now))
    held = {id(p) for place in tree.places.values() for p in (place.process, place.successor)}
    processes += [
        _process(tree, None, process, now)
        for process in tree.processes.values()
        if id(process) not in held
    ]
    found = troubles(tree, now)
    return {
        **facts,
        "able": facts["state"] in ("running", "reloading") and not found,
        "troubles": [asdict(one) for one in found],
        "data_lost": _data_lost(tree, now),
        "processes": processes,
        "pools": [
            {**_pool(tree, name, now), **_count(configuration, counts, name)}
            for name in _pool_names(tree, configuration)
        ],
        "client_workers": [
            {**worker, "backlog": _waiting(tree, list(worker["activities"]), now)}
            for worker in tree.backlog.client_workers(now)
        ],
        "broken_modules": [
            {"path": path, "error": error, "late": path in configuration.late()}
            for path, error in configuration.broken().items()
        ],
    }


def _data_lost(tree: Tree, now: float) -> dict[str, Any] | None:
    if tree.data_lost is None:
        return None
    what, at = tree.data_lost
    return {"what": what, "ago_s": round(now - at, 3)}


def _process(
    tree: Tree, place: Place | None, process: Process | None, now: float
) -> dict[str, Any]:
    spec = process.spec if process is not None else place.spec if place is not None else None
    return {
        "name": spec.name if spec else "",
        "role": spec.role if spec else "",
        "pool": spec.pool if spec else "",
        **_running(process, now),
        **_placed(tree, place, process, now),
    }


def _running(process: Process | None, now: float) -> dict[str, Any]:
    """What is known of a process; the same keys, empty, where there is none."""
    if process is None:
        keys = ["pid", "uptime_s", "boot_ms", "done", "generation", "kill_in_s", "boot_left_s"]
        keys += ["running", "held", "failed", "lag_s"]
        empty: dict[str, Any] = {
            "state": "waiting",
            "half_open": False,
            "tasks": [],
            "outdated": [],
            "troubles": [],
        }
        return empty | dict.fromkeys(keys)
    stopping, starting = process.state == STOPPING, process.state == STARTING
    return {
        "state": UNABLE if _is_unable(process) else process.state,
        "troubles": list(process.troubles),
        "half_open": process.half_open,
        "pid": process.pid,
        "uptime_s": round(now - process.started_at, 3),
        "boot_ms": _boot_ms(process),
        "done": process.done,
        "generation": process.generation,
        "outdated": list(process.outdated),
        "kill_in_s": _left(process.stop_deadline, now) if stopping else None,
        "boot_left_s": _left(process.boot_deadline, now) if starting else None,
        **_at_work(process, now),
    }


def _is_unable(process: Process | None) -> bool:
    return process is not None and process.state == READY and process.unable


def _at_work(process: Process, now: float) -> dict[str, Any]:
    """What its slot says: how late its loop is, and the tasks that it has begun, oldest first."""
    header = process.header()
    if header is None:
        return {"running": None, "held": None, "failed": None, "lag_s": None, "tasks": []}
    late_s = max(header.lag_s, now - header.tick_s - PULSE_S) if header.tick_s else header.lag_s
    tasks = [task for task in process.tasks() if task.runs] if header.running else []
    return {
        "done": max(process.done, header.done),
        "running": header.running,
        "held": header.held,
        "failed": header.failed,
        "lag_s": round(max(0.0, late_s), 4),
        "tasks": [
            {
                "activity": subjects.activity_of_reply(task.reply),
                "sequence": task.sequence,
                "age_s": round(now - task.started_s, 3),
                "left_s": round(task.deadline_s - now, 3),
            }
            for task in tasks[:MOST_TASKS]
        ],
    }


def _placed(tree: Tree, place: Place | None, process: Process | None, now: float) -> dict[str, Any]:
    """What is known of a place: how often it was filled, how its last process ended."""
    if place is None:
        keys = ("restarts", "failures", "next_start_s", "last_exit")
        return {"successor": False, "stuck": {}, **dict.fromkeys(keys)}
    last = place.last_exit
    told: dict[str, Any] = {
        "successor": process is not None and place.successor is process,
        "restarts": place.restarts,
        "failures": place.failures,
        "stuck": dict(place.stuck),
        "next_start_s": None,
        "last_exit": {
            "cause": last.cause,
            "how": last.how,
            "ago_s": round(now - last.at, 3),
            "error": last.error,
        }
        if last
        else None,
    }
    if process is None:
        pool = tree.pools[place.spec.pool]
        told["state"] = "paused" if pool.paused else place.state()
        if told["state"] == "waiting":
            due = max(place.next_start, pool.breaker.open_until or 0.0)
            told["next_start_s"] = round(max(0.0, due - now), 3)
    return told


def _left(deadline: float | None, now: float) -> float | None:
    return None if deadline is None else round(max(0.0, deadline - now), 3)


def _boot_ms(process: Process) -> float | None:
    """From its fork until it said that it is ready."""
    if process.ready_at is None:
        return None
    return round(1000 * (process.ready_at - process.started_at), 1)


def _pool_names(tree: Tree, configuration: Configuration) -> list[str]:
    """Those of the tree, and those that have no process at all."""
    empty = [pool.name for pool in configuration.pools if pool.name not in tree.pools]
    return [*tree.pools, *empty]


def _pool(tree: Tree, name: str, now: float) -> dict[str, Any]:
    pool, places = tree.pools.get(name), tree.in_pool(name)
    if pool is None:
        pool = Pool(name, WORKER, paused=name in tree.paused)
    breaker = pool.breaker
    activities = list(places[0].spec.activities) if places else []
    up = [p.process for p in places if p.process is not None and p.process.state == READY]
    able = [process for process in up if not process.unable]
    state = pool.state(now, places) if places else "paused" if pool.paused else "empty"
    return {
        "name": name,
        "role": pool.role,
        "state": UNABLE if state == "ready" and up and not able else state,
        "wanted": len(places),
        "ready": len(able),
        "activities": activities,
        "modules": list(places[0].spec.modules) if places else [],
        "breaker": breaker.state(now),
        "breaker_left_s": _left(breaker.open_until, now),
        "breaker_cause": breaker.cause.value if breaker.cause else None,
        "openings": breaker.openings,
        "failures": len(breaker.failures),
        "paused": pool.paused,
        "rolling": any(place.successor is not None or place.is_stale() for place in places),
        "backlog": _waiting(tree, activities, now),
        "error": pool.error,
        "roll_error": pool.roll_error,
    }


def _waiting(tree: Tree, activities: Sequence[str], now: float) -> dict[str, Any] | None:
    found = tree.backlog.of_pool(activities, now)
    return None if found is None else asdict(found)


def _count(configuration: Configuration, counts: Counts, name: str) -> dict[str, Any]:
    """Who has said how many processes a pool has."""
    return {
        "stated": configuration.stated_counts().get(name),
        "scaled": counts.ordered.get(name),
        "autoscale": counts.by_load.get(name),
    }


def one_line(status: dict[str, Any]) -> str:
    """STATUS for systemd, and the first line for people."""
    workers = [pool for pool in status["pools"] if pool["role"] == "worker"]
    ready, wanted = (sum(pool[key] for pool in workers) for key in ("ready", "wanted"))
    parts = [f"{status['state']}: {ready}/{wanted} workers ready"]
    # Pools that failed are named below.
    found = [one for one in status.get("troubles") or () if not one["who"].startswith("pool ")]
    if found and status["state"] != "starting":
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        parts.append(f"trouble: {found[0]['who']}: {found[0]['what']}{more}")
    for state in ("failed", "degraded", "paused"):
        names = [pool["name"] for pool in status["pools"] if pool["state"] == state]
        if names:
            parts.append(f"{state}: {', '.join(names)}")
    late = [Path(one["path"]).name for one in status.get("broken_modules", ()) if one.get("late")]
    if late:
        parts.append(f"import not done: {', '.join(late)}")
    outdated = [one for one in status["processes"] if one.get("outdated")]
    if outdated:
        pools = ", ".join(sorted({one["pool"] for one in outdated}))
        changed = ", ".join(sorted({name for one in outdated for name in one["outdated"]}))
        parts.append(f"restart {pools}: {changed} has changed")
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
    if status.get("troubles"):
        lines += ["", *(f"trouble: {one['who']}: {one['what']}" for one in status["troubles"])]
    if lost := status.get("data_lost"):
        lines += ["", f"data lost, seen {age(lost['ago_s'])} ago: {lost['what']}"]
    if status["client_workers"]:
        rows = [client_worker_row(worker) for worker in status["client_workers"]]
        lines += ["", *table(CLIENT_WORKER_COLUMNS, rows)]
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


def client_worker_row(worker: dict[str, Any]) -> tuple[str, ...]:
    """A worker without a supervisor: CLIENT_WORKER_COLUMNS."""
    activities, waiting = worker["activities"], worker["backlog"]
    running, most = (
        sum(one[key] for one in activities.values()) for key in ("running", "concurrency")
    )
    return (
        worker["name"],
        worker["host"],
        f"{running}/{most}",
        "-" if waiting is None else str(waiting["pending"]),
        ", ".join(activities) or "-",
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
