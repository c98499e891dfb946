"""A ledger of what activities really did: one line per execution, appended by the worker itself.

The activities are the repository's own with one statement more, so what runs is what users see.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path

LEDGER = """
def _note(context):
    import os, time
    line = (f"{context.instance} {context.activity} {context.idempotency_key} {context.attempt}"
            f" {os.getpid()} {time.time_ns() // 1_000_000}\\n")
    ledger = os.open(%r, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(ledger, line.encode())
    os.close(ledger)
"""


@dataclass(slots=True, frozen=True)
class Execution:
    """One run of one activity function, as it began."""

    instance: str
    activity: str
    key: str  # idempotency key
    attempt: int
    pid: int
    at_ms: int


def read(ledger: Path) -> list[Execution]:
    """All executions so far, oldest first."""
    if not ledger.exists():
        return []
    found = []
    for line in ledger.read_text().splitlines():
        instance, activity, key, attempt, pid, at_ms = line.split()
        found.append(Execution(instance, activity, key, int(attempt), int(pid), int(at_ms)))
    return found


def duplicates(executions: list[Execution]) -> int:
    """How many ran although the same attempt had been begun before."""
    return len(executions) - len({(one.key, one.attempt) for one in executions})


def noted(source: str, ledger: Path) -> str:
    """The module with a `Context` in every activity, and a note in the ledger at its beginning."""
    tree = ast.parse(source)
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.decorator_list:
            if not any(argument.arg == "context" for argument in node.args.args):
                node.args.args.append(ast.arg("context", ast.Name("Context")))
            place = 1 if ast.get_docstring(node) else 0
            node.body.insert(place, ast.parse("_note(context)").body[0])
    return ast.unparse(ast.fix_missing_locations(tree)) + LEDGER % str(ledger)
