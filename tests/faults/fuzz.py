"""`python -m tests.faults.fuzz --messages N`: so many messages that nobody should send.

They go to an engine on a broker in memory, with good instances beside them. Each thousand has a
seed of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from pathlib import Path
from random import Random

from loguru import logger

from tests.support.fuzzed import Fuzzed

EACH = 1000


async def one(seed: int, count: int) -> None:
    """Raises what ended the engine, AssertionError or TimeoutError for work that was not done."""
    with tempfile.TemporaryDirectory(prefix="wf-fuzz-") as name:
        fuzzed = await Fuzzed.begin(Path(name))
        await fuzzed.feed(Random(seed), count)
        await fuzzed.settled()
        await fuzzed.look()
        await fuzzed.end()


def main() -> None:
    """The first seed that fails is named; it fails again with `--seed`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    logger.remove()
    begun = time.monotonic()
    seeds = range(given.seed, given.seed + max(1, given.messages // EACH))
    for seed in seeds:
        print(f"seed {seed}, {time.monotonic() - begun:.0f} s", flush=True)
        asyncio.run(one(seed, min(EACH, given.messages)))
    print(f"{given.messages} messages in {time.monotonic() - begun:.0f} s: the engine lives")


if __name__ == "__main__":
    main()
