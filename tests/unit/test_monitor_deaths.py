"""Reporting the tasks of a dead worker, whatever the broker answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import orjson
import pytest

from wf.errors import BrokerError
from wf.jetstream.port import Accepted, Delivery, Outcome, Outgoing, Stored, Unknown
from wf.monitor import deaths
from wf.monitor.deaths import Reporter
from wf.monitor.outcome import HANDED_BACK, is_stale, suspects, verdict
from wf.protocol import messages


def task(
    sequence: int, *, ended: bool = False, deadline_s: float = 1e9, started_s: float = 1.0
) -> dict[str, Any]:
    return {
        "sequence": sequence,
        "reply": f"ack.{sequence}",
        "started_s": started_s,
        "deadline_s": deadline_s,
        "ended": ended,
    }


def death(*tasks: dict[str, Any], **facts: Any) -> dict[str, Any]:
    return {
        "event": "death",
        "death": 7,
        "child": "worker mail #0",
        "pid": 1,
        "cause": "crash",
        "wanted": False,
        "how": "SIGKILL",
        "exit_status": None,
        "signal": "SIGKILL",
        "reason": None,
        "peak_bytes": 5,
        "dump": "",
        "died_s": time.monotonic(),
        "alive_s": time.monotonic(),
        "ack_wait_s": 30.0,
        "crash_limit": 3,
        "running": sum(1 for one in tasks if one["started_s"] and not one["ended"]),
        "tasks": list(tasks),
        **facts,
    }


class Broker:
    """Tasks by sequence; answers as told, then accepts."""

    def __init__(self, *script: Any) -> None:
        self.script = list(script)
        self.stored: list[dict[str, Any]] = []
        self.log: list[str] = []

    async def at(self, stream: str, sequence: int) -> Stored | None:
        if sequence >= 100:
            return None
        body = {"v": 1, "instance": f"o-{sequence}", "run": 1, "attempt": 2}
        data = orjson.dumps(body) if sequence < 50 else b"{broken"
        return Stored("activity.tasks.mail", data, None, sequence, 0)

    async def publish(self, stream: str, sent: Sequence[Outgoing], **_: Any) -> list[Outcome]:
        answer = self.script.pop(0) if self.script else Accepted(1)
        if isinstance(answer, BrokerError):
            raise answer
        if isinstance(answer, Accepted):
            self.stored += [orjson.loads(one.data) for one in sent]
            self.log += [f"stored {one.subject.split('.')[3]}" for one in sent]
        return [answer] * len(sent)

    def ack(self, delivery: Delivery) -> None:
        self.log.append(delivery.reply)

    def nak(self, delivery: Delivery, delay_s: float | None = None) -> None:
        self.log.append(f"nak {delivery.sequence}")

    async def flush(self) -> None:
        if self.script and isinstance(self.script[0], BrokerError):
            raise self.script.pop(0)


async def report(broker: Broker, what: dict[str, Any]) -> list[int]:
    settled: list[int] = []
    reporter = Reporter(broker, settled.append)  # type: ignore[arg-type]
    reporter.take(what)
    async with asyncio.timeout(5):
        while not settled:
            await asyncio.sleep(0.001)
    return settled


async def test_the_outcome_is_stored_before_the_delivery_is_acked() -> None:
    broker = Broker()
    assert await report(broker, death(task(1), task(2))) == [7]
    assert broker.log == ["stored o-1", "stored o-2", "ack.1", "ack.2"]
    body = broker.stored[0]
    assert (body["outcome"], body["run"], body["attempt"]) == ("crashed", 1, 2)
    assert (body["suspects"], body["crash_limit"]) == (2, 3)
    assert body["evidence"]["signal"] == "SIGKILL"


async def test_what_got_no_answer_is_sent_again_and_nothing_is_acked_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(deaths, "FIRST_DELAY_S", 0.001)
    broker = Broker(Unknown("no answer"), BrokerError("gone"), Accepted(1))
    await report(broker, death(task(1)))
    assert broker.log == ["stored o-1", "ack.1"]


async def test_what_had_not_started_is_handed_back_and_is_no_suspect() -> None:
    broker = Broker()
    await report(broker, death(task(1), task(2, started_s=0.0), task(3, started_s=0.0)))
    assert broker.log == ["stored o-1", "ack.1", "nak 2", "nak 3"]
    assert broker.stored[0]["suspects"] == 1
    broker = Broker()
    await report(broker, death(task(1, ended=True), task(2, started_s=0.0)))
    assert broker.stored[0]["suspects"] == 1
    broker = Broker()
    await report(broker, death(task(1, started_s=0.0)))
    assert broker.log == ["nak 1"]


async def test_what_a_worker_held_that_was_silent_for_long_is_not_handed_back() -> None:
    broker = Broker()
    now_s = time.monotonic()
    await report(broker, death(task(1), task(2, started_s=0.0), died_s=now_s, alive_s=now_s - 19))
    assert broker.log == ["stored o-1", "ack.1"]


async def test_a_wanted_end_hands_back_once_even_without_an_answer() -> None:
    broker = Broker(BrokerError("gone"))
    await report(broker, death(task(1), task(2), wanted=True, cause="operator"))
    assert broker.log == ["nak 1", "nak 2"]


async def test_tasks_that_are_gone_or_unreadable_stop_nobody() -> None:
    broker = Broker()
    await report(broker, death(task(60), task(100), task(3)))
    assert broker.log == ["stored o-3", "ack.3"]


async def test_an_old_death_is_left_to_redelivery() -> None:
    broker = Broker()
    await report(broker, death(task(1), task(2), died_s=time.monotonic() - 19.0))
    assert broker.log == []


def test_deaths_are_old_before_the_broker_delivers_again() -> None:
    assert not is_stale(death(died_s=100.0), 117.0)
    assert is_stale(death(died_s=100.0), 118.1)


def test_who_is_suspected() -> None:
    both = death(task(1), task(2, ended=True), task(3))
    assert [suspects(both, one) for one in both["tasks"]] == [2, 0, 2]
    over = death(task(1, ended=True))
    assert suspects(over, over["tasks"][0]) == 1, "it may have left the damage behind"
    wanted = death(task(1, ended=True), wanted=True, cause="operator")
    assert suspects(wanted, wanted["tasks"][0]) == 0


def test_what_is_said_of_each() -> None:
    assert verdict(death(cause="memory"), task(1)) == messages.OUT_OF_MEMORY
    assert verdict(death(wanted=True), task(1)) == HANDED_BACK
    assert verdict(death(wanted=True), task(1, ended=True)) == messages.CRASHED
    hang = death(task(1, deadline_s=5.0), task(2), cause="hang", died_s=9.0)
    assert [verdict(hang, one) for one in hang["tasks"]] == ["timed-out", "crashed"]
    assert suspects(hang, hang["tasks"][1]) == 0, "the other one is to blame"
