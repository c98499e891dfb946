"""CloudEvents: from emit to the listener, many listeners at once, and what waiting costs."""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from pathlib import Path
from typing import Any

from benchmarks import flows
from benchmarks.tree import Tree, running
from wf.client.client import Client
from wf.client.start import Start, fresh_id
from wf.jetstream import topology
from wf.jetstream.cloud_event_message import cloud_event_message

ONE_AT_A_TIME = 300
LISTENERS = int(os.environ.get("WF_BENCH_LISTENERS", "20000"))
BATCH = 500
IDLE_S = 5.0
QUIET_CPU_S = 0.03
LIMIT_S = 300.0

JsonObject = dict[str, Any]


def measure_events(runs: int) -> JsonObject:
    """Milliseconds from emit to the end of the one instance that waits for it; instances ended a
    second when each has an event of its own, and by one event for all; bytes of the orchestrator
    for each listener, and its CPU while all wait."""
    with running() as tree:
        os.environ.update(tree.environment)
        asyncio.run(_deploy(tree.config))
        taken = asyncio.run(_latency(tree.config))
        report: JsonObject = {
            "emit_to_end_p50_ms": round(statistics.median(taken), 2),
            "emit_to_end_p99_ms": round(statistics.quantiles(taken, n=100)[98], 2),
            "listeners": LISTENERS,
        }
        report.update(asyncio.run(_many(tree, "correlated")))
        report.update(asyncio.run(_many(tree, "broadcast")))
        return report


async def _deploy(config: Path) -> None:
    own: JsonObject = {
        "with": {"type": "bench.own"},
        "correlate": {"n": {"from": ".data.n", "expect": "${ $workflow.input.n }"}},
    }
    await flows.deploy(config, "own", [{"hear": {"listen": {"to": {"one": own}}}}])
    everyone = {"with": {"type": "bench.all"}}
    await flows.deploy(config, "everyone", [{"hear": {"listen": {"to": {"one": everyone}}}}])


class Ends:
    """Counts instances that end."""

    def __init__(self) -> None:
        self.left = 0
        self.none_left = asyncio.Event()

    def expect(self, count: int) -> None:
        self.left = count
        self.none_left.clear()

    async def noticed(self, _subject: str, _data: bytes) -> None:
        self.left -= 1
        if self.left <= 0:
            self.none_left.set()

    async def wait(self) -> None:
        async with asyncio.timeout(LIMIT_S):
            await self.none_left.wait()


async def _quiet(tree: Tree) -> None:
    """Until the orchestrator has nothing to do: all have begun to wait."""
    async with asyncio.timeout(LIMIT_S):
        before = -1.0
        while (now := tree.cpu_s()["orchestrator"]) - before > QUIET_CPU_S:
            before = now
            await asyncio.sleep(1.0)


async def _latency(config: Path) -> list[float]:
    async with await Client.connect(config=config) as client:
        ends = Ends()
        await client.port.subscribe_core("workflow.finished.*", ends.noticed)
        run = fresh_id()
        starts = [Start("own", {"n": f"{run}{n}"}) for n in range(ONE_AT_A_TIME)]
        await client.start_many(starts)
        await asyncio.sleep(2.0)
        taken: list[float] = []
        for n in range(ONE_AT_A_TIME):
            ends.expect(1)
            began_s = time.perf_counter()
            await client.emit("bench.own", {"n": f"{run}{n}"})
            await ends.wait()
            taken.append(1000 * (time.perf_counter() - began_s))
        return taken


async def _many(tree: Tree, kind: str) -> JsonObject:
    async with await Client.connect(config=tree.config) as client:
        ends = Ends()
        await client.port.subscribe_core("workflow.finished.*", ends.noticed)
        before = tree.pss_bytes()["orchestrator"]
        workflow = "own" if kind == "correlated" else "everyone"
        run = fresh_id()
        starts = [Start(workflow, {"n": f"{run}{n}"}) for n in range(LISTENERS)]
        await client.start_many(starts)
        await _quiet(tree)
        after = tree.pss_bytes()["orchestrator"]
        cpu_s = tree.cpu_s()["orchestrator"]
        await asyncio.sleep(IDLE_S)
        idle = (tree.cpu_s()["orchestrator"] - cpu_s) / IDLE_S
        ends.expect(LISTENERS)
        began_s = time.perf_counter()
        if kind == "correlated":
            for start in range(0, LISTENERS, BATCH):
                events = [
                    cloud_event_message(_event(f"{run}{n}"), f"{run}{n}")
                    for n in range(start, min(start + BATCH, LISTENERS))
                ]
                await client.port.publish_batch(topology.CLOUD_EVENTS, events)
        else:
            await client.emit("bench.all", "go")
        await ends.wait()
        rate = LISTENERS / (time.perf_counter() - began_s)
        return {
            f"{kind}_per_s": round(rate),
            f"{kind}_bytes_per_listener": round((after - before) / LISTENERS),
            f"{kind}_idle_cpu": round(idle, 4),
        }


def _event(n: str) -> JsonObject:
    return {
        "specversion": "1.0",
        "id": n,
        "source": "/bench",
        "type": "bench.own",
        "data": {"n": n},
    }
