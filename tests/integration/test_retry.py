"""wf retry and wf replay against the real engine: faulted instances go on, histories fold."""

import asyncio
import contextlib
import json

import orjson
import pytest

from tests.support.engine import (
    FakeWorker,
    deploy,
    ended,
    engine,
    history,
    in_status,
    settled,
    snapshot,
    start,
    succeed,
)
from wf.client.client import Client
from wf.errors import NotFound, WfError
from wf.jetstream import topology
from wf.jetstream.port import Outgoing
from wf.protocol import messages, subjects

STEPS = """
document: {dsl: 1.0.3, namespace: default, name: steps, version: 1.0.0}
do:
  - a: {call: a, export: {as: "{a: .}"}}
  - b: {call: b, with: {n: "${ .n }"}}
"""
NAP = """
document: {dsl: 1.0.3, namespace: default, name: nap, version: 1.0.0}
do:
  - b: {call: b}
  - nap: {wait: PT1H}
"""
PARENT = """
document: {dsl: 1.0.3, namespace: default, name: parent, version: 1.0.0}
do:
  - child: {run: {workflow: {namespace: default, name: steps, version: 1.0.0}}}
"""


def down(task):
    return messages.failed_body(
        run=task["run"],
        attempt=task["attempt"],
        outcome=messages.FAILED,
        error={"type": "about:x", "status": 503, "title": "Down"},
        retryable=False,
    )


class Switch:
    """An activity that fails until it is mended."""

    def __init__(self):
        self.mended = False
        self.inputs = []

    def __call__(self, task):
        self.inputs.append((task["run"], task["attempt"], task["input"]))
        return succeed({"m": 1})(task) if self.mended else down(task)


@contextlib.asynccontextmanager
async def pool(nats_server, js):
    """An engine, workers for a and b, and a client; b is the switch."""
    b = Switch()
    async with engine(nats_server) as running:
        for text in (STEPS, NAP, PARENT):
            await deploy(js, text)
        async with FakeWorker(js, {"a": succeed({"n": 1}), "b": b}):
            async with await Client.connect(servers=nats_server.url) as client:
                yield running, client, b


async def wf(url, *arguments):
    process = await asyncio.create_subprocess_exec(
        ".venv/bin/wf", *arguments, "--server", url, stdout=-1, stderr=-1
    )
    out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


async def test_a_faulted_instance_goes_on_and_its_snapshot_stays(nats_server, js):
    async with pool(nats_server, js) as (_, client, b):
        await start(js, "steps", "i", {})
        assert (await ended(js, "i"))["status"] == "faulted"
        stored = await js.last(topology.WORKFLOW_STATES, subjects.state("i"))
        assert "Nats-TTL" in stored.headers
        b.mended = True
        await client.retry("i", "the provider is back")
        found = await client.result("i", timeout_s=10)
        assert found.output == {"m": 1}
        assert b.inputs == [(2, 1, {"n": 1}), (2, 2, {"n": 1})]  # one key: the same run
        assert "failed" not in found.snapshot
        entries = [entry["type"] for one in await history(js, "i") for entry in one["entries"]]
        assert entries.count("instance.retried") == 1


async def test_while_it_goes_on_its_snapshot_does_not_expire(nats_server, js):
    async with pool(nats_server, js) as (_, client, b):
        await start(js, "nap", "n", {})
        await ended(js, "n")
        b.mended = True
        await client.retry("n")
        await in_status(js, "n", "waiting")
        stored = await js.last(topology.WORKFLOW_STATES, subjects.state("n"))
        assert "Nats-TTL" not in (stored.headers or {})


async def test_a_retry_is_idempotent_and_refused_where_nothing_has_faulted(nats_server, js):
    async with pool(nats_server, js) as (_, client, b):
        await start(js, "steps", "i", {})
        await ended(js, "i")
        b.mended = True
        body = messages.encode(messages.command_body())
        message = Outgoing(subjects.command("i", "retry"), body)
        await js.publish(topology.WORKFLOW_EVENTS, [message, message])
        await settled(js)
        await client.result("i", timeout_s=10)
        await settled(js)
        assert len(b.inputs) == 2
        with pytest.raises(WfError, match="i is completed, not faulted"):
            await client.retry("i")
        with pytest.raises(NotFound):
            await client.retry("nobody")
        await js.publish(topology.WORKFLOW_EVENTS, [message])  # past the client: ignored
        await settled(js)
        assert (await snapshot(js, "i"))["status"] == "completed"


async def test_from_a_named_task_with_what_it_was_given_before(nats_server, js):
    async with pool(nats_server, js) as (_, client, b):
        await start(js, "steps", "i", {"given": 1})
        await ended(js, "i")
        b.mended = True
        await client.retry("i", from_="/do/0/a")
        found = await client.result("i", timeout_s=10)
        assert found.output == {"m": 1}
        last = [one for one in await history(js, "i") if one["event"]["kind"] == "command"]
        assert last[0]["event"]["input"] == {"given": 1}
        with pytest.raises(WfError):
            await client.retry("i", from_="/do/0/a")


async def test_a_parent_goes_on_with_its_child(nats_server, js):
    async with pool(nats_server, js) as (_, client, b):
        await start(js, "parent", "p", {})
        faulted = await ended(js, "p")
        child = faulted["error"]["child"]["id"]
        b.mended = True
        await client.retry("p")
        assert (await client.result("p", timeout_s=10)).output == {"m": 1}
        assert (await client.result(child, timeout_s=10)).output == {"m": 1}
        assert [run for run, *_ in b.inputs] == [2, 2]


async def test_a_child_that_was_retried_by_itself_answers_its_parent_all_the_same(nats_server, js):
    async with pool(nats_server, js) as (_, client, b):
        await start(js, "parent", "p", {})
        child = (await ended(js, "p"))["error"]["child"]["id"]
        b.mended = True
        await client.retry(child)
        await client.result(child, timeout_s=10)
        await client.retry("p")
        assert (await client.result("p", timeout_s=10)).output == {"m": 1}


async def test_the_commands_retry_and_replay(nats_server, js):
    url = nats_server.url
    async with pool(nats_server, js) as (_, client, b):
        await start(js, "steps", "i", {})
        await ended(js, "i")
        status, _, err = await wf(url, "retry", "i", "--from", "/do/5/x")
        assert status == 1
        assert "possible are /do/0/a, /do/1/b" in err
        b.mended = True
        status, out, _ = await wf(url, "retry", "i", "--json", "--reason", "mended")
        assert (status, json.loads(out)["confirmed"]) == (0, True)
        await client.result("i", timeout_s=10)
        await settled(js)
        status, out, _ = await wf(url, "retry", "i")
        assert status == 1
        status, out, _ = await wf(url, "replay", "i")
        assert (status, out) == (0, "i: the same, 5 events up to commit 5\n")

        await tamper(js, "i")
        status, out, _ = await wf(url, "replay", "i")
        assert status == 1
        assert "i: different at commit 5.0, event result, /output" in out

        first = (await js.scan(topology.WORKFLOW_HISTORY, subjects.history("i")))[0]
        await js.purge(
            topology.WORKFLOW_HISTORY, subject=subjects.history("i"), up_to=first.sequence
        )
        status, _, err = await wf(url, "replay", "i")
        assert status == 5
        assert "its head is past retention" in err
        status, _, err = await wf(url, "replay", "nobody")
        assert status == 1


async def tamper(js, instance):
    stored = await js.last(topology.WORKFLOW_STATES, subjects.state(instance))
    body = {**orjson.loads(stored.data), "output": "forged"}
    message = Outgoing(stored.subject, orjson.dumps(body), expected=stored.sequence)
    await js.publish(topology.WORKFLOW_STATES, [message])
