"""`wf hosts`: what it shows of the entries in POOL_STATUS."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console

from wf.cli import hosts_view

NOW_MS = 1_700_000_000_000


def shown(*entries: dict[str, Any]) -> list[str]:
    console = Console(width=200, file=io.StringIO(), highlight=False, markup=False)
    console.print(hosts_view.view(entries, NOW_MS))
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def pool(name: str, state: str = "ready", ready: int = 2) -> dict[str, Any]:
    return {
        "name": name,
        "role": "worker",
        "state": state,
        "ready": ready,
        "wanted": 2,
        "activities": [name],
    }


def entry(host: str, *pools: dict[str, Any], ago_s: float = 1.0, **more: Any) -> dict[str, Any]:
    return {
        "host": host,
        "name": "wf",
        "state": "running",
        "uptime_s": 90.0,
        "written_ms": NOW_MS - int(ago_s * 1000),
        "pools": [{**pool("orchestrator"), "role": "orchestrator"}, *pools],
        "reload_error": [],
        "restart_needed": [],
        "backlog": {},
        **more,
    }


def figures(pending: int) -> dict[str, Any]:
    return {"pending": pending, "oldest_waiting_s": 4.0, "in_flight": 3, "redelivered": 1}


def test_each_host_has_its_workers_and_its_pools() -> None:
    lines = shown(entry("east", pool("mail"), pool("pdf", ready=1)), entry("west", pool("mail")))
    assert lines[1].split()[:5] == ["east", "wf", "running", "1m30s", "3/4"]
    assert lines[2].split()[:5] == ["west", "wf", "running", "1m30s", "2/2"]
    assert "east  wf          pdf   ready  1/2    pdf" in lines


def test_trouble_is_named() -> None:
    sick = entry("east", pool("mail", "degraded"), pool("pdf", "failed"), reload_error=["no"])
    line = shown(sick)[1]
    assert line.endswith("failed: pdf; degraded: mail; reload refused")
    assert shown(entry("east", pool("mail")))[1].endswith("–")


def test_a_host_that_does_not_tell_of_itself_is_silent() -> None:
    assert "silent" not in shown(entry("east", ago_s=14))[1]
    assert "silent: the host is gone, or has lost the broker" in shown(entry("east", ago_s=16))[1]


def test_a_queue_is_shown_once_by_its_newest_reading() -> None:
    old = entry("east", ago_s=5, backlog={"mail": figures(9), "pdf": figures(0)})
    new = entry("west", ago_s=1, backlog={"mail": figures(2)})
    lines = [line.split() for line in shown(new, old)]
    assert ["mail", "2", "4s", "3", "1"] in lines
    assert ["pdf", "0", "–", "3", "1"] in lines
