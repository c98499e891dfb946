"""The client and the command line against a real broker.

A tiny orchestrator inside the test writes snapshots and history in the shapes of the wire
protocol, so that what is tested here is the client alone.
"""

import asyncio
import os
import signal
import sys
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import orjson
import pytest

from wf.client.blocking import BlockingClient
from wf.client.client import Client
from wf.client.definitions import RegisteredDefinition, register
from wf.client.start import Start
from wf.errors import (
    ClientClosed,
    DefinitionConflict,
    IdTaken,
    NotEnded,
    NotFound,
    WorkflowCancelled,
    WorkflowFaulted,
)
from wf.jetstream import topology
from wf.jetstream.port import Outgoing
from wf.monitor.client_workers import client_workers
from wf.protocol import messages, subjects

ROOT = Path(__file__).parents[2]


@pytest.fixture
def client(js):
    return Client(js)


@pytest.fixture
def broker_url(nats_server):
    return nats_server.url


class FakeOrchestrator:
    """Ends every start at once: `fail` faults, `park` stays waiting, all else echoes its input."""

    def __init__(self, port, *, notify=True):
        self.port = port
        self.notify = notify
        self.started = []

    async def run(self):
        pull = await self.port.pull(topology.WORKFLOW_EVENTS, topology.ORCHESTRATOR, window=100)
        try:
            while deliveries := await pull.next(100):
                for delivery in deliveries:
                    await self.handle(delivery)
                    self.port.ack(delivery)
        finally:
            await pull.stop()

    async def handle(self, delivery):
        inbound = subjects.parse_inbound(delivery.subject)
        body = orjson.loads(delivery.data)
        if inbound.kind == "start":
            await self.begin(inbound, body, delivery)
        elif inbound.kind == "command":
            status = {"cancel": "cancelled", "suspend": "suspended", "resume": "waiting"}
            event = {"kind": "command", "verb": inbound.name, "reason": body.get("reason")}
            await self.change(inbound.instance, delivery, event, status=status[inbound.name])
        elif inbound.kind == "signal":
            event = {"kind": "signal", "name": inbound.name, "data": body["data"]}
            await self.change(
                inbound.instance, delivery, event, status="completed", output=body["data"]
            )

    async def begin(self, inbound, body, delivery):
        instance = body["id"]
        if await self.port.last(topology.WORKFLOW_STATES, subjects.state(instance)):
            return
        self.started.append(instance)
        namespace, workflow = subjects.split_qualified(inbound.name)
        end = {"fail": "faulted", "park": "waiting"}.get(workflow, "completed")
        snapshot = {
            "id": instance,
            "workflow": workflow,
            "namespace": namespace,
            "version": body.get("version", "1.0.0"),
            "status": end,
            "input": body["input"],
            "context": {},
            "frames": {},
            "runs": {},
            "timers": {},
            "started_ms": delivery.timestamp_ms,
        }
        if end == "completed":
            snapshot["output"] = body["input"]
        if end == "faulted":
            snapshot["error"] = {"title": "Declined", "status": 500, "detail": "no money"}
        event = {"kind": "start", "workflow": workflow, "input": body["input"]}
        await self.save(snapshot, delivery, event)

    async def change(self, instance, delivery, event, **fields):
        stored = await self.port.last(topology.WORKFLOW_STATES, subjects.state(instance))
        await self.save({**orjson.loads(stored.data), **fields}, delivery, event)

    async def save(self, snapshot, delivery, event):
        instance = snapshot["id"]
        number = snapshot.get("commit", {}).get("number", 0) + 1
        snapshot["commit"] = {"number": number, "token": "t", "events": []}
        if snapshot["status"] in ("completed", "faulted", "cancelled"):
            snapshot["ended_ms"] = delivery.timestamp_ms + 5
        state = Outgoing(subjects.state(instance), orjson.dumps(snapshot))
        await self.port.publish(topology.WORKFLOW_STATES, [state])
        history = messages.encode(
            {
                "v": 1,
                "commit": number,
                "n": 0,
                "now_ms": delivery.timestamp_ms,
                "namespace": snapshot["namespace"],
                "workflow": snapshot["workflow"],
                "version": snapshot["version"],
                "stream": delivery.stream,
                "sequence": delivery.sequence,
                "event": event,
                "entries": [{"type": f"instance.{snapshot['status']}"}],
            }
        )
        twice = [Outgoing(subjects.history(instance), history)] * 2  # as after a replayed outbox
        await self.port.publish(topology.WORKFLOW_HISTORY, twice)
        if self.notify:
            await self.port.publish_core(subjects.finished(instance), b"{}")


@asynccontextmanager
async def orchestrated(port, **options):
    fake = FakeOrchestrator(port, **options)
    task = asyncio.create_task(fake.run())
    try:
        yield fake
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def definition(body=b'{"do":[]}', version="1.0.0"):
    return RegisteredDefinition("default", "order", version, body)


# Definitions


async def test_a_version_is_registered_once_and_never_changes(client):
    port = client.port
    assert await register(port, definition()) == "created"
    assert await register(port, definition()) == "unchanged"
    with pytest.raises(DefinitionConflict) as caught:
        await register(port, definition(b'{"do":[{"pay":{}}]}'))
    assert '+      "pay": {}' in str(caught.value)
    assert "document.version" in str(caught.value)
    assert await register(port, definition(version="1.10.0")) == "created"
    assert await register(port, definition(version="1.9.0")) == "created"
    found = await client.definitions()
    assert [d.title for d in found] == ["order 1.0.0", "order 1.9.0", "order 1.10.0"]
    assert found[0].body == b'{"do":[]}'
    assert found[0].registered_ms > 0


async def test_of_two_that_register_one_version_at_once_exactly_one_creates_it(client):
    outcomes = await asyncio.gather(*(register(client.port, definition()) for _ in range(8)))
    assert sorted(outcomes) == ["created"] + ["unchanged"] * 7


# Starting and waiting


async def test_a_started_instance_gives_its_output(client):
    async with orchestrated(client.port):
        id = await client.start("order", {"n": 1})
        assert len(id) == 26
        done = await client.result(id, timeout_s=10)
        assert (done.status, done.output, done.workflow) == ("completed", {"n": 1}, "order")
        assert "commit" not in done.public()


async def test_starting_an_id_again_starts_nothing(client):
    async with orchestrated(client.port) as fake:
        for number in range(3):
            assert await client.start("order", number, id="order-1") == "order-1"
        assert (await client.result("order-1", timeout_s=10)).output == 0
        again = await client.start_many([Start("order", 9, id="order-1")])
        assert again[0].duplicate
        assert fake.started == ["order-1"]


async def test_many_starts_go_in_batches_and_a_repeated_batch_starts_nothing(client):
    async with orchestrated(client.port) as fake:
        starts = [Start("order", n, id=f"many-{n}") for n in range(1200)]
        started = await client.start_many(starts)
        assert [one.id for one in started] == [one.id for one in starts]
        again = await client.start_many(starts)
        assert all(one.duplicate for one in again)
        done = await asyncio.gather(*(client.result(f"many-{n}") for n in (0, 599, 1199)))
        assert [one.output for one in done] == [0, 599, 1199]
        assert len(fake.started) == len(set(fake.started))


async def test_a_fault_and_a_cancellation_are_raised_and_wait_returns_them(client):
    async with orchestrated(client.port):
        faulted = await client.start("fail", id="f")
        with pytest.raises(WorkflowFaulted, match="no money") as caught:
            await client.result(faulted, timeout_s=10)
        assert caught.value.error["title"] == "Declined"
        assert (await client.wait("f")).status == "faulted"
        await client.start("park", id="p")
        await client.cancel("p", reason="because")
        with pytest.raises(WorkflowCancelled):
            await client.result("p", timeout_s=10)


async def test_waiting_survives_a_lost_notice(client):
    async with orchestrated(client.port, notify=False):
        id = await client.start("order", 1)
        ended = await client.wait_until(id, lambda i: i.is_terminal, timeout_s=10, reread_s=0.05)
        assert ended.output == 1


async def test_waiting_ends_when_the_time_is_over_and_says_how_it_stands(client):
    with pytest.raises(NotEnded, match="not been taken by an orchestrator"):
        await client.result("nobody", timeout_s=0.1)
    async with orchestrated(client.port):
        await client.start("park", id="p")
        await client.wait_until("p", lambda i: i.status == "waiting", timeout_s=10)
        with pytest.raises(NotEnded, match="is waiting"):
            await client.result("p", timeout_s=0.1)


# Looking


async def test_an_unknown_instance_is_not_found(client):
    with pytest.raises(NotFound, match="nobody"):
        await client.get("nobody")
    assert await client.history("nobody") == []


async def test_history_is_in_order_with_duplicates_skipped(client):
    async with orchestrated(client.port):
        await client.start("park", {"n": 1}, id="p")
        await client.suspend("p")
        await client.resume("p")
        await client.signal("p", "go", {"ok": True})
        assert (await client.result("p", timeout_s=10)).output == {"ok": True}
        entries = await client.history("p")
        assert entries[0].definition == "park 1.0.0"
        kinds = [(entry.commit, entry.event["kind"]) for entry in entries]
        assert kinds == [(1, "start"), (2, "command"), (3, "command"), (4, "signal")]


async def test_the_newest_instances_come_first_and_a_bounded_window_says_so(client):
    async with orchestrated(client.port):
        for number in range(10):
            await client.start("fail" if number % 3 == 0 else "order", id=f"i-{number}")
        await asyncio.gather(*(client.wait(f"i-{n}", timeout_s=10) for n in range(10)))
        newest = await client.recent(limit=3)
        assert [one.id for one in newest.instances] == ["i-9", "i-8", "i-7"]
        assert not newest.bounded
        faulted = await client.recent(status="faulted")
        assert [one.id for one in faulted.instances] == ["i-9", "i-6", "i-3", "i-0"]
        assert not faulted.bounded
        seen = await client.recent(window=4)
        assert [one.id for one in seen.instances] == ["i-9", "i-8"]
        assert seen.bounded


# The blocking client and the command line


async def wf(url, *arguments, stdin=b""):
    """(exit status, stdout, stderr) of the command."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "wf.cli.main", *arguments, "--server", url),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    out, err = await asyncio.wait_for(process.communicate(stdin), 30)
    assert b"Traceback" not in err, err.decode()
    return process.returncode, out.decode(), err.decode()


async def test_the_blocking_client_does_the_same(client, broker_url):
    def blocking():
        with BlockingClient(servers=broker_url) as blocked:
            id = blocked.start("order", {"n": 2}, id="b")
            output = blocked.result(id, timeout_s=10).output
            return output, blocked.get(id).status, len(blocked.history(id))

    async with orchestrated(client.port):
        assert await asyncio.to_thread(blocking) == ({"n": 2}, "completed", 1)


async def test_start_with_wait_prints_the_output_and_its_status_tells_the_end(client, broker_url):
    async with orchestrated(client.port):
        status, out, _ = await wf(
            broker_url, "start", "order", "--input", '{"n": 3}', "--wait", "--id", "o"
        )
        assert (status, orjson.loads(out)) == (0, {"n": 3})
        status, out, _ = await wf(
            broker_url, "start", "order", "--input", "-", "--wait", "--json", stdin=b"[4]"
        )
        shape = orjson.loads(out)
        assert (status, shape["status"], shape["output"]) == (0, "completed", [4])
        status, out, err = await wf(broker_url, "start", "fail", "--wait", "--id", "f")
        assert (status, out) == (1, "")
        assert "error: f faulted: Declined: no money" in err
        status, _, err = await wf(
            broker_url, "start", "park", "--wait", "--timeout", "200ms", "--id", "p"
        )
        assert status == 4
        assert "wf show p" in err


async def test_an_id_of_another_workflow_is_refused(client, broker_url):
    async with orchestrated(client.port):
        await client.start("park", id="taken")
        await client.wait_until("taken", lambda i: i.status == "waiting", timeout_s=10)
        with pytest.raises(IdTaken, match="an instance of park"):
            await client.start("order", id="taken")
        with pytest.raises(IdTaken):  # the broker has just seen the id, so it is looked up
            await client.start_many([Start("order", None, "taken"), Start("order", None, "free")])
        assert await client.start("park", id="taken") == "taken"
        status, _, err = await wf(broker_url, "start", "order", "--id", "taken", "--wait")
        assert status == 1
        assert "choose another id" in err


async def test_a_closed_client_fails_at_once(broker_url):
    client = await Client.connect(servers=broker_url)
    await client.close()
    await client.close()
    for call in (client.start("order"), client.get("a"), client.wait("a"), client.emit("a.b")):
        with pytest.raises(ClientClosed, match="closed"):
            await asyncio.wait_for(call, 0.5)


def _in_fork(work):
    """What `work` raises in a forked child, by name; "" for nothing, "hangs" after 5 s."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(5)
        said = ""
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - told to the parent
            said = type(error).__name__
        os.write(writer, said.encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        said = pipe.read()
    return "hangs" if os.waitpid(child, 0)[1] else said


def test_a_blocking_client_is_of_no_use_in_a_fork_and_says_so_at_once(broker_url):
    with BlockingClient(servers=broker_url) as client:
        assert _in_fork(lambda: client.start("order", 1)) == "ClientClosed"
        assert _in_fork(client.close) == ""
        assert client.start("order", 1)  # the parent's connection is as it was
    with pytest.raises(ClientClosed):
        client.start("order", 1)


async def test_a_signal_that_nothing_listens_for_is_refused_with_what_there_is(client, broker_url):
    await client.deploy(
        """
document: {dsl: 1.0.0, namespace: default, name: park, version: 1.0.0}
do:
  - approved: {listen: {to: {one: {with: {type: com.example.approved}}}}}
"""
    )
    async with orchestrated(client.port):
        await client.start("park", id="p")
        await client.wait_until("p", lambda i: i.status == "waiting", timeout_s=10)
        status, _, err = await wf(broker_url, "signal", "p", "aproved")
        assert status == 1
        assert "approved, com.example.approved" in err
        status, out, _ = await wf(broker_url, "signal", "p", "approved", "--json")
        assert (status, orjson.loads(out)["taken"]) == (0, True)


async def test_a_definition_that_nothing_needs_can_be_removed(client, broker_url):
    text = "document: {{dsl: 1.0.0, namespace: default, name: {}, version: 1.0.0}}\ndo: [{}]"
    await client.deploy(text.format("park", "{a: {set: {x: 1}}}"))
    run = "{a: {run: {workflow: {namespace: default, name: park, version: 1.0.0}}}}"
    await client.deploy(text.format("mother", run))
    async with orchestrated(client.port):
        await client.start("park", id="p")
        await client.wait_until("p", lambda i: i.status == "waiting", timeout_s=10)
        status, _, err = await wf(broker_url, "undeploy", "park", "1.0.0")
        assert (status, "mother 1.0.0 runs it" in err) == (1, True)
        status, out, err = await wf(broker_url, "undeploy", "mother", "1.0.0")
        assert (status, out) == (0, "mother 1.0.0 is removed\n"), err
        status, _, err = await wf(broker_url, "undeploy", "park", "1.0.0")
        assert (status, "needed by p (waiting)" in err) == (1, True)
        await client.cancel("p")
        await client.wait("p", timeout_s=10)
        assert (await wf(broker_url, "undeploy", "park", "1.0.0"))[0] == 0
        assert await client.definitions() == []
        assert (await wf(broker_url, "undeploy", "park", "1.0.0"))[0] == 1


async def test_show_list_and_history_print_tables_and_json(client, broker_url):
    async with orchestrated(client.port):
        await client.start("order", {"n": 5}, id="o")
        await client.result("o", timeout_s=10)
        status, out, _ = await wf(broker_url, "show", "o", "--json")
        snapshot = orjson.loads(out)
        assert (status, snapshot["output"], "commit" in snapshot) == (0, {"n": 5}, False)
        _, out, _ = await wf(broker_url, "show", "o", "--raw")
        assert orjson.loads(out)["commit"]["number"] == 1
        _, out, _ = await wf(broker_url, "show", "o")
        assert "completed" in out
        _, out, _ = await wf(broker_url, "list", "--json")
        (listed,) = orjson.loads(out)
        assert (listed["id"], listed["status"], listed["workflow"]) == (
            "o",
            "completed",
            "order",
        )
        _, out, _ = await wf(broker_url, "history", "o")
        assert "instance.completed" in out
        status, out, err = await wf(broker_url, "show", "nobody", "--json")
        assert (status, out) == (1, "")
        assert "error: there is no instance 'nobody'" in err


async def test_commands_confirm_what_took_effect_and_refuse_what_has_ended(client, broker_url):
    async with orchestrated(client.port):
        await client.start("park", id="p")
        await client.wait_until("p", lambda i: i.status == "waiting", timeout_s=10)
        status, out, _ = await wf(broker_url, "suspend", "p")
        assert (status, out) == (0, "p is suspended\n")
        status, out, _ = await wf(broker_url, "resume", "p", "--json")
        assert orjson.loads(out) == {"id": "p", "status": "waiting", "confirmed": True}
        status, out, _ = await wf(broker_url, "signal", "p", "go", "--data", "7")
        assert status == 0
        assert (await client.result("p", timeout_s=10)).output == 7
        status, _, err = await wf(broker_url, "cancel", "p")
        assert status == 1
        assert "cancel refused: instance p is completed already" in err


async def eventually(read):
    """What `read` gives once it gives something, within 15 s."""
    async with asyncio.timeout(15):
        while not (found := await read()):
            await asyncio.sleep(0.02)
    return found


async def test_a_client_worker_serves_its_modules_until_told_to_stop(js, broker_url, tmp_path):
    for name in ("double", "triple"):
        factor = {"double": 2, "triple": 3}[name]
        (tmp_path / f"{name}.py").write_text(
            "from wf import activity\n\n@activity\n"
            f"def {name}(n: int) -> int:\n    return {factor} * n\n"
        )
    files = [str(tmp_path / "double.py"), str(tmp_path / "triple.py")]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "wf.cli.main", "worker", "--activities", *files),
        *("--server", broker_url),
        stderr=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    try:
        for run, name in enumerate(("double", "triple"), start=1):
            await eventually(lambda n=name: js.last(topology.ACTIVITY_CATALOG, subjects.catalog(n)))
            await js.ensure_task_consumer(name, ack_wait_s=30, max_deliver=5, max_ack_pending=100)
            task = messages.task_body(
                instance="i",
                workflow="w",
                version="1.0.0",
                run=run,
                attempt=1,
                pointer="/do/0/x",
                input={"n": 7},
            )
            await js.publish(
                topology.ACTIVITY_TASKS, [Outgoing(subjects.task(name), messages.encode(task))]
            )
        (seen,) = await eventually(lambda: client_workers(js))
        assert seen["pid"] == process.pid
        assert seen["activities"].keys() == {"double", "triple"}
        for name, output in (("double", 14), ("triple", 21)):
            subject = subjects.completed("i", name) + ".*"
            stored = await eventually(lambda s=subject: js.scan(topology.WORKFLOW_EVENTS, s))
            assert orjson.loads(stored[0].data)["output"] == output
        process.terminate()
        _, said = await asyncio.wait_for(process.communicate(), 15)
        assert process.returncode == 0, said.decode()
        assert await client_workers(js) == []  # it took its entry out
    finally:
        if process.returncode is None:
            process.kill()
            _, said = await process.communicate()
            print(said.decode()[-3000:])  # shown only when the test fails


async def test_a_worker_module_that_does_not_exist_is_a_usage_error(broker_url):
    status, _, err = await wf(broker_url, "worker", "--activities", "no/such.py")
    assert status == 2
    assert "no/such.py" in err
