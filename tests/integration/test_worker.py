"""A worker against a real nats-server: what it stores, acknowledges, hands back and reports."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.support.server import RealServer
from wf.jetstream import client, topology
from wf.jetstream.connection import Connection
from wf.jetstream.embedded import free_port
from wf.jetstream.port import Outgoing, Stored
from wf.process.child import EXIT_BROKER, EXIT_CONFIG, EXIT_RECYCLE, Child
from wf.protocol import messages, subjects
from wf.settings import NatsSettings, PoolSettings, Settings
from wf.worker.activities import load_definitions
from wf.worker.main import Worker
from wf.worker.shutdown import Stopping

ROOT = Path(__file__).parents[2]

ACTIVITIES = """
import asyncio, time
from pathlib import Path
from wf import ActivityError, Context, NonRetryable, Retry, activity

@activity
async def echo(value: int = 0) -> int:
    return value

@activity
def echo_in_thread(value: int = 0) -> int:
    return value

@activity
async def slow(seconds: float, mark: str = "") -> str:
    if mark:
        with open(mark, "a") as file: file.write("started\\n")
    await asyncio.sleep(seconds)
    return "done"

@activity
def slow_in_thread(seconds: float, context: Context) -> bool:
    limit = time.monotonic() + seconds
    while time.monotonic() < limit and not context.cancelled.wait(0.02):
        pass
    return context.cancel_requested

@activity
def deaf(seconds: float) -> None:
    time.sleep(seconds)

@activity(retry=Retry(max_attempts=7, delay="2s"))
async def fails(kind: str) -> None:
    if kind == "declined":
        raise NonRetryable("no money", type="https://shop/declined", status=402)
    if kind == "own":
        raise ActivityError("hm", title="Own", status=503)
    raise ValueError("plain")

@activity
async def big(size: int) -> str:
    return "x" * size

@activity
async def about_itself(context: Context) -> dict:
    assert context.logger
    context.heartbeat({"page": 1})
    return {
        "instance": context.instance, "workflow": context.workflow, "task": context.task,
        "activity": context.activity, "run": context.run, "attempt": context.attempt,
        "key": context.idempotency_key, "traceparent": context.traceparent,
        "in_time": 0 < context.remaining_s <= 30,
    }

@activity
async def stubborn(seconds: float) -> None:
    limit = asyncio.get_running_loop().time() + seconds
    while (left := limit - asyncio.get_running_loop().time()) > 0:
        try:
            await asyncio.sleep(left)
        except asyncio.CancelledError:
            continue
"""


class Bench:
    """The engine's side of the wire, and workers in this process."""

    def __init__(self, url: str, folder: Path, port: client.JetStream) -> None:
        self.url = url
        self.port = port
        self.module = folder / "activities.py"
        self.module.write_text(ACTIVITIES)
        self.running: list[tuple[Stopping, asyncio.Task[int]]] = []
        self.number = 0

    def settings(self, **pool: Any) -> Settings:
        defaults = PoolSettings(timeout=30.0)
        name = pool.pop("name", "pool")
        return Settings(
            path=self.module.parent / "pool.toml",
            activities_dir=self.module.parent,
            workflows_dir=self.module.parent,
            nats=NatsSettings(embedded=False, servers=[self.url]),
            worker_defaults=defaults,
            pools={name: PoolSettings(**{"timeout": 30.0, **pool})} if pool else {},
        )

    def child(self, *activities: str, **pool: Any) -> Child:
        return Child(
            name="worker pool #0",
            role="worker",
            pool="pool",
            index=0,
            settings=self.settings(**pool),
            activities=activities,
            modules=(str(self.module),),
        )

    async def close(self) -> None:
        for stopping, task in self.running:
            stopping.request(0, "the test ends")
            await task

    async def consumer(self, activity: str, **changed: Any) -> None:
        shape = {"ack_wait_s": 30.0, "max_deliver": 20, "max_ack_pending": 1000, **changed}
        await self.port.ensure_task_consumer(activity, **shape)

    async def start(self, *activities: str, **pool: Any) -> tuple[Stopping, asyncio.Task[int]]:
        """A worker in this process, with a connection of its own."""
        child = self.child(*activities, **pool)
        for activity in activities:
            await self.consumer(
                activity,
                ack_wait_s=child.settings.pool("pool").ack_wait,
                max_deliver=child.settings.pool("pool").max_deliver,
            )
        port = await client.connect(Connection((self.url,)), role="worker", name="worker")
        stopping = Stopping()
        definitions = load_definitions(child.modules, child.activities)
        worker = Worker(child, definitions, port, stopping)

        async def run() -> int:
            try:
                return await worker.run()
            finally:
                await port.close()

        task = asyncio.ensure_future(run())
        self.running.append((stopping, task))
        return stopping, task

    async def send(self, activity: str, input: Any = None, **changed: Any) -> str:
        """Store a task; its instance."""
        self.number += 1
        instance = changed.pop("instance", f"order-{self.number}-{activity}"[:64])
        headers = changed.pop("headers", None)
        body = messages.task_body(
            **{
                "instance": instance,
                "workflow": "order",
                "version": "1",
                "run": 1,
                "attempt": 1,
                "pointer": "/do/0/call",
                "input": input,
                **changed,
            }
        )
        (outcome,) = await self.port.publish(
            topology.ACTIVITY_TASKS,
            [Outgoing(subjects.task(activity), orjson.dumps(body), headers=headers)],
        )
        assert hasattr(outcome, "sequence"), outcome
        return instance

    async def results(self, instance: str, activity: str) -> list[Stored]:
        return await self.port.scan(
            topology.WORKFLOW_EVENTS, f"{subjects.completed(instance, activity)}.*"
        )

    async def result(self, instance: str, activity: str) -> dict[str, Any]:
        """The body of the result, once it is stored."""
        stored = await until(lambda: self.results(instance, activity))
        return orjson.loads(stored[0].data)

    async def call(self, activity: str, input: Any = None, **changed: Any) -> dict[str, Any]:
        return await self.result(await self.send(activity, input, **changed), activity)

    async def info(self, activity: str) -> dict[str, Any]:
        name = topology.consumer_name(activity)
        return await self.port.api(f"CONSUMER.INFO.{topology.ACTIVITY_TASKS}.{name}")

    async def settled(self, activity: str) -> None:
        """Wait until the consumer has nothing left, delivered or not."""

        async def nothing_left() -> bool:
            info = await self.info(activity)
            return info["num_pending"] == 0 and info["num_ack_pending"] == 0

        await until(nothing_left)


async def until(condition: Callable[[], Any], limit_s: float = 15.0) -> Any:
    """The first true value that `condition` gives."""
    limit = time.monotonic() + limit_s
    while True:
        value = condition()
        if asyncio.iscoroutine(value):
            value = await value
        if value:
            return value
        assert time.monotonic() < limit, "it did not come true in time"
        await asyncio.sleep(0.01)


@pytest.fixture
def b(
    nats_server: RealServer, js: client.JetStream, runner: asyncio.Runner, tmp_path: Path
) -> Iterator[Bench]:
    made = Bench(nats_server.url, tmp_path, js)
    yield made
    runner.run(made.close())


async def test_a_task_is_run_its_result_stored_and_then_acknowledged(b: Bench) -> None:
    await b.start("echo", "echo_in_thread")
    for activity in ("echo", "echo_in_thread"):
        body = await b.call(activity, {"value": 42}, run=3, attempt=2)
        assert body == {
            "v": 1, "run": 3, "attempt": 2, "outcome": "completed", "output": 42,
        }  # fmt: skip
        await b.settled(activity)


async def test_many_tasks_all_get_their_results_once(b: Bench) -> None:
    tasks = [
        Outgoing(
            subjects.task("echo"),
            orjson.dumps(
                messages.task_body(
                    instance=f"many-{n}", workflow="o", version="1", run=1, attempt=1,
                    pointer="/do/0", input={"value": n},
                )
            ),
        )
        for n in range(1000)
    ]  # fmt: skip
    await b.port.publish_batch(topology.ACTIVITY_TASKS, tasks)
    await b.start("echo")
    await b.settled("echo")
    counts = await b.port.subjects(topology.WORKFLOW_EVENTS, "workflow.activity.completed.*.echo.*")
    assert len(counts) == 1000
    assert set(counts.values()) == {1}


async def test_the_context_tells_about_the_call(b: Bench) -> None:
    await b.start("about_itself")
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    instance = await b.send("about_itself", None, run=9, headers={"traceparent": trace})
    assert (await b.result(instance, "about_itself"))["output"] == {
        "instance": instance, "workflow": "order", "task": "/do/0/call",
        "activity": "about_itself", "run": 9, "attempt": 1, "key": f"{instance}:9",
        "traceparent": trace, "in_time": True,
    }  # fmt: skip
    (stored,) = await b.results(instance, "about_itself")
    assert stored.headers is not None
    assert stored.headers["traceparent"] == trace


async def test_errors_become_failed_results(b: Bench) -> None:
    await b.start("fails")
    plain = await b.call("fails", {"kind": "plain"})
    assert (plain["outcome"], plain["retryable"]) == ("failed", True)
    assert plain["error"]["title"] == "ValueError"
    assert plain["error"]["status"] == 500
    assert "activities.py" in plain["error"]["traceback"]
    assert "wf/worker" not in plain["error"]["traceback"]
    assert plain["retry"]["max_attempts"] == 7
    own = await b.call("fails", {"kind": "own"})
    assert (own["error"]["title"], own["error"]["status"]) == ("Own", 503)
    declined = await b.call("fails", {"kind": "declined"})
    assert declined["retryable"] is False
    assert declined["error"]["type"] == "https://shop/declined"


async def test_a_retry_policy_in_the_pool_s_table_wins(b: Bench) -> None:
    await b.start("fails", retry={"max_attempts": 2})
    assert (await b.call("fails", {"kind": "plain"}))["retry"]["max_attempts"] == 2


async def test_invalid_input_is_not_retried(b: Bench) -> None:
    await b.start("echo")
    body = await b.call("echo", {"valu": "x"})
    assert (body["outcome"], body["retryable"]) == ("failed", False)
    assert body["error"]["type"].endswith("/errors/validation")
    assert body["error"]["status"] == 400
    assert "did you mean 'value'" in body["error"]["detail"]


async def test_an_output_over_the_broker_s_limit_is_a_fault_of_its_run(b: Bench) -> None:
    await b.start("big")
    body = await b.call("big", {"size": 9_000_000})
    assert (body["outcome"], body["retryable"]) == ("failed", False)
    assert body["error"]["status"] == 413
    await b.settled("big")
    assert len((await b.call("big", {"size": 100_000}))["output"]) == 100_000


async def test_async_activities_are_cancelled_at_their_timeout(b: Bench) -> None:
    await b.start("slow", timeout=0.2)
    started = time.monotonic()
    body = await b.call("slow", {"seconds": 60})
    assert time.monotonic() - started < 5
    assert (body["outcome"], body["error"]["status"]) == ("timed-out", 408)
    assert "not done after 0.2 s" in body["error"]["detail"]
    assert (await b.call("slow", {"seconds": 0}))["outcome"] == "completed"


async def test_def_activities_are_reported_at_their_timeout_and_may_come_back(b: Bench) -> None:
    _, task = await b.start("slow_in_thread", timeout=0.2, concurrency=1)
    body = await b.call("slow_in_thread", {"seconds": 60})
    assert body["outcome"] == "timed-out"
    assert "context.cancelled.wait" in body["error"]["traceback"]
    assert (await b.call("slow_in_thread", {"seconds": 0}))["outcome"] == "completed"
    assert not task.done()


async def test_a_thread_that_cannot_be_ended_gets_its_worker_recycled(
    b: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wf.worker.recycling.STUCK_GRACE_S", 0.5)
    _, task = await b.start("deaf", timeout=0.2, concurrency=2)
    assert (await b.call("deaf", {"seconds": 20}))["outcome"] == "timed-out"
    assert (await b.call("deaf", {"seconds": 0}))["outcome"] == "completed"
    assert await asyncio.wait_for(task, 10) == EXIT_RECYCLE


async def test_a_coroutine_that_ignores_its_cancellation_gets_its_worker_recycled(
    b: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wf.worker.recycling.STUCK_GRACE_S", 0.5)
    monkeypatch.setattr("wf.worker.deadlines.CANCEL_GRACE_S", 0.3)
    _, task = await b.start("stubborn", timeout=0.2)
    assert (await b.call("stubborn", {"seconds": 2}))["outcome"] == "timed-out"
    assert await asyncio.wait_for(task, 10) == EXIT_RECYCLE


async def test_a_long_task_is_not_delivered_again_while_it_runs(b: Bench, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    await b.start("slow", ack_wait=0.5)
    body = await b.call("slow", {"seconds": 2.0, "mark": str(mark)})
    assert body["output"] == "done"
    await b.settled("slow")
    assert mark.read_text() == "started\n"
    assert (await b.info("slow"))["num_redelivered"] == 0


async def test_waiting_tasks_keep_their_lease_too(b: Bench, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    names = [await b.send("slow", {"seconds": 0.7, "mark": str(mark)}) for _ in range(3)]
    await b.start("slow", ack_wait=0.5, concurrency=1, prefetch=2)
    for name in names:
        assert (await b.result(name, "slow"))["output"] == "done"
    assert mark.read_text() == "started\n" * 3


async def test_no_task_waits_behind_a_long_one_while_another_worker_is_free(
    b: Bench, tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    await b.start("slow", concurrency=1)
    await b.send("slow", {"seconds": 1.5, "mark": str(mark)})
    await until(mark.exists)
    await b.start("slow", concurrency=1)
    started = time.monotonic()
    name = await b.send("slow", {"seconds": 0})
    await b.result(name, "slow")
    assert time.monotonic() - started < 0.7


async def test_draining_hands_unstarted_tasks_to_another_worker_at_once(
    b: Bench, tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    first = await b.send("slow", {"seconds": 0.8, "mark": str(mark)})
    stopping, task = await b.start("slow", concurrency=1, prefetch=5)
    await until(lambda: mark.exists())
    others = [await b.send("slow", {"seconds": 0.0}) for _ in range(5)]

    async def five_are_held() -> bool:
        return bool((await b.info("slow"))["num_ack_pending"] == 6)

    await until(five_are_held)
    await b.start("slow", concurrency=5, prefetch=0)
    drained = time.monotonic()
    stopping.request(0, "drain")
    for other in others:
        await b.result(other, "slow")
    assert time.monotonic() - drained < 0.5, "long before the running task ends"
    assert await task == 0
    assert (await b.result(first, "slow"))["output"] == "done"
    await b.settled("slow")


async def test_draining_cancels_and_hands_back_what_does_not_finish_in_time(
    b: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Child, "grace", lambda self: 0.5)
    mark = tmp_path / "mark"
    name = await b.send("slow", {"seconds": 30, "mark": str(mark)})
    stopping, task = await b.start("slow")
    await until(lambda: mark.exists())
    stopping.request(0, "drain")
    assert await asyncio.wait_for(task, 5) == 0
    assert await b.results(name, "slow") == []
    again, second = await b.start("slow")
    await until(lambda: mark.read_text() == "started\n" * 2)
    again.request(0, "drain")
    await second


async def test_the_last_delivery_is_reported_and_not_run(b: Bench, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    await b.consumer("slow", max_deliver=3)
    name = await b.send("slow", {"seconds": 0, "mark": str(mark)})
    pull = await b.port.pull(topology.ACTIVITY_TASKS, topology.consumer_name("slow"), window=1)
    (delivery,) = await pull.next(1)
    b.port.nak(delivery)
    (delivery,) = await pull.next(1)
    await pull.stop()  # first: an open pull gets back what it hands back
    b.port.nak(delivery)
    await b.start("slow", max_deliver=3)
    body = await b.result(name, "slow")
    assert (body["outcome"], body["retryable"]) == ("undeliverable", False)
    assert body["evidence"]["deliveries"] == 3
    assert body["evidence"]["subject"] == "activity.tasks.slow"
    assert not mark.exists()
    await b.settled("slow")


async def test_a_message_that_cannot_be_read_is_dead_lettered_before_it_is_ended(b: Bench) -> None:
    await b.start("echo")
    for data in (b"no json", b'{"v":9}', b'{"v":1,"instance":"x"}'):
        await b.port.publish(topology.ACTIVITY_TASKS, [Outgoing(subjects.task("echo"), data)])
    await b.settled("echo")
    letters = await b.port.scan(topology.DEAD_LETTERS, "dead.message.echo")
    bodies = [orjson.loads(letter.data) for letter in letters]
    assert {body["payload"] for body in bodies} == {
        "no json", '{"v":9}', '{"v":1,"instance":"x"}',
    }  # fmt: skip
    assert all(body["evidence"]["subject"] == "activity.tasks.echo" for body in bodies)
    assert any("version 9 is not known" in body["reason"] for body in bodies)


async def test_a_task_delivered_twice_gives_one_result_in_the_window(b: Bench) -> None:
    await b.start("echo")
    for _ in range(2):
        await b.send("echo", {"value": 1}, instance="twice")
    await b.result("twice", "echo")
    await b.settled("echo")
    assert len(await b.results("twice", "echo")) == 1


async def test_the_catalogue_is_written_once_and_when_it_differs(b: Bench) -> None:

    async def entry() -> Stored | None:
        return await b.port.last(topology.ACTIVITY_CATALOG, subjects.catalog("echo"))

    for same in range(2):
        stopping, task = await b.start("echo")
        await b.call("echo")
        stopping.request(0, f"again {same}")
        await task
    first = await entry()
    assert first is not None
    body = orjson.loads(first.data)
    assert (body["v"], body["name"], body["timeout_s"]) == (1, "echo", 30.0)
    assert body["consumer"] == {
        "ack_wait_s": 30.0, "max_deliver": 20, "max_ack_pending": 10000,
    }  # fmt: skip
    assert body["input_schema"]["properties"]["value"]["type"] == "integer"
    await b.start("echo", ack_wait=7.0)
    await b.call("echo")
    second = await entry()
    assert second is not None
    assert second.sequence == first.sequence + 1
    # The first may still be at work: its leases are for 30 s, so the largest holds for a while.
    body = orjson.loads(second.data)
    assert body["consumer"]["ack_wait_s"] == 30.0
    assert sorted(one["consumer"]["ack_wait_s"] for one in body["claims"]) == [7.0, 30.0]


async def test_a_worker_waits_until_the_engine_has_made_the_consumer(b: Bench) -> None:
    await b.consumer("echo")
    await b.port.api(f"CONSUMER.DELETE.{topology.ACTIVITY_TASKS}.{topology.consumer_name('echo')}")
    child = b.child("echo")
    port = await client.connect(Connection((b.url,)), role="worker", name="worker")
    stopping = Stopping()
    definitions = load_definitions(child.modules, child.activities)
    task = asyncio.ensure_future(Worker(child, definitions, port, stopping).run())
    name = await b.send("echo", {"value": 5})
    await until(lambda: b.port.last(topology.ACTIVITY_CATALOG, subjects.catalog("echo")))
    assert await b.results(name, "echo") == []
    await b.consumer("echo")
    assert (await b.result(name, "echo"))["output"] == 5
    stopping.request(0, "done")
    assert await task == 0
    await port.close()


PROCESS = """
import functools, os, signal, sys
import orjson
from wf.process.child import Child
from wf.settings import NatsSettings, PoolSettings, Settings
from wf.jetstream import client
from wf.jetstream.client import JetStream
from wf.worker.main import run

client.connect = functools.partial(client.connect, timeout_s=2.0)

url, module, activities, pool, die_at_ack = orjson.loads(sys.argv[1])
if die_at_ack:
    JetStream.ack = lambda self, delivery: os.kill(os.getpid(), signal.SIGKILL)
settings = Settings(
    path=module, activities_dir="/", workflows_dir="/",
    nats=NatsSettings(embedded=False, servers=[url]),
    pools={"pool": PoolSettings(**pool)},
)
child = Child("worker pool #0", "worker", "pool", 0, settings, tuple(activities), (module,), 1)
status = run(child)
sys.stderr.flush()
os._exit(status)
"""


@pytest.fixture
def processes() -> Iterator[list[subprocess.Popen[str]]]:
    made: list[subprocess.Popen[str]] = []
    yield made
    for process in made:
        process.kill()
        process.communicate()


def spawn(
    b: Bench,
    processes: list[subprocess.Popen[str]],
    *activities: str,
    die: bool = False,
    **pool: Any,
) -> subprocess.Popen[str]:
    """A worker process, as the supervisor would run it; its report goes to stdout."""
    arguments = orjson.dumps([b.url, str(b.module), activities, pool, die]).decode()
    process = subprocess.Popen(
        [sys.executable, "-c", PROCESS, arguments],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    processes.append(process)
    return process


async def test_a_worker_killed_between_result_and_ack_loses_nothing(
    b: Bench, processes: list[subprocess.Popen[str]]
) -> None:
    await b.consumer("echo", ack_wait_s=0.7)
    name = await b.send("echo", {"value": 8})
    process = spawn(b, processes, "echo", die=True, ack_wait=0.7)
    assert await asyncio.to_thread(process.wait, 20) == -signal.SIGKILL
    assert (await b.result(name, "echo"))["output"] == 8, "stored before the ack"
    assert (await b.info("echo"))["num_ack_pending"] == 1, "and not acknowledged"
    await b.start("echo", ack_wait=0.7)
    await b.settled("echo")
    assert len(await b.results(name, "echo")) == 1


async def test_sigterm_drains_a_worker_process(
    b: Bench, processes: list[subprocess.Popen[str]], tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    await b.consumer("slow")
    name = await b.send("slow", {"seconds": 0.3, "mark": str(mark)})
    process = spawn(b, processes, "slow")
    await until(mark.exists)
    process.terminate()
    out, errors = await asyncio.to_thread(process.communicate, timeout=20)
    assert process.returncode == 0, errors
    assert "worker.drained" in errors
    events = [orjson.loads(line) for line in out.splitlines()]
    assert events == [{"event": "ready"}, {"event": "progress", "done": 1}]
    assert (await b.result(name, "slow"))["output"] == "done"


async def test_a_second_signal_does_not_wait_for_running_tasks(
    b: Bench, processes: list[subprocess.Popen[str]], tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    await b.consumer("slow")
    await b.send("slow", {"seconds": 30, "mark": str(mark)})
    process = spawn(b, processes, "slow")
    await until(mark.exists)
    process.terminate()

    def read_until_stopping() -> None:
        assert process.stderr is not None
        assert any("worker.stopping" in line for line in process.stderr)

    await asyncio.to_thread(read_until_stopping)
    process.terminate()
    assert await asyncio.to_thread(process.wait, 10) == 0


async def test_a_module_that_fails_to_import_is_reported_with_its_traceback(
    b: Bench, processes: list[subprocess.Popen[str]]
) -> None:
    b.module.write_text("import no_such_module")
    process = spawn(b, processes, "echo")
    out, errors = await asyncio.to_thread(process.communicate, timeout=20)
    assert process.returncode == EXIT_CONFIG
    report = orjson.loads(out)
    assert (report["event"], report["cause"]) == ("failed", "import")
    assert "No module named 'no_such_module'" in report["error"]
    assert "worker.import_failed" in errors


async def test_a_worker_is_recycled_after_max_tasks(
    b: Bench, processes: list[subprocess.Popen[str]]
) -> None:
    await b.consumer("echo")
    process = spawn(b, processes, "echo", max_tasks=5)
    for _ in range(5):
        await b.call("echo")
    assert await asyncio.to_thread(process.wait, 20) == EXIT_RECYCLE


async def test_a_worker_over_its_memory_is_recycled(
    b: Bench, processes: list[subprocess.Popen[str]]
) -> None:
    await b.consumer("echo")
    process = spawn(b, processes, "echo", max_memory=1024 * 1024)
    _, errors = await asyncio.to_thread(process.communicate, timeout=20)
    assert process.returncode == EXIT_RECYCLE
    assert "max_memory" in errors


async def test_a_broker_that_cannot_be_reached_is_said_so(
    b: Bench, processes: list[subprocess.Popen[str]]
) -> None:
    b.url = f"nats://127.0.0.1:{free_port()}"
    process = spawn(b, processes, "echo")
    out, _ = await asyncio.to_thread(process.communicate, timeout=30)
    assert process.returncode == EXIT_BROKER
    assert orjson.loads(out)["cause"] == "broker"


async def test_results_wait_for_a_broker_that_is_away(broker: RealServer, tmp_path: Path) -> None:
    js = await broker.connect()
    await topology.ensure(js, broker.settings())
    b = Bench(broker.url, tmp_path, js)
    mark = tmp_path / "mark"
    await b.start("slow")
    name = await b.send("slow", {"seconds": 0.5, "mark": str(mark)})
    await until(mark.exists)
    broker.kill9()
    await asyncio.sleep(0.7)  # the task ends while there is no broker
    broker.start()
    assert (await b.result(name, "slow"))["output"] == "done"
    await b.settled("slow")
    assert mark.read_text() == "started\n"
    await b.close()
    await js.close()
