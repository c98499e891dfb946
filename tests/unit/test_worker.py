"""The parts of a worker that need no broker: what they decide, and how they treat its answers."""

from __future__ import annotations

import asyncio
import contextvars
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.lanes import Answers, delivery, fail_the_test, hold, make_lane, run_all, settings
from wf import activity
from wf.authoring.activity import ActivityDefinition
from wf.authoring.module_loading import load
from wf.authoring.retry import Retry
from wf.errors import ConfigError, MessageError
from wf.jetstream.port import Accepted, Outcome, Outgoing, Rejected, Unknown
from wf.settings import PoolSettings, RetrySettings
from wf.worker import result_publisher as publishing
from wf.worker.ack_renewal import Leases
from wf.worker.activities import load_definitions
from wf.worker.activity_queue import Lane
from wf.worker.hand_back import take_surplus
from wf.worker.policy import catalog_entry, effective
from wf.worker.prefetch import LIMIT, Prefetch
from wf.worker.puller import Puller
from wf.worker.recycling import task_limit
from wf.worker.result_publisher import BATCH_FROM, BATCH_LIMIT, OPEN_BATCHES, Publisher, plan
from wf.worker.results import dead_message
from wf.worker.runner import Runner
from wf.worker.task import Held, parse

MODULE = """
import asyncio, contextvars, decimal, sys
from wf import Context, activity

variable = contextvars.ContextVar("variable", default="clean")

@activity
async def echo(value: int = 0) -> int:
    return value

@activity
async def leaves_a_trace() -> str:
    found = variable.get()
    variable.set("dirty")
    return found

@activity
async def with_a_timeout_of_its_own() -> str:
    try:
        async with asyncio.timeout(0.01):
            await asyncio.sleep(10)
    except TimeoutError:
        return "own timeout"

@activity
async def cancels_itself() -> str:
    asyncio.current_task().cancel()
    await asyncio.sleep(1)

@activity
async def leaves_a_cancellation() -> str:
    asyncio.current_task().cancel()
    return "returned"

@activity
async def exits() -> None:
    sys.exit(3)

@activity
async def nap(seconds: float) -> float:
    await asyncio.sleep(seconds)
    return seconds

@activity
async def odd_types():
    return {"amount": decimal.Decimal("1.5"), "tags": {"a"}, 7: "seven"}

@activity
async def not_json():
    return object()

@activity
async def huge_number():
    return 2 ** 70
"""


@pytest.fixture
def definitions(tmp_path: Path) -> dict[str, ActivityDefinition]:
    path = tmp_path / "module.py"
    path.write_text(MODULE)
    return {definition.name: definition for definition in load(path)}


async def publish(port: Answers, lane: Lane, count: int) -> list[int]:
    """Report `count` results at once; the sequences in the order in which they were settled."""
    settled: list[int] = []
    publisher = Publisher(
        port,  # type: ignore[arg-type]
        lambda lane, held: settled.append(held.delivery.sequence),
        fail_the_test,
    )
    running = asyncio.ensure_future(publisher.run())
    for held in hold(lane, *(delivery(n) for n in range(1, count + 1))):
        publisher.report(lane, held, lane.results.completed(held, 1))
    async with asyncio.timeout(10):
        while publisher.unstored:
            await asyncio.sleep(0.001)
    running.cancel()
    return settled


# --- what is decided ---------------------------------------------------------------------------


def test_the_pool_s_own_table_wins_over_the_decorator_and_that_over_the_defaults() -> None:
    @activity(timeout="7s", concurrency=2, retry=Retry(max_attempts=9))
    def one() -> None: ...

    options = one.__wf_activity__  # type: ignore[attr-defined]
    by_decorator = effective(settings(), "one", options)
    assert (by_decorator.timeout_s, by_decorator.concurrency) == (7.0, 2)
    assert by_decorator.retry["max_attempts"] == 9
    table = PoolSettings(timeout=1.0, concurrency=5, retry=RetrySettings(max_attempts=4))
    by_table = effective(settings(one=table), "one", options)
    assert (by_table.timeout_s, by_table.concurrency) == (1.0, 5)
    assert by_table.retry["max_attempts"] == 4


def test_the_catalogue_entry_says_what_callers_and_the_engine_need(
    definitions: dict[str, ActivityDefinition],
) -> None:
    lane = make_lane(definitions["echo"], ack_wait=9.0)
    entry = catalog_entry(lane.definition, lane.policy, "host/pool")
    assert entry["consumer"] == {"ack_wait_s": 9.0, "max_deliver": 20, "max_ack_pending": 10_000}
    assert entry["output_schema"] == {"type": "integer"}
    orjson.dumps(entry)


@given(st.lists(st.floats(1e-6, 1000.0), min_size=1, max_size=50), st.integers(1, 200))
def test_prefetch_is_bounded_and_none_for_long_tasks(
    durations: list[float], concurrency: int
) -> None:
    prefetch = Prefetch(concurrency)
    assert prefetch.target == 0, "nothing is known yet"
    for duration in durations:
        prefetch.measured(duration)
        assert 0 <= prefetch.target <= LIMIT
    for _ in range(100):
        prefetch.measured(0.5)
    assert prefetch.target == 0


def test_prefetch_hides_the_round_trip_of_short_tasks_and_yields_to_one_long_one() -> None:
    prefetch = Prefetch(10)
    for _ in range(50):
        prefetch.measured(0.000_01)
    assert prefetch.target == LIMIT
    prefetch.measured(2.0)
    assert prefetch.target == 0
    assert Prefetch(10, fixed=3).target == 3


@given(st.integers(0, 5000), st.integers(0, 10), st.integers(0, 500))
def test_a_plan_never_exceeds_what_may_be_open(ready: int, batches: int, singles: int) -> None:
    as_batch, count = plan(ready, batches, singles)
    assert 0 <= count <= min(ready, BATCH_LIMIT)
    if as_batch and count:
        assert count >= BATCH_FROM
        assert batches < OPEN_BATCHES


def test_something_is_always_sent_when_nothing_is_open() -> None:
    for ready in (1, BATCH_FROM - 1, BATCH_FROM, 5000):
        assert plan(ready, 0, 0)[1] > 0


def test_workers_of_a_pool_are_not_recycled_together() -> None:
    assert task_limit(0, 0.9) == 0
    assert task_limit(1000, 0.0) == 1000
    assert task_limit(1000, 0.99) == 1099


@pytest.mark.parametrize(
    "changed",
    [{"v": 2}, {"instance": "a.b"}, {"run": "1"}, {"attempt": None}, {"workflow": 1}],
)
def test_tasks_against_the_protocol_are_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(MessageError):
        parse(delivery(**changed))


def test_a_dead_message_fits_and_keeps_its_evidence() -> None:
    one = delivery()
    one.data = b"\xff" * 200_000
    letter = dead_message(one, "echo", "no JSON", 100_000)
    assert len(letter.data) <= 100_000
    body = orjson.loads(letter.data)
    assert body["evidence"]["payload_bytes"] == 200_000
    assert body["evidence"]["sequence"] == 1


def test_wanted_activities_that_no_module_provides_are_an_error_with_what_was_found(
    tmp_path: Path,
) -> None:
    path = tmp_path / "module.py"
    path.write_text("from wf import activity\n@activity\ndef there(): ...\n")
    with pytest.raises(ConfigError, match=r"'missing' is not provided.*found there"):
        load_definitions([str(path)], ["missing"])
    assert [d.name for d in load_definitions([str(path)], [])] == ["there"]


# --- storing results ---------------------------------------------------------------------------


async def test_few_results_go_as_singles_and_many_as_a_batch(
    definitions: dict[str, ActivityDefinition],
) -> None:
    port = Answers()
    await publish(port, make_lane(definitions["echo"]), 3)
    assert port.calls == [("singles", 3)]
    port = Answers()
    settled = await publish(port, make_lane(definitions["echo"]), 200)
    assert port.calls == [("batch", 200)]
    assert settled == list(range(1, 201))


async def test_no_task_is_acknowledged_before_its_result_is_stored(
    definitions: dict[str, ActivityDefinition],
) -> None:
    port = Answers()
    await publish(port, make_lane(definitions["echo"]), 5)
    for n in range(1, 6):
        assert port.log.index(f"stored order-{n}") < port.log.index(f"acked order-{n}")


async def test_a_refused_batch_is_sent_again_as_singles(
    definitions: dict[str, ActivityDefinition],
) -> None:
    port = Answers([lambda m: Rejected(10201, "duplicate message id")])
    settled = await publish(port, make_lane(definitions["echo"]), 100)
    assert port.calls == [("batch", 100), ("singles", 100)]
    assert len(settled) == 100


async def test_a_duplicate_counts_as_stored(definitions: dict[str, ActivityDefinition]) -> None:
    port = Answers([lambda m: Accepted(5, duplicate=True)])
    assert await publish(port, make_lane(definitions["echo"]), 1) == [1]


@pytest.mark.parametrize("answer", [Unknown("no answer"), Rejected(10077, "full")])
async def test_what_was_not_stored_is_held_and_sent_again(
    definitions: dict[str, ActivityDefinition], answer: Outcome, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishing, "FIRST_DELAY_S", 0.001)

    def only_the_second(message: Outgoing) -> Outcome:
        return answer if ".order-2." in message.subject else Accepted(1)

    port = Answers([only_the_second, only_the_second])
    assert await publish(port, make_lane(definitions["echo"]), 3) == [1, 3, 2]
    assert port.calls == [("singles", 3), ("singles", 1), ("singles", 1)]


async def test_a_result_that_the_stream_refuses_for_its_size_becomes_a_fault(
    definitions: dict[str, ActivityDefinition],
) -> None:
    sent: list[Outgoing] = []

    def too_large(message: Outgoing) -> Outcome:
        sent.append(message)
        return Rejected(10054, "message size exceeds maximum allowed") if len(sent) == 1 else (
            Accepted(1)
        )  # fmt: skip

    await publish(Answers([too_large, too_large]), make_lane(definitions["echo"]), 1)
    body = orjson.loads(sent[1].data)
    assert (body["outcome"], body["retryable"]) == ("failed", False)
    assert "exceeds maximum" in body["error"]["detail"]


async def test_results_gather_while_the_broker_is_busy(
    definitions: dict[str, ActivityDefinition],
) -> None:
    port, lane = Answers(), make_lane(definitions["echo"])
    port.gate = asyncio.Event()
    publisher = Publisher(port, lambda lane, held: None, fail_the_test)  # type: ignore[arg-type]
    running = asyncio.ensure_future(publisher.run())
    for held in hold(lane, *(delivery(n) for n in range(400))):
        publisher.report(lane, held, lane.results.completed(held, 1))
        await asyncio.sleep(0)
    port.gate.set()
    async with asyncio.timeout(5):
        while publisher.unstored:
            await asyncio.sleep(0.001)
    running.cancel()
    assert len(port.calls) < 80, "far fewer than results"
    assert sum(count for _, count in port.calls) == 400


# --- running -----------------------------------------------------------------------------------


async def test_a_call_never_sees_the_context_variables_of_another(
    definitions: dict[str, ActivityDefinition],
) -> None:
    outer: contextvars.ContextVar[str] = contextvars.ContextVar("outer")
    outer.set("of the worker")
    lane = make_lane(definitions["leaves_a_trace"], concurrency=2)
    bodies = await run_all(lane, *(delivery(n) for n in range(1, 8)))
    assert {body["output"] for body in bodies.values()} == {"clean"}


async def test_an_activity_may_use_timeouts_and_cancellation_of_its_own(
    definitions: dict[str, ActivityDefinition],
) -> None:
    lane = make_lane(definitions["with_a_timeout_of_its_own"], concurrency=1)
    bodies = await run_all(lane, delivery(1), delivery(2))
    assert [bodies[n]["output"] for n in (1, 2)] == ["own timeout"] * 2
    lane = make_lane(definitions["cancels_itself"], concurrency=1)
    bodies = await run_all(lane, delivery(1), delivery(2))
    assert [bodies[n]["error"]["title"] for n in (1, 2)] == ["CancelledError"] * 2
    lane = make_lane(definitions["leaves_a_cancellation"], concurrency=1)
    bodies = await run_all(lane, delivery(1), delivery(2))
    assert [bodies[n]["output"] for n in (1, 2)] == ["returned"] * 2


async def test_sys_exit_in_an_activity_fails_the_call_not_the_worker(
    definitions: dict[str, ActivityDefinition],
) -> None:
    bodies = await run_all(make_lane(definitions["exits"]), delivery(1), delivery(2))
    assert [bodies[n]["error"]["title"] for n in (1, 2)] == ["SystemExit"] * 2


async def test_calls_run_side_by_side_up_to_concurrency(
    definitions: dict[str, ActivityDefinition],
) -> None:
    lane = make_lane(definitions["nap"], concurrency=20)
    loop = asyncio.get_running_loop()
    started = loop.time()
    await run_all(lane, *(delivery(n, {"seconds": 0.1}) for n in range(1, 41)))
    assert 0.19 <= loop.time() - started < 1.0


async def test_a_later_call_still_times_out_when_an_earlier_one_did(
    definitions: dict[str, ActivityDefinition],
) -> None:
    lane = make_lane(definitions["nap"], concurrency=3, timeout=0.05)
    tasks = [delivery(n, {"seconds": 5 if n % 2 else 0.0}) for n in range(1, 10)]
    bodies = await run_all(lane, *tasks)
    assert {n for n, body in bodies.items() if body["outcome"] == "timed-out"} == {1, 3, 5, 7, 9}


async def test_outputs_that_are_nearly_json_are_turned_into_it(
    definitions: dict[str, ActivityDefinition],
) -> None:
    (body,) = (await run_all(make_lane(definitions["odd_types"]), delivery(1))).values()
    assert body["output"] == {"amount": "1.5", "tags": ["a"], "7": "seven"}
    for name in ("not_json", "huge_number"):
        (body,) = (await run_all(make_lane(definitions[name]), delivery(1))).values()
        assert (body["outcome"], body["retryable"]) == ("failed", False)
        assert body["error"]["title"] == "Invalid output"


# --- handing back ---


async def test_what_waits_behind_tasks_that_turn_out_long_is_handed_back(
    definitions: dict[str, ActivityDefinition],
) -> None:
    lane = make_lane(definitions["echo"], concurrency=1, max_deliver=4)
    for _ in range(50):
        lane.prefetch.measured(0.000_01)
    running, *_ = hold(lane, *(delivery(n) for n in range(1, 6)))
    lane.waiting.popleft()
    lane.running[running] = None
    running.started_s = 100.0
    assert take_surplus(lane, 100.000_01) == [], "not long yet"
    lane.waiting[1].delivery.delivered = 3
    surplus = take_surplus(lane, 101.0)
    assert [held.delivery.sequence for held in surplus] == [5, 4]
    assert [held.delivery.sequence for held in lane.waiting] == [2, 3], "3 was delivered too often"
    assert set(lane.held) == {1, 2, 3}
    assert lane.room() < 0


async def test_nothing_is_handed_back_while_a_place_is_free(
    definitions: dict[str, ActivityDefinition],
) -> None:
    lane = make_lane(definitions["echo"], concurrency=2)
    running, _ = hold(lane, delivery(1), delivery(2))
    lane.waiting.popleft()
    lane.running[running] = None
    assert take_surplus(lane, running.started_s + 60) == []


# --- leases ------------------------------------------------------------------------------------


async def test_a_stall_longer_than_ack_wait_loses_the_leases(
    definitions: dict[str, ActivityDefinition],
) -> None:
    lane = make_lane(definitions["echo"], ack_wait=3.0)
    running, waiting = hold(lane, delivery(1), delivery(2))
    lane.waiting.popleft()
    lane.running[running] = None
    leases = Leases([lane], Answers())  # type: ignore[arg-type]
    now = leases._seen_s
    assert not leases.notice_stall(lambda: now + 2.9)
    assert not running.lease_lost
    assert leases.notice_stall(lambda: now + 6.0)
    assert running.lease_lost
    assert list(lane.held) == [1], "what had not started is forgotten: others have it"
    assert not lane.waiting
    assert waiting.lease_lost


async def test_a_task_that_comes_again_while_it_is_held_only_renews_its_lease(
    definitions: dict[str, ActivityDefinition],
) -> None:
    lane = make_lane(definitions["nap"], concurrency=1)
    reports: list[Held] = []

    def report(lane: Lane, held: Held, outgoing: Outgoing) -> None:
        reports.append(held)

    runner = Runner(lane, report, fail_the_test, Answers())
    port = Answers()
    puller = Puller(lane, runner, port, report)  # type: ignore[arg-type]
    puller.take([delivery(1, {"seconds": 0.05})])
    await asyncio.sleep(0)
    lane.held[1].lease_lost = True
    again = delivery(1, {"seconds": 0.05})
    again.reply = "the newer one"
    puller.take([again])
    async with asyncio.timeout(5):
        while not reports:
            await asyncio.sleep(0.001)
    assert lane.held[1].delivery.reply == "the newer one"
    assert not lane.held[1].lease_lost
    assert len(reports) == 1
    await runner.close()


async def test_every_held_task_is_renewed(definitions: dict[str, ActivityDefinition]) -> None:
    lane = make_lane(definitions["echo"])
    hold(lane, delivery(1), delivery(2))
    lane.unreadable[3] = delivery(3)
    port = Answers()
    Leases([lane], port).renew()  # type: ignore[arg-type]
    assert port.log == ["renewed 1", "renewed 2", "renewed 3"]
