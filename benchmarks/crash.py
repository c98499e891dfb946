"""Worker deaths: how long until the task runs again, and what it costs to be ready for that."""

from __future__ import annotations

import asyncio
import os
import signal
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.tree import Tree, running
from wf.client.client import Client
from wf.client.start import fresh_id
from wf.process import status_page

POOL = Path(__file__).resolve().parent / "crash_pool" / "pool.toml"
KILLS = 50
SLOT_ROUNDS = 100_000
LIMIT_S = 60.0


def measure_crash(runs: int) -> dict[str, Any]:
    """From the kill until the task's second attempt begins, in ms: p50 and p99 of 50 kills.

    The instances are killed one after the other; ack_wait is the default of 30 s.
    """
    with running(POOL) as tree, tempfile.TemporaryDirectory() as marks:
        taken = asyncio.run(_kills(tree, Path(marks)))
    return {
        "kills": len(taken),
        "p50_ms": round(statistics.median(taken), 1),
        "p99_ms": round(statistics.quantiles(taken, n=100, method="inclusive")[98], 1),
        "max_ms": round(max(taken), 1),
    }


def measure_slot(runs: int) -> dict[str, Any]:
    """Writing a task's start, end and storing into the worker's slot: CPU microseconds of all."""
    slot = status_page.open_writer(None, 100, 0, time.monotonic())
    reply = "$JS.ACK.ACTIVITY_TASKS.activity-charge_card.1.12345.12345.1732500000000000000.17"
    taken = []
    for _ in range(runs):
        began_s = time.process_time()
        for sequence in range(1, SLOT_ROUNDS + 1):
            place = slot.started(sequence, reply, 1.0, 2.0)
            slot.ended(place)
            slot.stored(place, failed=False)
        taken.append((time.process_time() - began_s) / SLOT_ROUNDS * 1e6)
    return {"task_us": {"median": round(statistics.median(taken), 2), "min": round(min(taken), 2)}}


async def _kills(tree: Tree, marks: Path) -> list[float]:
    os.environ.update(tree.environment)
    taken: list[float] = []
    async with await Client.connect(config=tree.config) as client:
        for _ in range(KILLS):
            name = fresh_id()
            await client.start("hold", {"marks": str(marks)}, id=name)
            pid, _ = await _mark(marks / f"{name}.1")
            killed_s = time.monotonic()
            os.kill(int(pid), signal.SIGKILL)
            _, again_s = await _mark(marks / f"{name}.2")
            taken.append(1000 * (again_s - killed_s))
            await client.wait(name, timeout_s=LIMIT_S)
    return taken


async def _mark(path: Path) -> tuple[int, float]:
    """What the activity noted: pid and monotonic time."""
    give_up = time.monotonic() + LIMIT_S
    while time.monotonic() < give_up:
        if path.exists():
            pid, at_s = path.read_text().split()
            return int(pid), float(at_s)
        await asyncio.sleep(0.002)
    raise TimeoutError(f"{path} was not written")
