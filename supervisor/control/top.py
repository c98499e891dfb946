"""`wf-supervisor top`: every process and pool, again and again, as on an airport's board."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from supervisor.control.status import CLIENT_WORKER_COLUMNS, age, client_worker_row, one_line
from supervisor.health.process_usage import Meter
from wf.protocol.durations import format_size

if TYPE_CHECKING:
    from rich.console import RenderableType

Document = dict[str, Any]

FIRST_LOOK_S = 0.5  # rates need two looks
_COLOURS = {
    "ready": "green",
    "unable": "red",
    "running": "green",
    "starting": "yellow",
    "stopping": "yellow",
    "waiting": "red",
    "failed": "bold red",
    "degraded": "bold red",
    "paused": "magenta",
    "held": "magenta",
}
_PROCESS_COLUMNS = (
    "PROCESS",
    "PID",
    "STATE",
    "TASK",
    "FOR",
    "TASKS/S",
    "CPU",
    "PSS",
    "LAG",
    "RESTARTS",
    "LAST END",
)
_POOL_COLUMNS = ("POOL", "STATE", "READY", "WAITING", "OLDEST", "IN FLIGHT", "REDELIVERED")


def sample(ask: Callable[[], Document], meter: Meter) -> Document:
    """One look: the status document, its processes with what they use."""
    status = ask()
    return {**status, "processes": meter.rows(status)}


def first_samples(ask: Callable[[], Document], meter: Meter) -> Document:
    """The first look that has rates."""
    sample(ask, meter)
    time.sleep(FIRST_LOOK_S)
    return sample(ask, meter)


def watch(ask: Callable[[], Document], interval_s: float) -> None:
    """Fill the terminal until it is interrupted, or the supervisor is gone."""
    from rich.live import Live

    meter = Meter()
    with Live(render(first_samples(ask, meter)), screen=True, auto_refresh=False) as live:
        while True:
            time.sleep(interval_s)
            live.update(render(sample(ask, meter)), refresh=True)


def render(look: Document) -> RenderableType:
    """Two tables below a line that says how it goes."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    def table(columns: tuple[str, ...], rows: list[tuple[str, ...]], state: int) -> Table:
        made = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
        for number, column in enumerate(columns):
            right = column in ("PID", "TASKS/S", "CPU", "PSS", "LAG", "RESTARTS", "WAITING")
            made.add_column(column, justify="right" if right else "left", no_wrap=number < 3)
        for row in rows:
            colour = _COLOURS.get(row[state].split()[0] if row[state] else "", "")
            cells = [Text(cell) for cell in row]
            cells[state].stylize(colour)
            made.add_row(*cells)
        return made

    head = f"{look['name']}  pid {look['pid']}  up {age(look['uptime_s'])}  {one_line(look)}"
    return Group(
        Text(head, style="bold"),
        Text(f"broker {look['broker'] or '-'}\n"),
        table(_PROCESS_COLUMNS, [process_row(one) for one in look["processes"]], 2),
        Text(""),
        table(_POOL_COLUMNS, [pool_row(one) for one in look["pools"]], 1),
        Text(""),
        *(
            [table(CLIENT_WORKER_COLUMNS, [client_worker_row(one) for one in clients], 2)]
            if (clients := look["client_workers"])
            else []
        ),
    )


def process_row(process: Document) -> tuple[str, ...]:
    last = process["last_exit"]
    return (
        process["name"],
        _shown(process["pid"]),
        state_with_countdown(process),
        *_task(process),
        _shown(process["tasks_per_s"]),
        "-" if process["cpu"] is None else f"{100 * process['cpu']:.1f}%",
        "-" if process["pss_bytes"] is None else format_size(_rounded(process["pss_bytes"])),
        "-" if process["lag_s"] is None else f"{1000 * process['lag_s']:.0f}ms",
        _shown(process["restarts"]),
        f"{last['cause']} ({last['how']}), {age(last['ago_s'])} ago" if last else "-",
    )


def _task(process: Document) -> tuple[str, str]:
    """What it has been at for longest, how much else, and since when."""
    tasks = process["tasks"]
    if not tasks:
        return "-", "-"
    more = f" +{process['running'] - 1}" if process["running"] > 1 else ""
    return f"{tasks[0]['activity'] or '?'} {tasks[0]['sequence']}{more}", age(tasks[0]["age_s"])


def state_with_countdown(process: Document) -> str:
    """`waiting 3.2s`: until the next start; `stopping 12s`: until it is killed."""
    left_s = process["next_start_s"] or process["kill_in_s"]
    return f"{process['state']} {age(left_s)}" if left_s else str(process["state"])


def pool_row(pool: Document) -> tuple[str, ...]:
    waiting = pool["backlog"]
    figures = (
        ("?" if pool["activities"] else "-",) * 4  # not known is not none
        if waiting is None
        else (
            str(waiting["pending"]),
            _age(waiting["oldest_s"]),
            str(waiting["in_flight"]),
            str(waiting["redelivered"]),
        )
    )
    state = pool["state"]
    if pool["breaker"] == "open" and pool["breaker_left_s"]:
        state = f"{state} {age(pool['breaker_left_s'])}"
    return (pool["name"], state, f"{pool['ready']}/{pool['wanted']}", *figures)


def _shown(value: object) -> str:
    return "-" if value is None else str(value)


def _age(seconds: float | None) -> str:
    return "-" if seconds is None else age(seconds)


def _rounded(size: int) -> int:
    mebibyte = 1024 * 1024
    return max(1, round(size / mebibyte)) * mebibyte
