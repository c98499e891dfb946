"""Groups of many cold instances are read from whichever replica answers; it may be behind."""

from __future__ import annotations

from dataclasses import replace
from unittest.mock import patch

from orchestrator.state import snapshot_store
from tests.simulation import plan, world


def test_a_result_is_not_dropped_on_the_word_of_a_replica_that_is_behind() -> None:
    draw = plan.draw
    with (
        patch.object(snapshot_store, "LEADER_READS", 0),
        patch.object(
            world, "draw", lambda random: replace(draw(random), orchestrators=2, stale_s=2.0)
        ),
    ):
        for seed in range(1, 41):
            report = world.run(seed)
            assert not report.problems, f"seed {seed}: {report.problems[:3]}"
