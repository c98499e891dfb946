"""The load of the storm: workflows of every kind, their activities, and how each must end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from orchestrator.definition import Definition, parse

JsonObject = dict[str, Any]

ACTIVITIES = '''
"""What the storm's workflows do. Every execution is noted."""

import time

from wf import Context, NonRetryable, Retry, activity


@activity
def add(n: int, context: Context) -> dict[str, int]:
    return {"n": n + 1}


@activity
def slow(n: int, context: Context) -> dict[str, int]:
    time.sleep(0.3)
    return {"n": n + 1}


@activity(retry=Retry(max_attempts=5, delay="100ms"))
async def shaky(n: int, context: Context) -> dict[str, int]:
    if context.attempt == 1:
        raise ConnectionError("not yet")
    return {"n": n + 1}


@activity
def refused(n: int, context: Context) -> dict[str, int]:
    raise NonRetryable("no", title="Refused", status=409)


@activity(timeout="500ms")
def hung(n: int, context: Context) -> dict[str, int]:
    time.sleep(0.8)
    return {"n": n}
'''
POOLS = ("add", "slow", "shaky", "refused", "hung")

_HEADER = "document: {dsl: 1.0.3, namespace: default, name: %s, version: 1.0.0}\n"

_TASKS = {
    "chain": """
do:
  - a: {call: add}
  - b: {call: add}
  - c: {call: slow}
  - d: {call: add}
""",
    "fan": """
do:
  - each:
      for: {in: "[range(12)]"}
      do: [{up: {call: add, with: {n: "${ $item }"}}}]
      metadata: {wf: {concurrency: 6}}
  - sum: {set: {n: "${ map(.n) | add }"}}
""",
    "rests": """
do:
  - a: {call: add}
  - rest: {wait: {milliseconds: 700}}
  - b: {call: add}
  - again: {wait: {milliseconds: 100}}
  - c: {call: add}
""",
    "tries": """
do:
  - by_policy: {call: shaky}
  - by_try:
      try: [{no: {call: refused}}]
      catch:
        errors: {with: {status: 409}}
        do: [{instead: {call: add}}]
""",
    "limits": """
do:
  - too_long:
      try: [{hang: {call: hung}}]
      catch: {errors: {with: {status: 408}}, do: [{instead: {call: add}}]}
  - much_too_long:
      try: [{for_ever: {timeout: {after: PT1S}, do: [{sleep: {wait: PT1H}}]}}]
      catch: {errors: {with: {status: 408}}, do: [{instead: {call: add}}]}
""",
    "asks": """
do:
  - a: {call: add, export: {as: .}}
  - go: {listen: {to: {one: {with: {type: go}}}}}
  - b: {call: add, with: {n: "${ $context.n + .[0] }"}}
""",
    "undoes": """
do:
  - a: {call: add, metadata: {wf: {compensate: [{back: {call: add, with: {n: 0}}}]}}}
  - b: {call: slow, metadata: {wf: {compensate: [{back: {call: slow, with: {n: 0}}}]}}}
  - c: {call: refused}
""",
    "parent": """
do:
  - both:
      fork:
        branches:
          - chain: {run: {workflow: {namespace: default, name: chain}}}
          - rests: {run: {workflow: {namespace: default, name: rests}}}
  - sum: {set: {n: "${ map(.n) | add }"}}
""",
}

SOURCES = {name: _HEADER % name + tasks for name, tasks in _TASKS.items()}
DEFINITIONS: dict[str, Definition] = {name: parse(text) for name, text in SOURCES.items()}
NAMES = tuple(SOURCES)
ASKS, GO = "asks", "go"  # the flow that waits for a signal, and the signal's name

# The status and the output, of an instance that was started with {"n": n}.
EXPECTED: dict[str, Callable[[int], tuple[str, Any]]] = {
    "chain": lambda n: ("completed", {"n": n + 4}),
    "fan": lambda n: ("completed", {"n": 78}),
    "rests": lambda n: ("completed", {"n": n + 3}),
    "tries": lambda n: ("completed", {"n": n + 2}),
    "limits": lambda n: ("completed", {"n": n + 2}),
    "asks": lambda n: ("completed", {"n": n + 7}),
    "undoes": lambda n: ("faulted", None),
    "parent": lambda n: ("completed", {"n": (n + 4) + (n + 3)}),
}


def lookup(namespace: str, name: str, version: str | None) -> Definition | None:
    """As the engine's table of definitions."""
    return DEFINITIONS.get(name)


def problem(snapshot: JsonObject, n: int) -> str | None:
    """What is wrong with the end of an instance that was started with {"n": n}."""
    wanted = EXPECTED[snapshot["workflow"]](n)
    status = snapshot["status"]
    found = (status, snapshot.get("output") if status == "completed" else None)
    if found != wanted:
        return f"ended as {found}, not as {wanted}: {snapshot.get('error')}"
    if snapshot["workflow"] == "undoes" and snapshot.get("compensated") != {
        "done": 2,
        "failed": [],
    }:
        return f"has undone {snapshot.get('compensated')}"
    return None
