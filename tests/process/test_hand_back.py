"""However a worker ends, what it held and had not begun runs at once in its successor."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mortal_pool import MortalPool

from supervisor.control.socket import ask

SOON_S = 1.0
WAITING = ["second", "third", "fourth", "fifth"]

# Redelivery would take a minute. Five tasks to a worker, for the one that is recycled for them.
ONE_PLACE = 'processes = 1\nconcurrency = 1\nprefetch = 4\nack_wait = "60s"\nmax_tasks = 5\n'


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[MortalPool]:
    made = MortalPool(tmp_path, ONE_PLACE)
    try:
        made.pool.start()
        yield made
        assert made.pool.stop() == 0
    finally:
        made.clean_up()


def worker(mortal: MortalPool) -> dict[str, Any]:
    found = mortal.pool.until(lambda: mortal.pool.processes("worker", "work"), "a worker is ready")
    return dict(found[0])


def terminated(mortal: MortalPool) -> None:
    os.kill(worker(mortal)["pid"], signal.SIGTERM)


def killed(mortal: MortalPool) -> None:
    os.kill(worker(mortal)["pid"], signal.SIGKILL)


def restarted(mortal: MortalPool) -> None:
    ask(mortal.root / "state", {"command": "restart", "name": "work"})


def recycled(mortal: MortalPool) -> None:
    mortal.let("release-first")  # the fifth task of five


def stopped_and_started(mortal: MortalPool) -> None:
    assert mortal.pool.stop() == 0
    mortal.pool.start()


@pytest.mark.parametrize("end", [terminated, killed, restarted, recycled, stopped_and_started])
def test_what_was_handed_back_runs_within_a_second(
    mortal: MortalPool, end: Callable[[MortalPool], None]
) -> None:
    for n in range(4):  # something to sweep
        mortal.client.wait(mortal.start(f"done-{n}", "returns"), timeout_s=10)
    mortal.start("first", "waits")
    pid = mortal.until_started("first").pid
    for name in WAITING:
        mortal.start(name, "waits")
    mortal.until(lambda: worker(mortal)["held"] >= 4, "most of them are held")
    end(mortal)
    mortal.until(
        lambda: any(one["pid"] != pid for one in mortal.pool.processes("worker", "work")),
        "a successor is ready",
    )
    for name in ("first", *WAITING):
        mortal.let(f"release-{name}")
    mortal.pool.until(
        lambda: {one.name for one in mortal.notes("end")} >= {"first", *WAITING},
        "everything that was held has run",
        SOON_S,
    )
