"""SIGKILL of every kind of process while orders run: nothing is lost, nothing counts twice.

Ten rounds of 500 orders on one tree. In each a worker, the orchestrator, the broker and the
supervisor are killed, in an order and at moments that the seed decides. Then the books must
balance.
"""

from __future__ import annotations

import random

import pytest

from tests.support.orders import TASKS_EACH, Field, Hit, balanced_round, kill

ROUNDS = 10
ORDERS = 500
KINDS = ["worker", "orchestrator", "monitor", "broker", "supervisor"]


@pytest.mark.timeout(110)
@pytest.mark.parametrize("number", range(ROUNDS))
async def test_orders_survive_the_death_of_every_kind_of_process(
    field: Field, seed: str, number: int, capsys: pytest.CaptureFixture[str]
) -> None:
    chance = random.Random(f"{seed}:{number}")

    def disturb(before: int) -> list[Hit]:
        kinds = chance.sample(KINDS, len(KINDS))
        moments = sorted(chance.randrange(ORDERS * TASKS_EACH * 8 // 10) for _ in kinds)
        hits = []
        for kind, moment in zip(kinds, moments, strict=True):
            field.await_executions(before + moment)
            hits.append(kill(field, kind, chance))
        return hits

    report = await balanced_round(field, f"round-{number}", ORDERS, seed, disturb)
    with capsys.disabled():
        print(report)
