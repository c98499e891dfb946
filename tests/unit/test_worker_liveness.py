"""What a worker says of calls with `scheduleToStart` or `heartbeat`, and when it refuses them."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.unit.test_worker import Answers, delivery, make_lane, run_all
from wf.authoring.activity import ActivityDefinition
from wf.authoring.module_loading import load
from wf.errors import BrokerError, MessageError
from wf.jetstream.port import Accepted, Delivery, Outcome, Outgoing, Unknown
from wf.protocol import messages
from wf.worker.task import parse

MODULE = """
import asyncio
import time
from wf import Context, activity

ran = []

@activity(timeout="10s")
async def note() -> str:
    ran.append("note")
    return "done"

@activity(timeout="10s")
def note_in_thread() -> str:
    ran.append("thread")
    return "done"

@activity(timeout="10s")
async def beats(context: Context, times: int) -> list:
    for page in range(times):
        context.heartbeat({"page": page})
        await asyncio.sleep(0.04)
    return [context.heartbeat_details]

@activity(timeout="10s")
async def stalls(context: Context) -> None:
    context.heartbeat({"page": 1})
    await asyncio.sleep(60)

@activity(timeout="10s")
async def ignores_the_end(context: Context) -> None:
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        await asyncio.sleep(0.05)

@activity(timeout="10s")
def stalls_in_thread(context: Context) -> str:
    context.heartbeat({"page": 1})
    context.cancelled.wait(30)
    return "too late"

@activity(timeout="10s")
async def beats_and_fails(context: Context) -> None:
    context.heartbeat({"page": 8})
    raise ValueError("no")

@activity(timeout="10s")
async def beats_hugely(context: Context) -> None:
    context.heartbeat({"page": 8})
    context.heartbeat("x" * 5000)
    context.heartbeat(object())
    raise ValueError("no")
"""


@pytest.fixture
def definitions(tmp_path: Path) -> dict[str, ActivityDefinition]:
    path = tmp_path / "module.py"
    path.write_text(MODULE)
    return {definition.name: definition for definition in load(path)}


class Stream(Answers):
    """Keeps the signs that were stored; `script` answers for the first of them."""

    def __init__(self, *script: Callable[[Outgoing], Outcome]) -> None:
        super().__init__(script)
        self.signs: list[dict[str, Any]] = []
        self.ids: list[str | None] = []

    async def publish(self, stream: str, sent: Any, **_: Any) -> list[Outcome]:
        (message,) = sent
        answer = await self._answer("sign", sent)
        outcome = answer(message)
        if isinstance(outcome, Accepted):
            self.signs.append(orjson.loads(message.data))
            self.ids.append(message.message_id)
        return [outcome]

    @property
    def outcomes(self) -> list[str]:
        return [sign["outcome"] for sign in self.signs]


def now_ms(after_s: float = 0.0) -> int:
    return round((time.time() + after_s) * 1000)


def task(input: Any = None, delivered: int = 1, **liveness: Any) -> Delivery:
    made = delivery(1, input, liveness=liveness)
    made.delivered = delivered
    return made


def ran(definition: ActivityDefinition) -> list[str]:
    return definition.function.__globals__["ran"]


@pytest.mark.parametrize("name", ["note", "note_in_thread"])
async def test_the_engine_is_told_before_the_call_runs(
    definitions: dict[str, ActivityDefinition], name: str
) -> None:
    lane, port = make_lane(definitions[name]), Stream()
    port.gate = asyncio.Event()
    running = asyncio.ensure_future(run_all(lane, task(start_by_ms=now_ms(30)), port=port))
    while not port.calls:
        await asyncio.sleep(0.001)
    assert ran(definitions[name]) == []
    port.gate.set()
    bodies = await running
    assert bodies[1]["outcome"] == "completed"
    assert port.outcomes == ["started"]
    assert port.ids == ["order-1:1:1:started"]
    assert port.signs[0]["retry"] == lane.results.retry


async def test_a_task_without_the_keys_says_nothing(
    definitions: dict[str, ActivityDefinition],
) -> None:
    port = Stream()
    assert (await run_all(make_lane(definitions["note"]), delivery(1), port=port))[1]["output"]
    assert port.calls == []


@pytest.mark.parametrize("name", ["note", "note_in_thread"])
async def test_a_task_that_comes_too_late_is_not_run(
    definitions: dict[str, ActivityDefinition], name: str
) -> None:
    lane, port = make_lane(definitions[name]), Stream()
    bodies = await run_all(lane, task(start_by_ms=now_ms(-0.5)), port=port)
    assert bodies[1] == {"v": 1, "run": 1, "attempt": 1, "outcome": "expired"}
    assert (ran(definitions[name]), port.calls) == ([], [])


@pytest.mark.parametrize("name", ["note", "note_in_thread"])
async def test_a_call_whose_start_could_not_be_stored_in_time_does_not_run(
    definitions: dict[str, ActivityDefinition], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(messages, "START_GRACE_MS", 50)

    def lost(message: Outgoing) -> Outcome:
        raise BrokerError("the broker is away")

    port = Stream(*[lost] * 100)
    bodies = await run_all(make_lane(definitions[name]), task(start_by_ms=now_ms(0.1)), port=port)
    assert bodies[1]["outcome"] == "expired"
    assert ran(definitions[name]) == []


async def test_a_start_without_an_answer_is_told_again(
    definitions: dict[str, ActivityDefinition],
) -> None:
    port = Stream(lambda message: Unknown("no answer"), lambda message: Unknown("no answer"))
    bodies = await run_all(make_lane(definitions["note"]), task(start_by_ms=now_ms(9)), port=port)
    assert bodies[1]["outcome"] == "completed"
    assert port.outcomes == ["started"]


async def test_with_heartbeats_a_task_that_comes_again_goes_back_to_the_engine(
    definitions: dict[str, ActivityDefinition],
) -> None:
    again = task(delivered=2, heartbeat_ms=5000)
    bodies = await run_all(make_lane(definitions["note"]), again, port=Stream())
    assert bodies[1]["outcome"] == "redelivered"
    assert ran(definitions["note"]) == []
    again = task(delivered=2, start_by_ms=now_ms(30))
    bodies = await run_all(make_lane(definitions["note"]), again, port=Stream())
    assert bodies[1]["outcome"] == "completed"


async def test_heartbeats_keep_a_call_alive_and_the_engine_hears_the_latest_details(
    definitions: dict[str, ActivityDefinition],
) -> None:
    port = Stream()
    told = task({"times": 10}, heartbeat_ms=200, details={"page": 99})
    bodies = await run_all(make_lane(definitions["beats"]), told, port=port)
    assert bodies[1]["output"] == [{"page": 99}], "of the attempt before"
    assert port.outcomes[0] == "started"
    beats = port.signs[1:]
    assert 2 <= len(beats) <= 9, "some, but not one for each that the activity sent"
    assert {beat["outcome"] for beat in beats} == {"heartbeat"}
    assert beats[-1]["details"]["page"] >= 4
    assert port.ids[1] is None


@pytest.mark.parametrize("name", ["stalls", "stalls_in_thread", "ignores_the_end"])
async def test_a_call_without_heartbeats_is_stopped_and_timed_out(
    definitions: dict[str, ActivityDefinition], name: str
) -> None:
    started_s = time.monotonic()
    bodies = await run_all(make_lane(definitions[name]), task(heartbeat_ms=150), port=Stream())
    assert 0.15 <= time.monotonic() - started_s < 3
    body = bodies[1]
    assert (body["outcome"], body["error"]["status"]) == ("timed-out", 408)
    assert body["error"]["title"] == "Heartbeat missed"
    assert f"{name} did not call Context.heartbeat for 0.15 s" in body["error"]["detail"]
    if name != "ignores_the_end":
        assert body["heartbeat_details"] == body["evidence"]["heartbeat"] == {"page": 1}


async def test_a_failure_tells_the_details_for_the_next_attempt(
    definitions: dict[str, ActivityDefinition],
) -> None:
    told = task(heartbeat_ms=9000)
    bodies = await run_all(make_lane(definitions["beats_and_fails"]), told, port=Stream())
    assert bodies[1]["heartbeat_details"] == {"page": 8}
    plain = await run_all(make_lane(definitions["beats_and_fails"]), delivery(1), port=Stream())
    assert "heartbeat_details" not in plain[1]


async def test_details_that_cannot_be_told_are_left_out_and_the_heartbeat_counts(
    definitions: dict[str, ActivityDefinition],
) -> None:
    told = task(heartbeat_ms=9000)
    bodies = await run_all(make_lane(definitions["beats_hugely"]), told, port=Stream())
    assert bodies[1]["heartbeat_details"] == {"page": 8}
    assert bodies[1]["error"]["title"] == "ValueError"


@pytest.mark.parametrize(
    "liveness", [5, {"start_by_ms": "x"}, {"heartbeat_ms": 0}, {"heartbeat_ms": 1.5}]
)
def test_a_task_with_odd_liveness_is_set_aside(liveness: Any) -> None:
    with pytest.raises(MessageError, match="liveness"):
        parse(delivery(1, liveness=liveness))
