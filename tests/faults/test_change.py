"""Changing a pool while it works loses nothing and does nothing twice.

5,000 tasks go through a pool that is reloaded, scaled and robbed of workers fifty times. Every
order ends well, the books balance, and what ran twice had begun in a worker that was killed.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from supervisor.control.socket import ask
from tests.support.executions import Execution
from tests.support.ledger import balance, read_books
from tests.support.orders import (
    CONFIG as ORDERS_CONFIG,
)
from tests.support.orders import (
    TASKS_EACH,
    Field,
    all_ended,
    every_task_ran,
    make_field,
    order,
)
from tests.support.pool import runs
from wf.client.blocking import BlockingClient
from wf.jetstream import topology

CHANGES = 50
ORDERS_EACH = 25
# The workers die by our hand: no task is to be convicted of it, however often it was there.
CONFIG = ORDERS_CONFIG.replace("[workers]\n", f"[workers]\ncrash_limit = {CHANGES}\n")
POOLS = ("reserve_stock", "charge_card", "ship_order", "mail")


@pytest.fixture
def field(tmp_path: Path) -> Iterator[Field]:
    made = make_field(tmp_path, CONFIG)
    try:
        made.pool.start()
        yield made
        assert made.pool.stop() == 0
    finally:
        made.pool.clean_up()


class Changes:
    """What is done to the pool, and to whom."""

    def __init__(self, field: Field, chance: random.Random) -> None:
        self._field = field
        self._chance = chance
        self.killed: set[int] = set()
        self.reloads = 0

    def kill(self) -> None:
        """A worker in the middle of a task."""

        def busy() -> list[int]:
            workers = self._field.pool.processes("worker")
            return sorted(one["pid"] for one in workers if one["running"] and runs(one["pid"]))

        pid = self._chance.choice(self._field.pool.until(busy, "a worker that runs a task"))
        os.kill(pid, signal.SIGKILL)
        self.killed.add(pid)

    def scale(self) -> None:
        request = {
            "command": "scale",
            "pool": self._chance.choice(POOLS),
            "processes": self._chance.randint(1, 3),
        }
        assert "done" in ask(self._field.pool.root / "state", request)

    def reload(self) -> None:
        """New code, or new settings: the workers concerned are replaced one by one."""
        self.reloads += 1
        root = self._field.pool.root
        if self._chance.random() < 0.5:
            module = root / "activities" / self._chance.choice(["orders.py", "mail.py"])
            replace(module, module.read_text() + f"\n# change {self.reloads}\n")
        else:
            concurrency = f"concurrency = {self._chance.randint(5, 20)}\n"
            replace(root / "pool.toml", CONFIG + concurrency)
        begun = self._applied()
        os.kill(self._field.pool.pid, signal.SIGHUP)
        self._field.pool.until(lambda: self._applied() > begun, "the reload is applied")

    def _applied(self) -> int:
        return self._field.pool.log.read_text().count("reload.applied")


def replace(path: Path, text: str) -> None:
    draft = path.with_name(f".{path.name}.draft")
    draft.write_text(text)
    draft.replace(path)


@pytest.mark.timeout(115)
async def test_five_thousand_tasks_go_through_fifty_changes_of_the_pool(
    field: Field, seed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    chance = random.Random(f"{seed}:changes")
    changes = Changes(field, chance)
    kinds: list[Callable[[], None]] = [changes.kill, changes.scale, changes.reload]
    begun = time.monotonic()
    accepted: list[str] = []
    with BlockingClient(field.pool.config) as client:
        for number in range(CHANGES):
            batch = [order(f"change-{number}", n) for n in range(ORDERS_EACH)]
            client.start_many(batch)
            accepted += [start.id for start in batch]
            field.await_executions(number * ORDERS_EACH * TASKS_EACH * 9 // 10)
            kinds[number % len(kinds)]()
    js = await field.connect()
    try:
        await all_ended(js, field, accepted)
        took_s = time.monotonic() - begun
        books = await read_books(js, accepted)
        given_up = await js.scan(topology.DEAD_LETTERS, ">", from_sequence=1, limit=10)
        assert [one.data for one in given_up] == []
    finally:
        await js.close()
    balance(books, accepted, field.definition)
    done = field.executions()
    every_task_ran(done, accepted)
    again = ran_again(done)
    strange = [one for one in again if one.pid not in changes.killed]
    assert changes.killed, "nobody was killed"
    assert not strange, f"ran twice, though nobody killed their worker: {strange}"
    with capsys.disabled():
        print(
            f"\nchanges (WF_FAULTS_SEED={seed}): {len(accepted)} orders in {took_s:.1f} s,"
            f" {changes.reloads} reloads, {len(changes.killed)} kills,"
            f" {len(done)} executions, {len(again)} of them in vain"
        )


def ran_again(done: list[Execution]) -> list[Execution]:
    """Every execution that another of the same run followed, but for what an activity refused."""
    runs: dict[str, list[Execution]] = defaultdict(list)
    for one in done:
        runs[one.key].append(one)
    return [one for same in runs.values() for one in same[:-1] if not was_busy(one)]


def was_busy(one: Execution) -> bool:
    """activities/orders.py lets the carrier refuse the first attempt of some orders."""
    number = int(one.instance.rpartition("-")[2])
    return one.activity == "ship_order" and one.attempt == 1 and (5000 + number) % 10 == 3
