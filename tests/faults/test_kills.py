"""SIGKILL of every kind of process while orders run: nothing is lost, nothing counts twice.

Ten rounds of 500 orders on one tree. In each a worker, the orchestrator, the broker and the
supervisor are killed, in an order and at moments that the seed decides. Then the books must
balance.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.faults.conftest import Field
from tests.support import executions
from tests.support.executions import Execution
from tests.support.ledger import Books, balance, read_books
from wf import subjects
from wf.blocking import BlockingClient
from wf.errors import BrokerError
from wf.jetstream import client, topology
from wf.jetstream.client import JetStream
from wf.jetstream.connection import from_settings
from wf.starting import Start

ROUNDS = 10
ORDERS = 500
TASKS = 4 * ORDERS  # each order reserves, charges, ships and mails
ENDED_LIMIT_S = 60.0
KINDS = ["worker", "orchestrator", "broker", "supervisor"]


@dataclass(slots=True, frozen=True)
class Kill:
    """What was killed, and when."""

    kind: str
    at_ms: int
    pid: int
    pool: str = ""
    gone_s: float = 0.0  # how long the last child of a killed supervisor lived on
    up_s: float = 0.0  # until all places were filled again after that


class Feeder(threading.Thread):
    """Starts orders in small groups, and insists until each one is accepted."""

    def __init__(self, config: Path, starts: list[Start], chance: random.Random) -> None:
        super().__init__(name="feeder", daemon=True)
        self._config = config
        self._starts = starts
        self._chance = chance
        self.accepted: list[str] = []
        self.refused = 0  # calls that raised BrokerError
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            with BlockingClient(self._config) as client:
                self._feed(client)
        except BaseException as error:  # noqa: BLE001 - for the test to raise
            self.error = error

    def _feed(self, client: BlockingClient) -> None:
        left = list(self._starts)
        while left:
            chunk = left[: self._chance.randint(1, 40)]
            try:
                client.start_many(chunk)
            except BrokerError:
                self.refused += 1
                continue
            self.accepted += [start.id for start in chunk]
            del left[: len(chunk)]


@pytest.mark.timeout(110)
@pytest.mark.parametrize("number", range(ROUNDS))
async def test_orders_survive_the_death_of_every_kind_of_process(
    field: Field, seed: str, number: int, capsys: pytest.CaptureFixture[str]
) -> None:
    chance = random.Random(f"{seed}:{number}")
    begun = time.monotonic()
    before = len(field.executions())
    after = await history_end(field)
    kinds = chance.sample(KINDS, len(KINDS))
    moments = sorted(chance.randrange(TASKS * 8 // 10) for _ in kinds)
    starts = [start(number, n) for n in range(ORDERS)]
    feeder = Feeder(field.pool.config, starts, random.Random(f"{seed}:{number}:feed"))
    feeder.start()
    kills = []
    for kind, moment in zip(kinds, moments, strict=True):
        await_executions(field, before + moment)
        kills.append(kill(field, kind, chance))
    feeder.join(60)
    assert not feeder.is_alive(), "not all starts were accepted"
    assert feeder.error is None, feeder.error
    accepted = feeder.accepted
    js = await connect(field)
    try:
        await all_ended(js, field, accepted, f"seed {seed}, round {number}")
        books = await read_books(js, accepted, after)
        dead = await js.last_sequence(topology.DEAD_LETTERS)
    finally:
        await js.close()
    done = field.executions()[before:]
    with capsys.disabled():
        print(report(seed, number, kills, books, done, time.monotonic() - begun))
    balance(books, accepted, field.definition)
    every_task_ran(done, accepted)
    assert dead == 0


def start(number: int, n: int) -> Start:
    order = {"order_id": 5000 + n, "items": [{"sku": "A1", "qty": 2}], "card": "4242"}
    return Start("order", order, id=f"r{number}-{n}")


async def connect(field: Field) -> JetStream:
    connection = from_settings(field.pool.settings, "orchestrator")
    return await client.connect(connection, role="orchestrator", name="ledger")


async def history_end(field: Field) -> int:
    js = await connect(field)
    try:
        return await js.last_sequence(topology.WORKFLOW_HISTORY)
    finally:
        await js.close()


def await_executions(field: Field, count: int) -> None:
    field.pool.until(
        lambda: len(field.executions()) >= count, f"{count} executions", limit_s=ENDED_LIMIT_S
    )


# Kill


def kill(field: Field, kind: str, chance: random.Random) -> Kill:
    """One process of this kind; the supervisor is started again by us, the others by it."""
    if kind == "supervisor":
        return kill_supervisor(field, chance)
    candidates = field.pool.until(lambda: field.pool.processes(kind), f"a {kind} that is ready")
    victim = chance.choice(sorted(candidates, key=lambda one: one["name"]))
    made = Kill(kind, now_ms(), victim["pid"], victim["pool"])
    os.kill(victim["pid"], signal.SIGKILL)
    return made


def kill_supervisor(field: Field, chance: random.Random) -> Kill:
    """Half of the time its successor comes at once, and meets the orphans."""
    at_ms, pid = now_ms(), field.pool.pid
    orphans = field.pool.kill9()
    gone_s = orphans.gone_s() if chance.random() < 0.5 else 0.0
    up_s = field.pool.start()
    return Kill("supervisor", at_ms, pid, gone_s=gone_s or orphans.gone_s(), up_s=up_s)


def now_ms() -> int:
    return time.time_ns() // 1_000_000


# Judge


async def all_ended(js: JetStream, field: Field, accepted: list[str], where: str) -> None:
    """Until every instance has ended; else says which did not and what they wait for."""
    limit = time.monotonic() + ENDED_LIMIT_S
    left = accepted
    while left:
        stored = await js.last_many(topology.WORKFLOW_STATES, [subjects.state(n) for n in left])
        left = [name for name in left if not ended(stored.get(subjects.state(name)))]
        if left and time.monotonic() > limit:
            some = [stored.get(subjects.state(name)) for name in left[:3]]
            pytest.fail(
                f"{where}: {len(left)} have not ended: {left[:20]}\n{some}\n{field.pool.tail()}"
            )


def ended(stored: Any) -> bool:
    return stored is not None and b'"status":"completed"' in stored.data


def every_task_ran(done: list[Execution], accepted: list[str]) -> None:
    ran = {(one.instance, one.activity) for one in done}
    for activity in ("reserve_stock", "charge_card", "ship_order", "send_mail"):
        missing = [name for name in accepted if (name, activity) not in ran]
        assert not missing, f"completed, but {activity} never ran: {missing}"


def report(
    seed: str, number: int, kills: list[Kill], books: Books, done: list[Execution], took_s: float
) -> str:
    doubles = executions.duplicates(done)
    lines = [
        f"\nround {number} (WF_FAULTS_SEED={seed}): {ORDERS} orders in {took_s:.1f} s,"
        f" {len(done)} executions, {doubles} of them duplicates"
    ]
    lines += [f"  {one.kind:12} killed, {recovery(one, books)}" for one in kills]
    return "\n".join(lines)


def recovery(one: Kill, books: Books) -> str:
    """For how long nothing was written to history, at most, after the kill."""
    pause_s = longest_pause_ms(books.written_ms, one.at_ms) / 1000
    words = f"the flow paused for {pause_s:.2f} s"
    if one.up_s:
        words += f" (children gone after {one.gone_s:.2f} s, all ready in {one.up_s:.2f} s)"
    return words


def longest_pause_ms(written_ms: list[int], at_ms: int) -> int:
    """The longest that begins within a second of `at_ms`; 0 when all was over by then."""
    times = sorted(ms for ms in written_ms if ms > at_ms)
    pauses = zip([at_ms, *times], times, strict=False)
    return max((end - begin for begin, end in pauses if begin < at_ms + 1000), default=0)
