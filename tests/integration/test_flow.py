"""One workflow, step for step, as it passes over the wire and as the streams hold it.

A fails never, B fails at its first attempt, and its policy allows a second. The worker is a real
process; the order of its steps and the engine's is what the broker saw (tests/support/tap.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from orchestrator.definition import parse
from orchestrator.state.history_fold import fold
from tests.support.engine import deploy, ended, engine, history, settled, snapshot, start
from tests.support.server import RealServer, end_with_the_tests
from tests.support.tap import ACKED, DELIVERED, PUBLISHED, STORED, Seen, Tap, assert_order
from tests.support.waiting import eventually
from wf.jetstream import topology
from wf.jetstream.client import JetStream
from wf.jetstream.port import Accepted, Outgoing
from wf.protocol import messages, subjects
from wf.protocol.ids import derived_id

ROOT = Path(__file__).parents[2]

FLOW = """
document: {dsl: '1.0.0', namespace: default, name: flow, version: '1.0.0'}
do:
  - first: {call: a, with: {n: "${ .n }"}}
  - second: {call: b, with: {n: "${ .n }"}}
"""

ACTIVITIES = """
from wf import Context, Retry, activity

@activity
def a(n: int, context: Context) -> dict[str, int]:
    note(context)
    return {"n": n + 1}

@activity(retry=Retry(max_attempts=3, delay="20ms"))
async def b(n: int, context: Context) -> dict[str, int]:
    note(context)
    if context.attempt == 1:
        raise ConnectionError("not yet")
    return {"n": n * 10}

def note(context: Context) -> None:
    with open(LEDGER, "a") as file:
        file.write(f"{context.activity} {context.attempt}\\n")
"""

LIMIT_S = 20.0


class Worker:
    """`wf worker` as a process of its own, and what its activities noted."""

    def __init__(self, url: str, folder: Path) -> None:
        self.ledger = folder / "ledger"
        module = folder / "activities.py"
        module.write_text(f"{ACTIVITIES}\nLEDGER = {str(self.ledger)!r}\n")
        command = [sys.executable, "-m", "wf.cli.main", "worker"]
        self.log = folder / "worker.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*command, "--activities", str(module), "--server", url],
                cwd=ROOT,
                stdout=log,
                stderr=log,
                preexec_fn=end_with_the_tests,
            )

    @property
    def ran(self) -> list[str]:
        """`<activity> <attempt>`, in order."""
        return self.ledger.read_text().splitlines() if self.ledger.exists() else []


@contextlib.asynccontextmanager
async def worker(server: RealServer, folder: Path) -> AsyncIterator[Worker]:
    made = Worker(server.url, folder)
    try:
        yield made
    finally:
        made.process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(made.process.wait, 10) == 0, made.log.read_text()


async def start_without_id(js: JetStream) -> str:
    """A start as any program may publish it; the id that the orchestrator will make of it."""
    message = Outgoing(
        subjects.start("default", "flow"),
        messages.encode(messages.start_body(instance=None, input={"n": 1})),
    )
    (outcome,) = await js.publish(topology.WORKFLOW_EVENTS, [message])
    assert isinstance(outcome, Accepted)
    stored = await js.at(topology.WORKFLOW_EVENTS, outcome.sequence)
    assert stored is not None
    return derived_id(outcome.sequence, stored.timestamp_ms)


async def all_acked(js: JetStream) -> None:
    """Every event and every task."""
    await settled(js)

    async def look() -> bool:
        infos = [
            await js.api(f"CONSUMER.INFO.{topology.ACTIVITY_TASKS}.{topology.consumer_name(name)}")
            for name in "ab"
        ]
        return not any(info["num_ack_pending"] or info["num_pending"] for info in infos)

    await eventually(look, what="all tasks acknowledged")


def check_result(final: dict[str, Any], stored: list[dict[str, Any]]) -> None:
    """Completed, and the history says the same."""
    commit = final["commit"]
    assert (final["status"], final["output"]) == ("completed", {"n": 20})
    rest = {key: value for key, value in final.items() if key != "commit"}
    assert fold(stored, lambda *_: parse(FLOW)) == rest
    places = {(m["commit"], m["n"]): (m["stream"], m["sequence"]) for m in stored}
    assert {number for number, _ in places} == set(range(1, commit["number"] + 1))
    assert len(set(places.values())) == len(places), "an event took effect twice"


async def test_the_flow_step_for_step(
    js: JetStream, nats_server: RealServer, tmp_path: Path
) -> None:
    async with await Tap.open(nats_server) as tap:
        await deploy(js, FLOW)
        async with engine(nats_server), worker(nats_server, tmp_path) as process:
            name = await start_without_id(js)
            final = await ended(js, name, limit_s=LIMIT_S)
            await all_acked(js)
            await eventually(lambda: acks(tap, 5 + 3), what="the tap has seen every ack")
        check_result(final, await history(js, name))
        check_snapshots(tap, name)
        check_engine(tap, name)
        check_worker(tap)
        assert process.ran == ["a 1", "b 1", "b 2"]


async def acks(tap: Tap, count: int) -> bool:
    return len(tap.all(ACKED)) >= count


def check_snapshots(tap: Tap, name: str) -> None:
    """Five revisions, each written over the one before: what they say, and the compare-and-set."""
    written = tap.all(PUBLISHED, subjects.state(name))
    stored = tap.all(STORED, subjects.state(name))
    expected = [int(one.headers["Nats-Expected-Last-Subject-Sequence"]) for one in written]
    assert expected == [0, *(one.sequence for one in stored[:-1])]
    assert [one.body["status"] for one in written] == ["running"] * 4 + ["completed"]
    runs = [
        {(number, run["activity"], run["attempt"]) for number, run in one.body["runs"].items()}
        for one in written
    ]
    assert runs == [
        {("1", "a", 1)},
        {("2", "b", 1)},
        {("2", "b", 2)},  # the attempt is counted before the delay that the policy wants
        {("2", "b", 2)},
        set(),
    ]
    assert [len(one.body["timers"]) for one in written] == [0, 0, 1, 0, 0]


def check_engine(tap: Tap, name: str) -> None:
    """Of each event: delivered, snapshot stored, all that follows stored, acknowledged."""
    commits = list(zip(snapshots(tap, PUBLISHED, name), snapshots(tap, STORED, name), strict=True))
    timers = subjects.timer_scheduled(name, "")
    outboxes = [
        ["activity.tasks.a"],
        ["activity.tasks.b"],
        [timers],
        ["activity.tasks.b"],
        [],
    ]
    taken: dict[str, int] = {}
    for (written, stored), subjects_out in zip(commits, outboxes, strict=True):
        ((stream, sequence),) = written.body["commit"]["events"]
        (came,) = tap.all(DELIVERED, stream=stream, sequence=sequence)
        (acked,) = tap.all(ACKED, stream=stream, sequence=sequence)
        for subject in (*subjects_out, subjects.history(name)):
            nth = taken.get(subject, 0)
            taken[subject] = nth + 1
            sent = tap.all(PUBLISHED, subject)[nth]
            assert_order(came, written, stored, sent, tap.all(STORED, subject)[nth], acked)
    for subject in ("activity.tasks.a", "activity.tasks.b", timers, subjects.history(name)):
        assert len(tap.all(PUBLISHED, subject)) == taken[subject], f"more of {subject}"


def snapshots(tap: Tap, kind: str, name: str) -> list[Seen]:
    return tap.all(kind, subjects.state(name))


def check_worker(tap: Tap) -> None:
    """Of each task: delivered, result stored, acknowledged."""
    outcomes = {}
    for came in tap.all(DELIVERED, stream=topology.ACTIVITY_TASKS):
        task = came.body
        activity = came.subject.rpartition(".")[2]
        subject = subjects.completed(task["instance"], activity)
        nth = task["attempt"] - 1
        sent, stored = tap.all(PUBLISHED, subject)[nth], tap.all(STORED, subject)[nth]
        assert (sent.body["run"], sent.body["attempt"]) == (task["run"], task["attempt"])
        (acked,) = tap.all(ACKED, stream=topology.ACTIVITY_TASKS, sequence=came.sequence)
        assert_order(came, sent, stored, acked)
        outcomes[activity, task["attempt"]] = sent.body["outcome"]
    assert outcomes == {("a", 1): "completed", ("b", 1): "failed", ("b", 2): "completed"}


async def test_every_message_again_after_the_end_changes_nothing(
    js: JetStream, nats_server: RealServer, tmp_path: Path
) -> None:
    await deploy(js, FLOW)
    async with engine(nats_server) as only, worker(nats_server, tmp_path) as process:
        counts = only.orchestrator._engine.counts
        await start(js, "flow", "i", {"n": 1})
        await ended(js, "i", limit_s=LIMIT_S)
        await all_acked(js)
        before = await js.last(topology.WORKFLOW_STATES, subjects.state("i"))

        # Every delivery once more: the consumers go back to the beginning of their streams.
        await js.reset_consumer(topology.WORKFLOW_EVENTS, topology.ORCHESTRATOR, 1)
        await js.reset_consumer(topology.WORKFLOW_TIMERS, topology.TIMERS, 1)
        for activity in "ab":
            consumer = topology.consumer_name(activity)
            await js.reset_consumer(topology.ACTIVITY_TASKS, consumer, 1)
        await eventually(lambda: ran(process, 6), what="all tasks ran again")
        await eventually(lambda: ignored(counts, 5), what="all events came again")
        await all_acked(js)

        # Every message once more, stored anew: no message id, as after the dedupe window.
        await publish_copies(js)
        await eventually(lambda: ran(process, 9), what="the copies of all tasks ran")
        await eventually(lambda: ignored(counts, 10), what="all copies came")
        await all_acked(js)

        assert await js.last(topology.WORKFLOW_STATES, subjects.state("i")) == before
        assert counts["applied"] == 5
        final = await snapshot(js, "i")
        assert final is not None
        check_result(final, await history(js, "i"))
        assert len(await history(js, "i")) == 5


async def publish_copies(js: JetStream) -> None:
    """Of all starts, results, fired timers and tasks; a start names its instance, or the copy
    would be another start."""
    for stream, subject in (
        (topology.WORKFLOW_EVENTS, ">"),
        (topology.WORKFLOW_TIMERS, topology.FIRED_TIMERS),
        (topology.ACTIVITY_TASKS, ">"),
    ):
        for one in await js.scan(stream, subject):
            bare = ".".join(one.subject.split(".")[:5])  # without the partition
            (outcome,) = await js.publish(stream, [Outgoing(bare, one.data)])
            assert isinstance(outcome, Accepted)


async def ran(process: Worker, count: int) -> bool:
    return len(process.ran) >= count


async def ignored(counts: dict[str, int], count: int) -> bool:
    return sum(value for key, value in counts.items() if key.startswith("ignored.")) >= count


TWICE = {
    "workflow.start.": topology.WORKFLOW_EVENTS,
    "workflow.activity.": topology.WORKFLOW_EVENTS,
    "workflow.history.": topology.WORKFLOW_HISTORY,
    "activity.tasks.": topology.ACTIVITY_TASKS,
}


async def test_every_message_twice_while_it_runs_changes_nothing(
    js: JetStream, nats_server: RealServer, tmp_path: Path
) -> None:
    """A copy of each start, task, result and history message follows it at once."""
    await deploy(js, FLOW)
    copies: list[asyncio.Task[None]] = []

    async with await Tap.open(nats_server) as tap:

        def copy(step: Seen) -> None:
            if step.subject.startswith(tuple(TWICE)) and "Copy" not in step.headers:
                copies.append(asyncio.get_running_loop().create_task(send_copy(js, step)))

        tap.on_published = copy
        async with engine(nats_server), worker(nats_server, tmp_path) as process:
            await start(js, "flow", "i", {"n": 1})
            final = await ended(js, "i", limit_s=LIMIT_S)
            await eventually(lambda: ran(process, 6), what="each task ran twice")
            await all_acked(js)
            await asyncio.gather(*copies)
            assert await snapshot(js, "i") == final
            assert final["commit"]["number"] == 5
            check_result(final, await history(js, "i"))
            assert sorted(process.ran) == ["a 1", "a 1", "b 1", "b 1", "b 2", "b 2"]


async def send_copy(js: JetStream, step: Seen) -> None:
    stream = next(stream for prefix, stream in TWICE.items() if step.subject.startswith(prefix))
    message = Outgoing(step.subject, step.data, headers={"Copy": "1"})
    (outcome,) = await js.publish(stream, [message])
    assert isinstance(outcome, Accepted)
