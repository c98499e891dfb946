"""Storms one after the other, until one fails or the time is up."""

from __future__ import annotations

import argparse
import asyncio
import secrets
import sys
import tempfile
import time
import traceback
from pathlib import Path

from tests.faults import storm

EPISODE_S = 100.0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", help="repeat one episode: its seed, as it was printed")
    options = parser.parse_args()
    if options.seed is not None:
        return 0 if run(options.seed) else 1
    until = time.monotonic() + 60 * options.minutes
    total, number = storm.Report(), 0
    while time.monotonic() < until:
        kind = "external" if number % 2 else "embedded"
        number += 1
        report = run(f"{secrets.token_hex(4)}:{kind}")
        if report is None:
            return 1
        total.add(report)
    print(f"\n{number} storms: {total.text()}")
    return 0


def run(seed: str) -> storm.Report | None:
    """One episode; None when it failed. What is needed to look into that stays."""
    root = Path(tempfile.mkdtemp(prefix="wf-storm-"))
    external = seed.endswith(":external")
    try:
        report = asyncio.run(storm.episode(root, seed, EPISODE_S, external=external))
    except AssertionError as error:
        traceback.print_exc(file=sys.stdout)
        print(f"storm {seed} fails: {error}")
        print(f"the pool's files are in {root}")
        print(f"repeat it with: {sys.executable} -m tests.faults --seed {seed}", flush=True)
        return None
    print(f"storm {seed}: {report.text()}", flush=True)
    storm.clear(root)
    return report


if __name__ == "__main__":
    sys.exit(main())
