"""An orchestrator that is told to stop leaves, also when nobody answers it any more."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from orchestrator.engine.loop import FINISH_S
from tests.support.engine import Engine, deploy, engine, start
from tests.support.server import RealServer
from wf.jetstream import topology
from wf.jetstream.port import Outcome, Outgoing

FLOW = """
document: {dsl: '1.0.0', namespace: default, name: flow, version: '1.0.0'}
do:
  - a: {call: a, with: {}}
"""


async def test_it_leaves_though_the_broker_is_gone_in_the_middle_of_a_commit(
    broker: RealServer,
) -> None:
    """As when the supervisor was killed: the broker leaves at once, and does not come back."""
    js = await broker.connect()
    await topology.ensure(js, broker.settings())
    await deploy(js, FLOW)
    gone = asyncio.Event()

    def prepare(made: Engine) -> None:
        publish = made.js.publish

        async def to_nobody(stream: str, batch: list[Outgoing], **more: Any) -> list[Outcome]:
            if stream == topology.WORKFLOW_STATES and not gone.is_set():
                await asyncio.to_thread(broker.kill9)
                gone.set()
            return await publish(stream, batch, **more)

        made.js.publish = to_nobody  # type: ignore[method-assign]

    async with engine(broker, prepare=prepare) as only:
        await start(js, "flow", "i", {})
        await gone.wait()
        begun = time.monotonic()
        only.orchestrator.stop()
        assert only.task is not None
        await asyncio.wait([only.task], timeout=15)
        assert only.task.done(), "it waits for the broker"
        assert time.monotonic() - begun < FINISH_S + 2.0
    await js.close()
