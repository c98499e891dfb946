"""What keeps a process from its work is told when it changes, and a missing figure is no figure."""

from __future__ import annotations

from typing import Any

from supervisor.control.status import one_line, text
from supervisor.control.top import pool_row
from supervisor.policy.backlog import FRESH_S, Backlog
from wf.jetstream.troubles import Troubles


class Port:
    def __init__(self) -> None:
        self.found: list[str] = []

    def troubles(self) -> list[str]:
        return self.found


def test_it_is_told_once_until_it_changes() -> None:
    port, more, told = Port(), list[str](), list[tuple[list[str], bool]]()
    troubles = Troubles(port, lambda *said: told.append(said), lambda: more)  # type: ignore[arg-type]
    troubles.look()
    assert told == []
    port.found = ["no queue"]
    troubles.look()
    troubles.look()
    more.append("a flag")
    troubles.look()
    port.found = []
    troubles.look()
    more.clear()
    troubles.look()
    assert told == [
        (["no queue"], True),
        (["no queue", "a flag"], True),
        (["a flag"], False),
        ([], False),
    ]


def test_a_backlog_that_was_not_read_is_a_trouble() -> None:
    backlog = Backlog()
    assert backlog.trouble(FRESH_S, 100.0) == ""  # the monitor has just begun
    assert "never" in backlog.trouble(FRESH_S + 1, 100.0)
    backlog.take({"mail": {}}, 100.0, ["pdf"])
    assert backlog.trouble(60.0, 100.0 + FRESH_S) == ""
    assert backlog.missing(["mail", "pdf"], 101.0) == ["pdf"]
    backlog.unread("stream not found")
    said = backlog.trouble(60.0, 101.0 + FRESH_S)
    assert "stream not found" in said
    assert "11 s" in said
    assert backlog.missing(["pdf"], 101.0 + FRESH_S) == []


def test_what_is_not_known_is_not_shown_as_none() -> None:
    row: dict[str, Any] = {
        "name": "mail", "state": "ready", "ready": 1, "wanted": 1, "breaker": "closed",
        "breaker_left_s": None, "backlog": None, "activities": ["mail"],
    }  # fmt: skip
    assert pool_row(row)[3:] == ("?",) * 4
    assert pool_row({**row, "activities": []})[3:] == ("-",) * 4


def test_the_first_trouble_is_in_the_first_line_and_all_are_below() -> None:
    status: dict[str, Any] = {
        "name": "p", "pid": 1, "uptime_s": 1.0, "state": "running", "broker": "nats://x",
        "reload_error": [], "restart_needed": [], "processes": [], "pools": [],
        "broken_modules": [], "client_workers": [],
        "data_lost": {"what": "all is gone", "ago_s": 3.0},
        "troubles": [
            {"who": "pool a", "what": "failed"},
            {"who": "worker b #0", "what": "not connected"},
            {"who": "monitor", "what": "no figures"},
        ],
    }  # fmt: skip
    assert "trouble: worker b #0: not connected (and 1 more)" in one_line(status)
    shown = text(status)
    assert "trouble: pool a: failed" in shown
    assert "trouble: monitor: no figures" in shown
    assert "data lost, seen 3.0s ago: all is gone" in shown
