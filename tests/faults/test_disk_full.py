"""The disk of the broker or of the supervisor is full for a while: all goes on when it is freed."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.faults.disk import CannotMount, Disk, small_disk
from tests.support.orders import (
    CONFIG,
    TASKS_EACH,
    Field,
    Hit,
    balanced_round,
    make_field,
    now_ms,
)

ORDERS = 200
FULL_S = 5.0
SIZE_MB = 160  # the broker wants 64 MB free when it starts
CONFIG_FULL = CONFIG.replace("embedded = true", 'embedded = true\nstore_dir = "store"')


@pytest.fixture(params=["store", "state"])
def ground(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Field, Disk, str]]:
    with ExitStack() as stack:
        try:
            disk = stack.enter_context(small_disk(tmp_path / request.param, SIZE_MB))
        except CannotMount as error:
            pytest.skip(str(error))
        made = make_field(tmp_path, CONFIG_FULL)
        stack.callback(made.pool.clean_up)
        made.pool.start()
        yield made, disk, request.param
        assert made.pool.stop() == 0


@pytest.mark.timeout(110)
async def test_orders_go_on_when_a_full_disk_is_freed(
    ground: tuple[Field, Disk, str], seed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    field, disk, which = ground
    chance = random.Random(f"{seed}:full:{which}")

    def disturb(before: int) -> list[Hit]:
        field.await_executions(before + chance.randrange(ORDERS * TASKS_EACH // 4))
        at_ms = now_ms()
        disk.fill()
        time.sleep(FULL_S)  # this is the fault itself
        disk.free()
        return [Hit(which, at_ms, f"disk full for {FULL_S} s")]

    report = await balanced_round(field, f"full-{which}", ORDERS, seed, disturb)
    with capsys.disabled():
        print(report)
