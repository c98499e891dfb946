"""Load for a running pool: start many, wait for all; start one at a time."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from wf.client.client import Client
from wf.client.start import Start, fresh_id

FINISHED = "workflow.finished.*"


async def throughput(config: Path, workflow: str, count: int) -> float:
    """Seconds from the first start to the last end of `count` instances."""
    async with await Client.connect(config=config) as client:
        open_ids = {fresh_id() for _ in range(count)}
        starts = [Start(workflow, {"n": 0}, id=one) for one in open_ids]
        finished = asyncio.Event()

        async def noticed(subject: str, _data: bytes) -> None:
            open_ids.discard(subject.rpartition(".")[2])
            if not open_ids:
                finished.set()

        await client.port.subscribe_core(FINISHED, noticed)
        await client.port.flush()
        began_s = time.perf_counter()
        await client.start_many(starts)
        async with asyncio.timeout(300):
            await finished.wait()
        return time.perf_counter() - began_s


async def latency(config: Path, workflow: str, count: int) -> list[float]:
    """Seconds from start to end of each of `count` instances, one after the other."""
    async with await Client.connect(config=config) as client:
        taken: list[float] = []
        ended: dict[str, asyncio.Event] = {}

        async def noticed(subject: str, _data: bytes) -> None:
            event = ended.get(subject.rpartition(".")[2])
            if event is not None:
                event.set()

        await client.port.subscribe_core(FINISHED, noticed)
        await client.port.flush()
        for _ in range(count):
            one = fresh_id()
            ended[one] = asyncio.Event()
            began_s = time.perf_counter()
            await client.start(workflow, {"n": 0}, id=one)
            async with asyncio.timeout(30):
                await ended[one].wait()
            taken.append(time.perf_counter() - began_s)
        return taken
