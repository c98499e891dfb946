"""docs/operations.md tells of every log event, signal and exit status, and of no other."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from supervisor.control.explain import CAUSES
from supervisor.daemon import SIGNALS
from supervisor.processes.tree import EXIT_ENGINE
from wf.process.child import EXIT_BROKER, EXIT_CONFIG, EXIT_RECYCLE

PROJECT = Path(__file__).parents[2]
DOCUMENT = (PROJECT / "docs" / "operations.md").read_text()
EVENT = re.compile(r"[a-z_]+(\.[a-z_]+)+")
CALLS = {"debug", "info", "warning", "error", "critical", "log", "_log"}
UNLOGGED = {"guard.killed", "log.dropped"}  # written where there is no logger


def logged() -> set[str]:
    events = set(UNLOGGED)
    for package in ("wf", "orchestrator", "supervisor"):
        for path in (PROJECT / package).rglob("*.py"):
            events.update(_events(ast.parse(path.read_text())))
    return events


def _events(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        is_call = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
        if not is_call or node.func.attr not in CALLS:
            continue
        for inner in (part for argument in node.args for part in ast.walk(argument)):
            value = inner.value if isinstance(inner, ast.Constant) else None
            if isinstance(value, str) and EVENT.fullmatch(value):
                yield value


def documented() -> list[str]:
    table = DOCUMENT.partition("## Log events")[2]
    return re.findall(r"^\| `([a-z_.]+)` \|", table, re.MULTILINE)


def test_every_log_event_is_documented_and_every_documented_one_is_logged() -> None:
    told, known = documented(), logged()
    assert sorted(known - set(told)) == [], "logged, but not in docs/operations.md"
    assert sorted(set(told) - known) == [], "in docs/operations.md, but never logged"
    assert told == sorted(set(told)), "in alphabetical order, each once"


def test_every_signal_and_exit_status_is_documented() -> None:
    section = DOCUMENT.partition("## Signals and exit statuses")[2].partition("## Upgrade")[0]
    for number in SIGNALS:
        name = number.name.removeprefix("SIG")
        assert name == "CHLD" or re.search(rf"\b{name}\b", section), name
    for status in (EXIT_BROKER, EXIT_CONFIG, EXIT_ENGINE, EXIT_RECYCLE):
        assert re.search(rf"\b{status}\b", section), status


def test_every_cause_of_a_restart_has_its_budget() -> None:
    section = DOCUMENT.partition("## What is restarted")[2].partition("## Signals")[0]
    for cause in CAUSES.keys() - {"reload"}:
        assert f"| `{cause}` |" in section, cause
