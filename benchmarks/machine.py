"""The engine's own work for a step, without broker, workers and disk, at several sizes of state."""

from __future__ import annotations

import time
from typing import Any

from orchestrator.definition import Definition, parse
from orchestrator.machine import Dispatch, advance
from orchestrator.state import commit as records
from orchestrator.state.commit import Commit
from orchestrator.state.large_values import Watch

STEPS = 2_000
SIZES = {"1kB": 1_000, "100kB": 100_000, "1MB": 1_000_000}
ITEM_BYTES = 200  # of state: many small values, as in an order's context

JsonObject = dict[str, Any]


def steps_per_s(size: int) -> float:
    """Results applied in a second to an instance with so many bytes of context; nothing stored."""
    return STEPS / _run(size, stored=False)


def stored_step_us(size: int) -> float:
    """Microseconds for a result that is applied and made into the bytes that a commit stores."""
    return _run(size, stored=True) / STEPS * 1e6


def _definition() -> Definition:
    header = {"dsl": "1.0.3", "namespace": "default", "name": "steps", "version": "1.0.0"}
    loop = {
        "for": {"in": f"[range({STEPS})]"},
        "do": [{"one": {"call": "noop", "with": {"n": "${ $item }"}}}],
    }
    return parse(
        {"document": header, "do": [{"keep": {"set": {}, "export": {"as": "$workflow.input"}}},
                                    {"each": loop}]}
    )  # fmt: skip


def _run(size: int, *, stored: bool) -> float:
    """Seconds for all steps."""
    definition = _definition()
    state = {f"k{n}": "x" * ITEM_BYTES for n in range(max(1, size // ITEM_BYTES))}
    start = {"kind": "start", "id": "i", "workflow": "steps", "input": state}
    made = advance(definition, None, start, 0)
    watch: Watch | None = None
    began_s = time.perf_counter()
    for number in range(1, STEPS + 1):
        (run,) = (one.run for one in made.commands if isinstance(one, Dispatch))
        result = {"kind": "result", "activity": "noop", "run": run, "attempt": 1}
        event = {**result, "outcome": "completed", "output": {"n": number}}
        made = advance(definition, made.snapshot, event, number, reuse=True)
        if stored:
            commit = Commit(number, str(number), tasks=[run])
            sealed = records.seal(made.snapshot, commit, watch)
            watch = records.built(made.snapshot, commit, sealed, number).watch
    assert made.snapshot["status"] == "completed", made.snapshot["status"]
    return time.perf_counter() - began_s
