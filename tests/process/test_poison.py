"""Events that really end the orchestrator, many at once, and good ones beside them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.support.pool import RealPool
from wf.client.blocking import BlockingClient
from wf.jetstream import topology
from wf.jetstream.port import Outgoing
from wf.protocol import messages, subjects

POISONOUS = Path(__file__).with_name("poisonous_pool.py")

FLOW = """
document: {dsl: 1.0.0, namespace: default, name: flow, version: 1.0.0}
do:
  - only: {set: {n: "${ .n }"}}
"""
CONFIG = """
workflows_dir = "workflows"
[supervisor]
state_dir = "state"
log_format = "json"
grace = "2s"
[builtin.http]
enabled = false
"""
# By os._exit, by signals, by a fault in C code, by SystemExit; while applied and while encoded.
WAYS = [
    {key: how}
    for how in ("exit", "kill", "fault", "leave", "exit-well")
    for key in ("poison", "poison-state")
]


class PoisonousPool:
    def __init__(self, root: Path) -> None:
        (root / "activities").mkdir()
        (root / "workflows").mkdir()
        (root / "workflows" / "flow.yaml").write_text(FLOW)
        (root / "pool.toml").write_text(CONFIG)
        self.root = root
        self.pool = RealPool(root / "pool.toml")
        self.pool.command = [str(POISONOUS), str(root / "pool.toml")]
        self.supervisors: set[int] = set()
        self._client: BlockingClient | None = None

    def start(self) -> None:
        self.pool.start()
        self.supervisors.add(self.pool.pid)

    @property
    def client(self) -> BlockingClient:
        if self._client is None:
            self._client = BlockingClient(self.root / "pool.toml")
        return self._client

    def send(self, inputs: dict[str, Any]) -> None:
        """Starts, all of them at once."""
        starts = [
            Outgoing(
                subjects.start("default", "flow"),
                messages.encode(messages.start_body(instance=instance, input=input_)),
            )
            for instance, input_ in inputs.items()
        ]
        self.client._run(self.client._client.port.publish(topology.WORKFLOW_EVENTS, starts))

    def statuses(self) -> Counter[str]:
        port = self.client._client.port
        found = self.client._run(port.scan(topology.WORKFLOW_STATES, "$KV.WORKFLOW_STATES.>"))
        return Counter(orjson.loads(one.data)["status"] for one in found if one.data)

    def have_ended(self, least: int) -> bool:
        """At least so many processes, by what the inputs say."""
        return len(self._ends()) >= least

    def deaths(self) -> int:
        """Of the orchestrator: what its children that only try things die of is not one."""
        return sum(1 for line in self._ends() if int(line.split()[1]) in self.supervisors)

    def _ends(self) -> list[str]:
        path = self.root / "ends"
        return path.read_text().splitlines() if path.exists() else []

    def letters(self) -> Counter[str]:
        """How many dead letters each instance has."""
        port = self.client._client.port
        found = self.client._run(port.scan(topology.DEAD_LETTERS, "dead.>", limit=1000))
        bodies = [orjson.loads(one.data) for one in found]
        assert all(body["evidence"]["deaths"] >= 2 and body["evidence"]["how"] for body in bodies)
        return Counter(body["instance"] for body in bodies)

    def clean_up(self) -> None:
        if self._client is not None:
            self._client.close()
        self.pool.clean_up()


@pytest.fixture
def poisonous(tmp_path: Path) -> Iterator[PoisonousPool]:
    made = PoisonousPool(tmp_path)
    yield made
    made.clean_up()


def mixture(bad: int, good: int) -> dict[str, Any]:
    """Bad ones among good ones, everywhere."""
    inputs: dict[str, Any] = {}
    for n in range(bad):
        inputs[f"bad{n}"] = {"n": n, **WAYS[n % len(WAYS)]}
    for n in range(good):
        inputs[f"good{n}"] = {"n": n}
    return dict(sorted(inputs.items(), key=lambda one: hash_of(one[0])))


def hash_of(text: str) -> int:
    return int.from_bytes(text.encode()[::-1]) % 251


@pytest.mark.parametrize("bad", [1, 7, 50])
def test_bad_events_among_good_ones_are_set_aside_and_the_good_ones_complete(
    poisonous: PoisonousPool, bad: int
) -> None:
    poisonous.start()
    poisonous.send(mixture(bad, 200))
    poisonous.pool.until(
        lambda: poisonous.statuses() == {"completed": 200, "faulted": bad}, "all ended", 60
    )
    poisonous.pool.until(lambda: sum(poisonous.letters().values()) >= bad, "all are set aside")
    assert poisonous.letters() == {f"bad{n}": 1 for n in range(bad)}
    assert 1 <= poisonous.deaths() <= 2


def test_what_is_known_of_bad_events_outlives_the_supervisor(poisonous: PoisonousPool) -> None:
    """It is killed again and again while they are being tried."""
    poisonous.start()
    poisonous.send(mixture(7, 50))
    for least in (1, 2):
        poisonous.pool.until(partial(poisonous.have_ended, least), "something has died of them")
        poisonous.pool.kill9().gone_s()
        poisonous.start()
    poisonous.pool.until(
        lambda: poisonous.statuses() == {"completed": 50, "faulted": 7}, "all ended", 60
    )
    poisonous.pool.until(lambda: sum(poisonous.letters().values()) >= 7, "all are set aside")
    assert poisonous.letters() == {f"bad{n}": 1 for n in range(7)}
    assert poisonous.deaths() <= 2
