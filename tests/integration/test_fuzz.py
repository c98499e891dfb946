"""What nobody should send, to a real broker: the engine lives, and good instances complete."""

from __future__ import annotations

from random import Random
from typing import Any

from tests.support import fuzz
from tests.support.engine import FakeWorker, deploy, ended, engine, start, succeed
from tests.support.fuzzed import DEFINITIONS


async def test_bad_messages_end_nothing_at_a_real_broker(nats_server: Any, js: Any) -> None:
    random = Random(7)
    async with engine(nats_server) as made, FakeWorker(js, {"good": succeed({"n": 41})}):
        for document in DEFINITIONS:
            await deploy(js, document)
        for number in range(4):
            for instance in fuzz.INSTANCES:
                await start(js, "flow", instance, {"n": 1})
            for kind in fuzz.KINDS:
                messages = [fuzz.message(random, kind) for _ in range(4)]
                await js.publish("", messages, timeout_s=1.0)
            await start(js, "good", f"good-{number}", {"n": 1})
            assert (await ended(js, f"good-{number}", limit_s=40))["output"] == {"n": 42}
        assert made.task is not None
        assert not made.task.done()
