"""Ten thousand instances that wait, each for a moment of its own: how late they wake up."""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from typing import Any

import orjson

from benchmarks import flows
from benchmarks.tree import Tree, running
from wf.client.client import Client
from wf.client.start import Start, fresh_id
from wf.jetstream import topology

TIMERS = int(os.environ.get("WF_BENCH_TIMERS", "10000"))
RATES = (100, 500)  # due in a second
LEAD_S = 15.0  # for starting them all before the first is due
LIMIT_S = 300.0

JsonObject = dict[str, Any]


def measure_timers(runs: int) -> JsonObject:
    """Seconds from when a timer was due until the broker had stored that it fired."""
    report: JsonObject = {"timers": TIMERS}
    for rate in RATES:
        p50: list[float] = []
        p99: list[float] = []
        for _ in range(runs):
            with running() as tree:
                os.environ.update(tree.environment)
                late_s = asyncio.run(_lateness(tree, rate))
            p50.append(round(statistics.median(late_s), 3))
            p99.append(round(statistics.quantiles(late_s, n=100)[98], 3))
        report[f"at_{rate}_per_s"] = {
            name: {"median": statistics.median(all_), "min": min(all_), "max": max(all_)}
            for name, all_ in (("p50_s", p50), ("p99_s", p99))
        }
    return report


async def _lateness(tree: Tree, rate: int) -> list[float]:
    await flows.deploy(tree.config, "sleeper", [{"sleep": {"wait": "${ .wait }"}}])
    async with await Client.connect(config=tree.config) as client:
        left = {fresh_id() for _ in range(TIMERS)}
        woken = asyncio.Event()

        async def noticed(subject: str, _data: bytes) -> None:
            left.discard(subject.rpartition(".")[2])
            if not left:
                woken.set()

        await client.port.subscribe_core("workflow.finished.*", noticed)
        await client.port.flush()
        began_s = time.monotonic()
        names = list(left)
        for first in range(0, TIMERS, 500):
            passed_s = time.monotonic() - began_s
            starts = [
                Start("sleeper", {"wait": _iso(LEAD_S + at / rate - passed_s)}, id=names[at])
                for at in range(first, min(first + 500, TIMERS))
            ]
            await client.start_many(starts)
        async with asyncio.timeout(LIMIT_S):
            await woken.wait()
        return await _read(client)


def _iso(seconds: float) -> str:
    assert seconds > 0, "the timers were due before they were all set: raise LEAD_S"
    return f"PT{seconds:.3f}S"


async def _read(client: Client) -> list[float]:
    """From history: what was due when, and when it had fired."""
    due_ms: dict[str, int] = {}
    late_s: list[float] = []
    after = 0
    while page := await client.port.scan(
        topology.WORKFLOW_HISTORY, "workflow.history.*", from_sequence=after + 1, limit=1000
    ):
        after = page[-1].sequence
        for message in page:
            body = orjson.loads(message.data)
            for entry in body["entries"]:
                if entry["type"] == "timer.set":
                    due_ms[message.subject] = entry["due_ms"]
                elif entry["type"] == "timer.fired":
                    late_s.append((body["now_ms"] - due_ms[message.subject]) / 1000)
    assert len(late_s) == TIMERS, f"{len(late_s)} timers of {TIMERS} have fired"
    return late_s
