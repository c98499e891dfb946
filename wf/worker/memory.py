"""How much memory a worker has of its own, and who is to go first when the host runs out of it."""

from __future__ import annotations

from pathlib import Path

import psutil
from loguru import logger

OOM_SCORE = 500  # of -1000 to 1000: workers before the engine, whose work can be done again


def private_bytes() -> int:
    """What would be free again without this process; pages shared with the supervisor count not.

    Walks the page tables, about 10 ms a gigabyte: not for the event loop.
    """
    try:
        lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    except OSError:  # an old kernel, or /proc is hidden
        return int(psutil.Process().memory_info().rss)
    return private_of(lines)


def private_of(lines: list[str]) -> int:
    """The sum of `Private_…` and `Swap` in smaps_rollup, in bytes."""
    kib = 0
    for line in lines:
        name, _, value = line.partition(":")
        if name in ("Private_Clean", "Private_Dirty", "Swap"):
            kib += int(value.split()[0])
    return kib * 1024


def offer_to_the_memory_killer() -> None:
    """Let the kernel take this process before the engine's."""
    path = Path("/proc/self/oom_score_adj")
    try:
        if int(path.read_text()) < OOM_SCORE:
            path.write_text(str(OOM_SCORE))
    except (OSError, ValueError) as error:
        logger.bind(error=str(error)).debug("worker.oom_score.unchanged")
