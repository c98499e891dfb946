"""`scheduleToStart` and `heartbeat` with a real broker and real worker processes: one is frozen, as
with its host."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

from orchestrator.definition import parse
from orchestrator.state.history_fold import fold
from tests.integration import test_flow
from tests.integration.test_flow import LIMIT_S, worker
from tests.support.engine import deploy, ended, engine, history, settled, snapshot, start
from tests.support.server import RealServer
from tests.support.waiting import eventually
from wf.jetstream import topology
from wf.jetstream.client import JetStream
from wf.protocol import subjects

HEAD = "document: {dsl: '1.0.0', namespace: default, name: flow, version: '1.0.0'}\n"
UNATTENDED = f"""{HEAD}
do:
  - t:
      try:
        - a: {{call: a, metadata: {{wf: {{scheduleToStart: PT1S}}}}}}
      catch: {{as: e, do: [{{m: {{set: {{caught: "${{ $e.title }}"}}}}}}]}}
"""
WATCHED = f"""{HEAD}
do:
  - t:
      try:
        - long: {{call: a, metadata: {{wf: {{heartbeat: PT1S, scheduleToStart: PT1S}}}}}}
      catch: {{retry: {{limit: {{attempt: {{count: 10}}}}}}}}
"""
ACTIVITIES = """
import asyncio
from wf import Context, activity

@activity(timeout="60s", concurrency=1)
async def a(context: Context) -> dict:
    with open(LEDGER, "a") as file:
        file.write(f"{context.attempt} {context.heartbeat_details}\\n")
    page = 0
    while context.attempt == 1 or page < 20:
        page += 1
        context.heartbeat({"attempt": context.attempt})
        await asyncio.sleep(0.1)
    return {"attempt": context.attempt}
"""


async def replays(js: JetStream, name: str, definition: str, final: dict[str, Any]) -> None:
    await settled(js)  # history is stored after the snapshot
    rest = {key: value for key, value in final.items() if key != "commit"}
    assert fold(await history(js, name), lambda *_: parse(definition)) == rest


async def test_a_task_that_no_worker_takes_fails_in_its_time_and_is_not_run_later(
    js: JetStream, nats_server: RealServer, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(test_flow, "ACTIVITIES", ACTIVITIES)
    await js.ensure_task_consumer("a", ack_wait_s=30.0, max_deliver=20, max_ack_pending=100)
    await deploy(js, UNATTENDED)
    async with engine(nats_server):
        await start(js, "flow", "order-1", {})
        final = await ended(js, "order-1", limit_s=LIMIT_S)
        assert (final["status"], final["output"]) == (
            "completed",
            {"caught": "Not started in time"},
        )
        await replays(js, "order-1", UNATTENDED, final)
        async with worker(nats_server, tmp_path) as process:
            info = f"CONSUMER.INFO.{topology.ACTIVITY_TASKS}.{topology.consumer_name('a')}"

            async def refused() -> bool:
                found = await js.api(info)
                return not found["num_pending"] and not found["num_ack_pending"]

            await eventually(refused, limit_s=LIMIT_S, what="the late task is acknowledged")
            assert process.ran == []


async def test_a_frozen_worker_is_noticed_long_before_ack_wait_and_its_work_goes_on_elsewhere(
    js: JetStream, nats_server: RealServer, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(test_flow, "ACTIVITIES", ACTIVITIES)
    await deploy(js, WATCHED)
    for name in ("frozen", "other"):
        (tmp_path / name).mkdir()
    async with engine(nats_server), worker(nats_server, tmp_path / "frozen") as frozen:
        await start(js, "flow", "order-2", {})

        async def beaten() -> bool:
            found = await snapshot(js, "order-2")
            return found is not None and "details" in found["runs"].get("1", {})

        await eventually(beaten, limit_s=LIMIT_S, what="a heartbeat has come")
        frozen.process.send_signal(signal.SIGSTOP)
        try:
            async with worker(nats_server, tmp_path / "other") as other:
                final = await ended(js, "order-2", limit_s=LIMIT_S)
                attempt = final["output"]["attempt"]
                assert attempt > 1, "the broker may have given some more to the frozen one"
                assert other.ran == [f"{attempt} {{'attempt': 1}}"]
        finally:
            frozen.process.send_signal(signal.SIGCONT)
        assert final["status"] == "completed"
        assert frozen.ran == ["1 None"]
        await replays(js, "order-2", WATCHED, final)

        async def said() -> bool:
            """The one that was frozen finds out by itself; that is late."""
            subject = f"{subjects.completed('order-2', 'a')}.*"
            found = await js.scan(topology.WORKFLOW_EVENTS, subject)
            return any(b'"attempt":1,"outcome":"timed-out"' in one.data for one in found)

        await eventually(said, limit_s=LIMIT_S, what="the frozen worker has given up")
        assert (await snapshot(js, "order-2") or {})["output"] == {"attempt": attempt}
        assert frozen.ran == ["1 None"]
