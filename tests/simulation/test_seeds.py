"""Two thousand worlds, each with its own bad luck; and that a seed can be repeated."""

from __future__ import annotations

import os
from collections import Counter

import pytest

from tests.simulation import world

SEEDS = int(os.environ.get("WF_SIMULATION_SEEDS", "2000"))
TOGETHER = 25


@pytest.mark.parametrize("first", range(1, SEEDS + 1, TOGETHER))
def test_nothing_is_lost_doubled_or_stuck(first: int) -> None:
    for seed in range(first, min(first + TOGETHER, SEEDS + 1)):
        report = world.run(seed)
        assert not report.problems, (
            f"seed {seed}: {report.problems[:3]}; see what happened with "
            f".venv/bin/python -m tests.simulation --seed {seed}"
        )


@pytest.mark.parametrize("seed", [1, 7, 43])
def test_a_seed_takes_the_same_steps_each_time(seed: int) -> None:
    first, second = (world.run(seed, traced=True) for _ in range(2))
    assert first.trace
    assert first.trace == second.trace
    assert first.steps == second.steps


def test_the_worlds_are_unkind_enough() -> None:
    """What the engine is built to withstand does happen, in the first hundred worlds alone."""
    reports = [world.run(seed) for seed in range(1, 101)]
    counts = sum((report.counts for report in reports), Counter())
    assert sum(report.lives for report in reports) > 400
    assert sum(report.commits for report in reports) > 1000
    for what in ("conflicts", "flushed", "stale", "ignored.late", "ignored.exists"):
        assert counts[what] > 5, f"{what}: {counts}"
