"""The largest messages at full load: what the broker and the orchestrator take, and who dies."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from benchmarks import flows
from benchmarks.events import Ends
from benchmarks.tree import Tree, running
from wf.client.client import Client

STARTS = int(os.environ.get("WF_BENCH_STARTS", "300"))
START_BYTES = 3_000_000
LISTENERS = int(os.environ.get("WF_BENCH_HEARERS", "700"))
EVENT_BYTES = 7_000_000
SENDERS = 8
SAMPLE_S = 0.05
LIMIT_S = 600.0
WATCHED = ("broker", "orchestrator")

JsonObject = dict[str, Any]


def measure_size(runs: int) -> JsonObject:
    """300 starts of 3 MB each, as text and as a million empty lists, and one event of 7 MB for 700
    listeners: seconds until all have ended, the largest resident set of the broker and of the
    orchestrator in MB, and how often they died. Once, however many runs are asked for."""
    report: JsonObject = {}
    with running() as tree:
        os.environ.update(tree.environment)
        asyncio.run(_deploy(tree.config))
        text = {"x": "x" * START_BYTES}
        report["text_starts"] = _measured(tree, lambda: _starts(tree.config, text, STARTS))
        lists: JsonObject = {"x": [[] for _ in range(START_BYTES // 3)]}
        report["list_starts"] = _measured(tree, lambda: _starts(tree.config, lists, STARTS // 10))
        report["event"] = _measured(tree, lambda: _event(tree.config))
    return report


async def _deploy(config: Path) -> None:
    await flows.deploy(config, "large", [{"size": {"set": {"size": "${ .x | length }"}}}])
    everyone = {"one": {"with": {"type": "bench.large"}}}
    listen = {"listen": {"to": everyone}, "output": {"as": "${ length }"}}
    await flows.deploy(config, "hearer", [{"hear": listen}])


def _measured(tree: Tree, work: Any) -> JsonObject:
    with _peaks(tree) as peaks:
        began_s = time.perf_counter()
        asyncio.run(work())
        taken_s = time.perf_counter() - began_s
    restarts = {one["name"]: one["restarts"] for one in tree.processes() if one["name"] in WATCHED}
    peak_mb = {name: round(size / 1e6) for name, size in peaks.items()}
    return {"s": round(taken_s, 1), "peak_rss_mb": peak_mb, "restarts": restarts}


@contextlib.contextmanager
def _peaks(tree: Tree) -> Iterator[dict[str, int]]:
    """The largest resident set of each watched process while the block runs."""
    pids = {one["name"]: one["pid"] for one in tree.processes() if one["name"] in WATCHED}
    processes = {name: psutil.Process(pid) for name, pid in pids.items()}
    peaks = dict.fromkeys(processes, 0)
    stop = threading.Event()

    def sample() -> None:
        while not stop.wait(SAMPLE_S):
            for name, process in processes.items():
                with contextlib.suppress(psutil.NoSuchProcess):  # the restarts tell of it
                    peaks[name] = max(peaks[name], process.memory_info().rss)

    sampler = threading.Thread(target=sample)
    sampler.start()
    try:
        yield peaks
    finally:
        stop.set()
        sampler.join()


async def _starts(config: Path, given: JsonObject, count: int) -> None:
    async with await Client.connect(config=config) as client:
        ends = Ends()
        await client.port.subscribe_core("workflow.finished.*", ends.noticed)
        ends.expect(count)
        left = iter(range(count))

        async def send() -> None:
            for _ in left:
                await client.start("large", given)

        async with asyncio.timeout(LIMIT_S):
            await asyncio.gather(*(send() for _ in range(SENDERS)))
            await ends.wait()


async def _event(config: Path) -> None:
    async with await Client.connect(config=config) as client:
        ends = Ends()
        await client.port.subscribe_core("workflow.finished.*", ends.noticed)
        ends.expect(LISTENERS)
        for _ in range(LISTENERS):
            await client.start("hearer", {})
        await client.emit("bench.large", {"x": "x" * EVENT_BYTES})
        async with asyncio.timeout(LIMIT_S):
            await ends.wait()
