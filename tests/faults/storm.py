"""Everything at random, on the real tree: all kinds of workflows while all kinds of faults come.

One episode: a pool is started, fed and disturbed for some seconds; then all is mended, every
instance must come to the end that it must have, and the books must balance.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import statistics
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from supervisor.control.socket import ask
from tests.faults import flows, weather
from tests.faults.disk import CannotMount, Disk, small_disk
from tests.faults.proxy import Cable, cable_to
from tests.faults.weather import Squall
from tests.support import executions
from tests.support.ledger import Books, JsonObject, read_books, reconcile
from tests.support.orders import Field, Hit, kill_supervisor, longest_pause_ms, now_ms, pick
from tests.support.pool import RealPool
from tests.support.server import RealServer
from wf.client.blocking import BlockingClient
from wf.client.start import Start
from wf.errors import BrokerError
from wf.jetstream import topology
from wf.jetstream.client import JetStream
from wf.protocol import subjects

ENDED_LIMIT_S = 90.0
DISK_MB = 512
RATE = 15  # starts a second

CONFIG = """
activities_dir = "activities"
workflows_dir = "workflows"
[supervisor]
state_dir = "state"
[nats]
%s
[workers]
ack_wait = "1s"
crash_limit = 1000
[builtin.http]
enabled = false
"""


@dataclass(slots=True)
class Ground:
    """A pool, and what is around it: a broker of its own behind a cable, or one that it runs."""

    field: Field
    server: RealServer | None = None
    cable: Cable | None = None
    disk: Disk | None = None
    reloads: int = 0

    @property
    def kinds(self) -> list[str]:
        found = [*weather.KILLED, *weather.STOPPED, *weather.CHANGED]
        if self.cable is not None:
            found += weather.CABLE
        return found if self.disk is None else [*found, *weather.DISK]

    def broker_pid(self, chance: random.Random) -> int:
        return pick(self.field, "broker", chance) if self.server is None else self.server.pid


@contextmanager
def ground(root: Path, *, external: bool) -> Iterator[Ground]:
    """A running pool below `root`, whose broker has a small disk where we may mount one."""
    with ExitStack() as stack:
        store = root / ("nats" if external else "store")
        disk = None
        with suppress(CannotMount):
            disk = stack.enter_context(small_disk(store, DISK_MB))
        server = cable = None
        nats = 'embedded = true\nstore_dir = "store"'
        if external:
            server = RealServer(store)
            stack.callback(server.stop)
            server.start()
            cable = stack.enter_context(cable_to(server.port))
            nats = f'embedded = false\nservers = ["{cable.url}"]'
        made = _field(root, CONFIG % nats)
        stack.callback(made.pool.clean_up)
        made.pool.start()
        yield Ground(made, server, cable, disk)
        assert made.pool.stop() == 0


def _field(root: Path, config: str) -> Field:
    ledger = root / "executions"
    (root / "activities").mkdir()
    (root / "activities" / "storm.py").write_text(executions.noted(flows.ACTIVITIES, ledger))
    (root / "workflows").mkdir()
    for name, text in flows.SOURCES.items():
        (root / "workflows" / f"{name}.yaml").write_text(text)
    (root / "pool.toml").write_text(config)
    return Field(RealPool(root / "pool.toml"), ledger, "")


# --- the load -------------------------------------------------------------------------------------


class Load(threading.Thread):
    """Starts instances at an even rate until told to stop, and sends the signals that some wait
    for. It insists on each until the broker has accepted it."""

    def __init__(self, config: Path, chance: random.Random) -> None:
        super().__init__(name="load", daemon=True)
        self._config = config
        self._chance = chance
        self._over = threading.Event()
        self.accepted: dict[str, int] = {}  # instance → n
        self.error: BaseException | None = None

    def end(self) -> None:
        self._over.set()
        self.join(ENDED_LIMIT_S)
        assert not self.is_alive(), "not all starts and signals were accepted"
        assert self.error is None, self.error

    def run(self) -> None:
        try:
            with BlockingClient(self._config) as client:
                self._feed(client)
        except BaseException as error:  # noqa: BLE001 - for the test to raise
            self.error = error

    def _feed(self, client: BlockingClient) -> None:
        begun = time.monotonic()
        number = 0
        while not self._over.wait(0.1):
            due = int((time.monotonic() - begun) * RATE)
            starts = []
            for n in range(number, due):
                flow = self._chance.choice(flows.NAMES)
                starts.append(Start(flow, {"n": n}, id=f"{flow}-{n}"))
            number = max(number, due)
            self._insist(lambda starts=starts: client.start_many(starts))
            for start in starts:
                self.accepted[str(start.id)] = start.input["n"]
                if start.workflow == flows.ASKS:
                    self._insist(lambda id=start.id: client.signal(id, flows.GO, 5))

    def _insist(self, send: Any) -> None:
        limit = time.monotonic() + ENDED_LIMIT_S
        while True:
            try:
                send()
            except BrokerError:
                assert time.monotonic() < limit, "the broker accepts nothing"
            else:
                return


# --- the faults -----------------------------------------------------------------------------------


def strike(ground: Ground, squall: Squall) -> Hit:
    """Carry one fault out, from its beginning to its end."""
    kind, _, whom = squall.what.partition(" ")
    chance = random.Random(squall.chance)
    at_ms = now_ms()
    if squall.what == "kill supervisor":
        return kill_supervisor(ground.field, chance)
    if squall.what == "kill broker" and ground.server is not None:
        ground.server.restart()
    elif kind == "kill":
        os.kill(pick(ground.field, whom, chance), signal.SIGKILL)
    elif kind == "stop":
        _stop(ground, whom, squall.lasts_s, chance)
    elif kind in ("reload", "scale"):
        _change(ground, squall.what, chance)
    elif kind == "disk":
        _fill(ground, squall.lasts_s)
    else:
        _cable(ground, kind, squall.lasts_s)
    lasted = f" for {squall.lasts_s:.1f} s" if squall.lasts_s else ""
    return Hit(squall.what, at_ms, f"done{lasted}")


def _stop(ground: Ground, whom: str, lasts_s: float, chance: random.Random) -> None:
    pid = ground.broker_pid(chance) if whom == "broker" else pick(ground.field, whom, chance)
    pidfd = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGSTOP)
        time.sleep(lasts_s)  # this is the fault itself
    finally:
        with suppress(ProcessLookupError):  # a hang that was seen, and ended
            signal.pidfd_send_signal(pidfd, signal.SIGCONT)
        os.close(pidfd)


def _change(ground: Ground, what: str, chance: random.Random) -> None:
    root, pool = ground.field.pool.root, ground.field.pool
    ground.reloads += 1
    if what == "scale":
        size = chance.randint(1, 3)
        request = {"command": "scale", "pool": chance.choice(flows.POOLS), "processes": size}
        with suppress(ConnectionError, FileNotFoundError):
            ask(root / "state", request)
        return
    if what == "reload module":
        changed = root / "activities" / "storm.py"
        text = changed.read_text() + f"\n# change {ground.reloads}\n"
    else:
        changed = root / "pool.toml"
        kept = [x for x in changed.read_text().splitlines() if not x.startswith("concurrency")]
        place = kept.index("crash_limit = 1000")
        kept.insert(place, f"concurrency = {chance.randint(5, 20)}")
        text = "\n".join(kept) + "\n"
    draft = changed.with_name(f".{changed.name}.draft")
    draft.write_text(text)
    draft.replace(changed)
    os.kill(pool.pid, signal.SIGHUP)


def _cable(ground: Ground, kind: str, lasts_s: float) -> None:
    assert ground.cable is not None
    {
        "cut": ground.cable.cut,
        "hold": ground.cable.hold,
        "tear": ground.cable.tear,
        "forget": ground.cable.forget,
    }[kind]()
    time.sleep(lasts_s)  # this is the fault itself
    ground.cable.mend()


def _fill(ground: Ground, lasts_s: float) -> None:
    assert ground.disk is not None
    ground.disk.fill()
    time.sleep(lasts_s)  # this is the fault itself
    ground.disk.free()
    if ground.server is not None:  # goes on refusing; ours is restarted by the supervisor
        ground.server.restart()


# --- an episode -----------------------------------------------------------------------------------


@dataclass(slots=True)
class Report:
    """What became of an episode."""

    instances: int = 0
    executions: int = 0
    duplicates: int = 0
    seconds: float = 0.0
    pauses_ms: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    late_ms: list[int] = field(default_factory=list)  # timers

    def add(self, other: Report) -> None:
        self.instances += other.instances
        self.executions += other.executions
        self.duplicates += other.duplicates
        self.seconds += other.seconds
        self.late_ms += other.late_ms
        for what, pauses in other.pauses_ms.items():
            self.pauses_ms[what] += pauses

    def text(self) -> str:
        lines = [
            f"{self.instances} instances in {self.seconds:.0f} s, {self.executions} executions, "
            f"{self.duplicates} of them duplicates"
        ]
        if self.late_ms:
            late = sorted(self.late_ms)
            middle, most = late[len(late) // 2], late[len(late) * 99 // 100]
            lines.append(
                f"{len(late)} timers, late by {middle / 1000:.2f} s (p50), {most / 1000:.2f} s "
                f"(p99), {late[-1] / 1000:.2f} s at most"
            )
        for what, pauses in sorted(self.pauses_ms.items()):
            lines.append(
                f"  {what:18} {len(pauses):3} times, the flow paused for "
                f"{statistics.median(pauses) / 1000:.2f} s (median), {max(pauses) / 1000:.2f} s "
                "at most"
            )
        return "\n".join(lines)


async def episode(root: Path, seed: str, seconds: float, *, external: bool) -> Report:
    """One storm. AssertionError says what was lost, or came twice, or did not end."""
    begun = time.monotonic()
    with ground(root, external=external) as here:
        load = Load(here.field.pool.config, random.Random(f"{seed}:load"))
        load.start()
        hits = _weather(here, seed, seconds)
        load.end()
        js = await here.field.connect()
        try:
            await _all_ended(js, here.field, list(load.accepted))
            books = await _books(js, load.accepted)
        finally:
            await js.close()
        _check(books, load.accepted, here.field)
        return _report(books, load.accepted, here.field, hits, time.monotonic() - begun)


def _weather(here: Ground, seed: str, seconds: float) -> list[Hit]:
    hits = []
    for squall in weather.forecast(seed, seconds, here.kinds):
        time.sleep(squall.after_s)  # the faults come when they come
        hits.append(strike(here, squall))
    return hits


async def _all_ended(js: JetStream, field: Field, names: list[str]) -> None:
    limit = time.monotonic() + ENDED_LIMIT_S
    left = names
    while left:
        stored = await js.last_many(topology.WORKFLOW_STATES, [subjects.state(n) for n in left])
        left = [name for name in left if not _has_ended(stored.get(subjects.state(name)))]
        if left and time.monotonic() > limit:
            some = [stored.get(subjects.state(name)) for name in left[:3]]
            raise AssertionError(
                f"{len(left)} have not ended: {left[:20]}\n{some}\n{field.pool.tail()}"
            )


def _has_ended(stored: Any) -> bool:
    return stored is not None and "ended_ms" in orjson.loads(stored.data)


async def _books(js: JetStream, accepted: dict[str, int]) -> Books:
    """With the children, which nobody but their parents has started."""
    parents = [name for name in accepted if name.startswith("parent-")]
    first = await read_books(js, parents)
    children = [
        entry["child"]
        for name in parents
        for message in first.history[name]
        for entry in message["entries"]
        if entry["type"] == "child.started"
    ]
    return await read_books(js, list(dict.fromkeys([*accepted, *children])))


def _check(books: Books, accepted: dict[str, int], field: Field) -> None:
    def problem(name: str, snapshot: JsonObject) -> str | None:
        return flows.problem(snapshot, snapshot["input"]["n"])

    reconcile(books, list(books.snapshots), flows.lookup, problem)
    missing = accepted.keys() - books.snapshots.keys()
    assert not missing, f"accepted, and lost: {sorted(missing)[:20]}"
    ran = {(one.instance, one.activity) for one in field.executions()}
    for name in accepted:
        if name.startswith("undoes-"):
            for activity in ("add", "slow", "refused"):
                assert (name, activity) in ran, f"{name} ended, but {activity} never ran"


def _report(
    books: Books, accepted: dict[str, int], field: Field, hits: list[Hit], seconds: float
) -> Report:
    done = field.executions()
    report = Report(len(accepted), len(done), executions.duplicates(done), seconds)
    for hit in hits:
        what = "kill supervisor" if hit.kind == "supervisor" else hit.kind
        report.pauses_ms[what].append(longest_pause_ms(books.written_ms, hit.at_ms))
    for messages in books.history.values():
        due: dict[int, int] = {}
        for message in messages:
            for entry in message["entries"]:
                if entry["type"] == "timer.set":
                    due[entry["timer"]] = entry["due_ms"]
                elif entry["type"] == "timer.fired" and entry["timer"] in due:
                    report.late_ms.append(max(0, message["now_ms"] - due[entry["timer"]]))
    return report


def clear(root: Path) -> None:
    """What an episode that went well leaves behind."""
    shutil.rmtree(root, ignore_errors=True)
