"""emit and `Client.emit` against the real server."""

from __future__ import annotations

import asyncio

import orjson

from tests.support.engine import deploy, ended, engine, settled, start
from tests.support.server import RealServer
from wf.client.client import Client
from wf.jetstream import topology
from wf.jetstream.client import JetStream

TELL = """
document: {dsl: '1.0.3', namespace: default, name: tell, version: '1.0.0'}
do:
  - pause: {wait: {milliseconds: 5}}
  - told:
      emit: {event: {with: {type: com.example.told.v1, data: "${ . }"}}}
"""


async def events(js: JetStream) -> list[dict[str, object]]:
    stored = await js.scan(topology.CLOUD_EVENTS, "cloudevents.>")
    return [orjson.loads(one.data) for one in stored]


async def test_what_is_emitted_is_in_the_stream_once(
    js: JetStream, nats_server: RealServer
) -> None:
    await deploy(js, TELL)
    async with engine(nats_server):
        await start(js, "tell", "i", {"n": 1})
        final = await ended(js, "i")
        await settled(js)
        assert await events(js) == [final["output"]]
        assert final["output"]["data"] == {"n": 1}


async def test_an_event_comes_out_whenever_the_orchestrator_dies(
    js: JetStream, nats_server: RealServer
) -> None:
    await deploy(js, TELL)
    names = [f"i{n}" for n in range(12)]
    for n, name in enumerate(names):
        await start(js, "tell", name, {"n": n})
    for die_at in (14, 17, 20, 23):
        async with engine(nats_server, die_at) as one:
            assert one.task is not None
            await asyncio.wait([one.task], timeout=3)
    async with engine(nats_server):
        for name in names:
            await ended(js, name)
        await settled(js)
    assert {event["id"] for event in await events(js)} == {f"{name}:1" for name in names}


async def test_a_client_publishes_what_it_says(js: JetStream, nats_server: RealServer) -> None:
    async with await Client.connect(servers=nats_server.url) as client:
        said = {"source": "/shop", "subject": "4711", "id": "e"}
        event = await client.emit("com.example.paid", {"n": 1}, **said)
        await client.emit("com.example.paid", {"n": 1}, **said)
    assert await events(js) == [event]
    assert (event["subject"], event["source"], event["id"]) == ("4711", "/shop", "e")


WATCH = """
document: {dsl: '1.0.3', namespace: default, name: watch, version: '1.0.0'}
do:
  - hear:
      listen:
        to:
          one:
            with: {type: io.serverlessworkflow.workflow.completed.v1, subject: told}
        read: envelope
"""


async def test_one_workflow_may_wait_for_the_end_of_another(
    js: JetStream, nats_server: RealServer
) -> None:
    await deploy(js, TELL)
    await deploy(js, WATCH)
    plain = nats_server.settings()
    orchestrator = plain.orchestrator.model_copy(update={"lifecycle_events": True})
    settings = plain.model_copy(update={"orchestrator": orchestrator})
    async with engine(nats_server, settings=settings):
        await start(js, "watch", "watcher")
        await start(js, "tell", "told", {"n": 1})
        (heard,) = (await ended(js, "watcher"))["output"]
        assert heard["data"]["name"] == "tell-told.default"
        assert heard["data"]["output"]["data"] == {"n": 1}
        await settled(js)
        types = [event["type"] for event in await events(js) if event.get("subject") == "told"]
        assert types[0] == "io.serverlessworkflow.workflow.started.v1"
        assert types[-1] == "io.serverlessworkflow.workflow.completed.v1"
        assert len(types) == 8
