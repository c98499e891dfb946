"""The orchestrator's log names activities of deployed definitions that no worker has."""

import pytest
from loguru import logger

from orchestrator import main
from tests.support.engine import engine
from tests.support.server import delete_streams
from tests.support.waiting import eventually
from wf.jetstream import topology
from wf.jetstream.port import Outgoing

FILE = """
document: {dsl: 1.0.3, namespace: default, name: pay, version: 1.0.0}
do:
  - a: {call: charge_card}
  - b: {call: send_mali}
"""
ENTRY = b'{"v":1,"consumer":{"ack_wait_s":30,"max_deliver":20,"max_ack_pending":10}}'


@pytest.fixture
def warned():
    found = []
    sink = logger.add(lambda message: found.append(message.record), level="WARNING")
    yield lambda: [
        record["extra"]["problem"]
        for record in found
        if record["message"] == "definition.activity_unannounced"
    ]
    logger.remove(sink)


async def test_it_is_told_once_workers_have_had_their_time(
    nats_server, tmp_path, warned, monkeypatch
):
    async def enough(count):
        return len(warned()) == count

    async def told(count):
        await eventually(lambda: enough(count))

    monkeypatch.setattr(main, "ANNOUNCE_GRACE_S", 0.5)
    settings = nats_server.settings()
    settings.workflows_dir.mkdir(parents=True, exist_ok=True)
    (settings.workflows_dir / "pay.yaml").write_text(FILE)
    js = await nats_server.connect()
    await delete_streams(js)
    async with engine(nats_server, settings=settings) as running:
        for name in ("charge_card", "send_mail"):
            message = Outgoing(f"$KV.ACTIVITY_CATALOG.{name}", ENTRY)
            await js.publish(topology.ACTIVITY_CATALOG, [message])
        await told(1)
        (problem,) = warned()
        assert "/do/1/b/call: no worker has announced" in problem
        assert 'did you mean "send_mail"?' in problem
        assert f"{settings.workflows_dir / 'pay.yaml'}:5:" in problem

        running.orchestrator.redeploy()  # and again at each reload
        await told(2)
    (settings.workflows_dir / "pay.yaml").unlink()
    await js.close()
