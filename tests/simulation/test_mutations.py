"""The simulation sees what it is for: the engine, broken on purpose, does not get through."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from unittest.mock import patch

import pytest

from tests.simulation import plan, world
from tests.simulation.mutations import MUTATIONS

SEEDS = 80  # within so many worlds a mistake must show


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_broken_engine_is_caught(name: str) -> None:
    mutation = MUTATIONS[name]
    draw = plan.draw

    def drawn(random: Random) -> plan.Plan:
        return replace(draw(random), **mutation.plan)

    with patch.object(world, "draw", drawn), mutation.break_it():
        caught = next((seed for seed in range(1, SEEDS + 1) if world.run(seed).problems), None)
    assert caught is not None, f"{name}: not noticed in {SEEDS} worlds"
