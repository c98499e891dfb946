"""Faults that come together, or one into the recovery from another."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress

import pytest

from tests.support.orders import TASKS_EACH, Field, Hit, balanced_round, kill, now_ms, pick

ORDERS = 200
STOPPED_S = 2.5  # ack_wait is 1 s


def two_at_once(field: Field, chance: random.Random) -> list[Hit]:
    """Both are found first, so that nothing happens between the two signals."""
    kinds = chance.sample(["worker", "orchestrator", "broker"], 2)
    pids = [pick(field, kind, chance) for kind in kinds]
    at_ms = now_ms()
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    return [Hit(" and ".join(kinds), at_ms)]


def all_at_once(field: Field, chance: random.Random) -> list[Hit]:
    """Every process below the supervisor."""
    status = field.pool.status()
    at_ms = now_ms()
    for one in status["processes"]:
        if one["pid"]:
            os.kill(one["pid"], signal.SIGKILL)
    return [Hit("everything", at_ms)]


def broker_twice(field: Field, chance: random.Random) -> list[Hit]:
    """The second time as soon as it is back, while the others still recover."""
    return [kill(field, "broker", chance), kill(field, "broker", chance)]


def again_and_again(kind: str) -> Callable[[Field, random.Random], list[Hit]]:
    """Each successor as soon as it is ready: what it recovers must survive that as well."""

    def disturb(field: Field, chance: random.Random) -> list[Hit]:
        return [kill(field, kind, chance) for _ in range(6)]

    return disturb


def engine_then_supervisor(field: Field, chance: random.Random) -> list[Hit]:
    return [kill(field, kind, chance) for kind in ("orchestrator", "supervisor", "supervisor")]


def stopped(kind: str) -> Callable[[Field, random.Random], list[Hit]]:
    """SIGSTOP for longer than ack_wait: its tasks go to others, and it wakes up with old ones."""

    def disturb(field: Field, chance: random.Random) -> list[Hit]:
        pidfd = os.pidfd_open(pick(field, kind, chance))
        at_ms = now_ms()
        try:
            signal.pidfd_send_signal(pidfd, signal.SIGSTOP)
            time.sleep(STOPPED_S)  # this is the fault itself
        finally:
            with suppress(ProcessLookupError):  # a hang that was seen, and ended
                signal.pidfd_send_signal(pidfd, signal.SIGCONT)
            os.close(pidfd)
        return [Hit(kind, at_ms, f"stopped for {STOPPED_S} s")]

    return disturb


@pytest.mark.timeout(110)
@pytest.mark.parametrize(
    "attack",
    [
        pytest.param(two_at_once, id="two-at-once"),
        pytest.param(all_at_once, id="all-at-once"),
        pytest.param(broker_twice, id="broker-twice"),
        pytest.param(again_and_again("orchestrator"), id="orchestrator-again-and-again"),
        pytest.param(again_and_again("worker"), id="worker-again-and-again"),
        pytest.param(engine_then_supervisor, id="engine-then-supervisor-twice"),
        pytest.param(stopped("worker"), id="worker-stopped"),
        pytest.param(stopped("orchestrator"), id="orchestrator-stopped"),
        pytest.param(stopped("broker"), id="broker-stopped"),
    ],
)
async def test_orders_survive(
    field: Field,
    seed: str,
    attack: Callable[[Field, random.Random], list[Hit]],
    request: pytest.FixtureRequest,
    capsys: pytest.CaptureFixture[str],
) -> None:
    label = request.node.callspec.id
    chance = random.Random(f"{seed}:{label}")

    def disturb(before: int) -> list[Hit]:
        field.await_executions(before + chance.randrange(ORDERS * TASKS_EACH // 2))
        return attack(field, chance)

    report = await balanced_round(field, label, ORDERS, seed, disturb)
    with capsys.disabled():
        print(report)
