"""Orders through a pool under fire: start them, disturb, wait for the end, balance the books."""

from __future__ import annotations

import os
import random
import shutil
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.support import executions
from tests.support.executions import Execution
from tests.support.ledger import Books, balance, read_books
from tests.support.pool import ROOT, RealPool, runs
from wf.client.blocking import BlockingClient
from wf.client.start import Start
from wf.errors import BrokerError
from wf.jetstream import client, topology
from wf.jetstream.client import JetStream
from wf.jetstream.connection import from_settings
from wf.jetstream.port import Stored
from wf.protocol import subjects

TASKS_EACH = 4  # an order reserves, charges, ships and mails
ENDED_LIMIT_S = 60.0

# The ack_wait is short so that a round takes seconds: what a killed worker held waits so long.
CONFIG = """
activities_dir = "activities"
workflows_dir = "workflows"
[supervisor]
state_dir = "state"
[nats]
embedded = true
[workers]
ack_wait = "1s"
[workers.charge_card]
processes = 2
[workers.mail]
activities = ["send_mail", "send_sms"]
"""


@dataclass(slots=True, frozen=True)
class Field:
    """A pool over the repository's activities and workflows, and what its activities did."""

    pool: RealPool
    ledger: Path
    definition: str

    def executions(self) -> list[Execution]:
        return executions.read(self.ledger)

    def await_executions(self, count: int) -> None:
        self.pool.until(
            lambda: len(self.executions()) >= count, f"{count} executions", ENDED_LIMIT_S
        )

    async def connect(self) -> JetStream:
        connection = from_settings(self.pool.settings, "orchestrator")
        return await client.connect(connection, role="orchestrator", name="ledger")


def make_field(root: Path, config: str = CONFIG) -> Field:
    ledger = root / "executions"
    (root / "activities").mkdir()
    for module in (ROOT / "activities" / name for name in ("mail.py", "orders.py")):
        text = executions.noted(module.read_text(), ledger)
        (root / "activities" / module.name).write_text(text)
    (root / "workflows").mkdir()
    shutil.copy(ROOT / "config" / "workflows" / "order.yaml", root / "workflows")
    # the worker that a test kills is to be one that has work
    (root / "pool.toml").write_text(f"{config}\n[builtin.http]\nenabled = false\n")
    definition = (root / "workflows" / "order.yaml").read_text()
    return Field(RealPool(root / "pool.toml"), ledger, definition)


# Disturb


@dataclass(slots=True, frozen=True)
class Hit:
    """What was done to which kind of process, and when."""

    kind: str
    at_ms: int
    what: str = "killed"
    gone_s: float = 0.0  # how long the last child of a killed supervisor lived on
    up_s: float = 0.0  # until all places were filled again after that


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def pick(field: Field, kind: str, chance: random.Random) -> int:
    """The pid of one process of this kind that is ready."""

    def look() -> list[int]:
        found = sorted(field.pool.processes(kind), key=lambda one: one["name"])
        # The supervisor may not have noticed yet that the one we killed a moment ago is dead.
        return [one["pid"] for one in found if runs(one["pid"])]

    return chance.choice(field.pool.until(look, f"a {kind} that is ready"))


def kill(field: Field, kind: str, chance: random.Random) -> Hit:
    """SIGKILL one process; a supervisor is started again by us, the others by it."""
    if kind == "supervisor":
        return kill_supervisor(field, chance)
    pid = pick(field, kind, chance)
    at_ms = now_ms()
    os.kill(pid, signal.SIGKILL)
    return Hit(kind, at_ms)


def kill_supervisor(field: Field, chance: random.Random) -> Hit:
    """Half of the time its successor comes at once, and meets the orphans."""
    at_ms = now_ms()
    orphans = field.pool.kill9()
    gone_s = orphans.gone_s() if chance.random() < 0.5 else 0.0
    up_s = field.pool.start()
    return Hit("supervisor", at_ms, gone_s=gone_s or orphans.gone_s(), up_s=up_s)


# Start


class Feeder(threading.Thread):
    """Starts orders in small groups, and insists until each one is accepted."""

    def __init__(self, config: Path, starts: list[Start], chance: random.Random) -> None:
        super().__init__(name="feeder", daemon=True)
        self._config = config
        self._starts = starts
        self._chance = chance
        self.accepted: list[str] = []
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
                continue  # idempotent by id: the same again
            self.accepted += [start.id for start in chunk]
            del left[: len(chunk)]


def order(label: str, n: int) -> Start:
    input_ = {"order_id": 5000 + n, "items": [{"sku": "A1", "qty": 2}], "card": "4242"}
    return Start("order", input_, id=f"{label}-{n}")


# The whole


async def balanced_round(
    field: Field, label: str, count: int, seed: str, disturb: Callable[[int], list[Hit]]
) -> str:
    """Run `count` orders while `disturb(executions so far)` does its work; then all must have
    ended well and the books balance. What to print about it; AssertionError names the trouble.
    """
    begun = time.monotonic()
    before = len(field.executions())
    js = await field.connect()
    after = await js.last_sequence(topology.WORKFLOW_HISTORY)
    await js.close()
    chance = random.Random(f"{seed}:{label}:feed")
    feeder = Feeder(field.pool.config, [order(label, n) for n in range(count)], chance)
    feeder.start()
    hits = disturb(before)
    feeder.join(ENDED_LIMIT_S)
    assert not feeder.is_alive(), "not all starts were accepted"
    assert feeder.error is None, feeder.error
    js = await field.connect()
    try:
        await all_ended(js, field, feeder.accepted)
        took_s = time.monotonic() - begun
        books = await read_books(js, feeder.accepted, after)
        assert await js.last_sequence(topology.DEAD_LETTERS) == 0
    finally:
        await js.close()
    done = field.executions()[before:]
    balance(books, feeder.accepted, field.definition)
    every_task_ran(done, feeder.accepted)
    return _report(label, seed, hits, books, done, took_s)


async def all_ended(js: JetStream, field: Field, accepted: list[str]) -> None:
    """Until every instance has completed; else says which did not and what they wait for."""
    limit = time.monotonic() + ENDED_LIMIT_S
    left = accepted
    while left:
        stored = await js.last_many(topology.WORKFLOW_STATES, [subjects.state(n) for n in left])
        left = [name for name in left if not _ended(stored.get(subjects.state(name)))]
        if left and time.monotonic() > limit:
            some = [stored.get(subjects.state(name)) for name in left[:3]]
            raise AssertionError(
                f"{len(left)} have not ended: {left[:20]}\n{some}\n{field.pool.tail()}"
            )


def _ended(stored: Stored | None) -> bool:
    return stored is not None and b'"status":"completed"' in stored.data


def every_task_ran(done: list[Execution], accepted: list[str]) -> None:
    ran = {(one.instance, one.activity) for one in done}
    for activity in ("reserve_stock", "charge_card", "ship_order", "send_mail"):
        missing = [name for name in accepted if (name, activity) not in ran]
        assert not missing, f"completed, but {activity} never ran: {missing}"


def _report(
    label: str, seed: str, hits: list[Hit], books: Books, done: list[Execution], took_s: float
) -> str:
    lines = [
        f"\n{label} (WF_FAULTS_SEED={seed}): {len(books.snapshots)} orders in {took_s:.1f} s,"
        f" {len(done)} executions, {executions.duplicates(done)} of them duplicates"
    ]
    return "\n".join(lines + [f"  {one.kind:12} {one.what}, {_pause(one, books)}" for one in hits])


def _pause(one: Hit, books: Books) -> str:
    """For how long nothing was written to history, at most, after the hit."""
    words = f"the flow paused for {longest_pause_ms(books.written_ms, one.at_ms) / 1000:.2f} s"
    if one.up_s:
        words += f" (children gone after {one.gone_s:.2f} s, all ready in {one.up_s:.2f} s)"
    return words


def longest_pause_ms(written_ms: list[int], at_ms: int) -> int:
    """The longest that begins within a second of `at_ms`; 0 when all was over by then."""
    times = sorted(ms for ms in written_ms if ms > at_ms)
    pauses = zip([at_ms, *times], times, strict=False)
    return max((end - begin for begin, end in pauses if begin < at_ms + 1000), default=0)
