"""The broker is cut off for a while, in every way that a network knows: all goes on afterwards."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.faults.proxy import Cable, cable_to
from tests.support.orders import (
    CONFIG,
    TASKS_EACH,
    Field,
    Hit,
    balanced_round,
    make_field,
    now_ms,
)
from tests.support.server import RealServer

ORDERS = 200
AWAY_S = 4.0  # longer than ack_wait

Fault = Callable[[Cable], str]


def cut(cable: Cable) -> str:
    cable.cut()
    time.sleep(AWAY_S)  # this is the fault itself
    cable.mend()
    return f"cut off for {AWAY_S} s"


def held(cable: Cable) -> str:
    cable.hold()
    time.sleep(AWAY_S)  # this is the fault itself
    cable.mend()
    return f"held up for {AWAY_S} s"


def torn(cable: Cable) -> str:
    for _ in range(5):
        cable.tear()
        time.sleep(0.2)  # in the middle of what each does after the one before
    return "reset five times"


def forgotten(cable: Cable) -> str:
    cable.forget()
    return "half open"


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[tuple[Field, Cable]]:
    with ExitStack() as stack:
        server = RealServer(tmp_path / "nats")
        stack.callback(server.stop)
        server.start()
        cable = stack.enter_context(cable_to(server.port))
        config = CONFIG.replace("embedded = true", f'embedded = false\nservers = ["{cable.url}"]')
        field = make_field(tmp_path, config)
        stack.callback(field.pool.clean_up)
        field.pool.start()
        yield field, cable
        assert field.pool.stop() == 0


@pytest.mark.timeout(110)
@pytest.mark.parametrize("fault", [cut, held, torn, forgotten])
async def test_orders_survive_the_network(
    ground: tuple[Field, Cable], fault: Fault, seed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    field, cable = ground
    label = f"cable-{fault.__name__}"
    chance = random.Random(f"{seed}:{label}")

    def disturb(before: int) -> list[Hit]:
        field.await_executions(before + chance.randrange(ORDERS * TASKS_EACH // 4))
        at_ms = now_ms()
        return [Hit("cable", at_ms, fault(cable))]

    report = await balanced_round(field, label, ORDERS, seed, disturb)
    with capsys.disabled():
        print(report)
