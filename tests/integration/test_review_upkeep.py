"""What runs beside the commits: sweeping, looking up definitions, waiting for starts, suspects."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from orchestrator import main
from tests.integration.test_engine import SLEEPER, TWO
from tests.support.engine import (
    Engine,
    FakeWorker,
    deploy,
    ended,
    engine,
    in_status,
    send,
    settled,
    start,
    succeed,
)
from tests.support.server import RealServer
from tests.support.waiting import eventually
from wf.jetstream import topology
from wf.jetstream.client import JetStream
from wf.jetstream.port import Outcome, Outgoing
from wf.protocol import messages, subjects


async def test_what_is_done_with_is_swept_and_what_waits_stays(
    js: JetStream, nats_server: RealServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(main, "SWEEP_S", 0.3)
    await deploy(js, TWO)
    await deploy(js, SLEEPER)
    async with FakeWorker(js, {"a": succeed(), "b": succeed()}), engine(nats_server):
        await start(js, "sleeper", "s")
        await start(js, "two", "i", {"n": 1})
        await ended(js, "i")
        await settled(js)

        async def swept() -> bool:
            streams = (topology.WORKFLOW_EVENTS, topology.ACTIVITY_TASKS)
            return not any([await js.subjects(stream, ">") for stream in streams])

        await eventually(swept, what="swept events and tasks")
        assert len(await js.subjects(topology.WORKFLOW_TIMERS, topology.SCHEDULED_TIMERS)) == 1


async def test_a_definition_whose_notice_was_missed_is_looked_up_for_its_start(
    js: JetStream, nats_server: RealServer
) -> None:
    def deaf(made: Engine) -> None:
        async def nothing(_subject: str, _data: bytes) -> None: ...

        made.orchestrator._definitions.entries._noticed = nothing  # type: ignore[method-assign]

    async with engine(nats_server, prepare=deaf):
        await deploy(js, SLEEPER)
        await start(js, "sleeper", "i")
        await in_status(js, "i", "waiting")


async def test_a_newer_version_whose_notice_was_missed_is_found_before_long(
    js: JetStream, nats_server: RealServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(main, "FOLLOW_S", 0.05)

    def deaf(made: Engine) -> None:
        async def nothing(_subject: str, _data: bytes) -> None: ...

        made.orchestrator._definitions.entries._noticed = nothing  # type: ignore[method-assign]

    await deploy(js, SLEEPER)
    async with engine(nats_server, prepare=deaf) as only:
        await deploy(js, SLEEPER.replace("version: '1.0.0'", "version: '2.0.0'"))

        async def known() -> bool:
            newest = only.orchestrator._definitions.get("default", "sleeper", None)
            return newest is not None and newest.version == "2.0.0"

        await eventually(known, limit_s=5, what="version 2.0.0")


async def test_an_event_for_an_unknown_instance_waits_while_a_start_below_is_under_way(
    js: JetStream, nats_server: RealServer
) -> None:
    """The floor is below it: what is not acked there might be its start."""
    await deploy(js, SLEEPER)
    held, go = asyncio.Event(), asyncio.Event()

    def slow(made: Engine) -> None:
        publish = made.js.publish

        async def wait(stream: str, batch: list[Outgoing], **more: Any) -> list[Outcome]:
            if batch[0].subject == subjects.state("slow"):
                held.set()
                await go.wait()
            return await publish(stream, batch, **more)

        made.js.publish = wait  # type: ignore[method-assign]

    async with engine(nats_server, prepare=slow) as only:
        await start(js, "sleeper", "slow")
        await asyncio.wait_for(held.wait(), 15)  # in one group they would wait for each other
        await send(js, subjects.command("i", "cancel"), messages.command_body())

        async def only_the_slow_one_is_held() -> bool:
            return len(only.orchestrator._leases) == 1

        await eventually(only_the_slow_one_is_held, what="the command handed back")
        await start(js, "sleeper", "i")
        assert (await ended(js, "i"))["status"] == "cancelled"
        go.set()
        await settled(js)
        assert only.orchestrator._engine.counts["ignored.unknown"] == 0


async def test_events_behind_a_suspect_are_applied_after_it(
    js: JetStream, nats_server: RealServer
) -> None:
    await deploy(js, SLEEPER)
    started = await start(js, "sleeper", "i")
    await send(js, subjects.command("i", "suspend"), messages.command_body())
    await send(js, subjects.command("i", "resume"), messages.command_body())
    last = await send(js, subjects.command("i", "cancel"), messages.command_body())

    stream, suspects = topology.WORKFLOW_EVENTS, set()
    for sequence in (started, last):
        stored = await js.at(stream, sequence)
        assert stored is not None
        suspects.add((stream, sequence, stored.timestamp_ms))

    def suspicious(made: Engine) -> None:
        made.orchestrator._journal.suspects = set(suspects)

    async with engine(nats_server, prepare=suspicious) as only:
        assert (await ended(js, "i"))["status"] == "cancelled"
        await settled(js)
        assert only.orchestrator._engine.counts["applied"] == 4
        assert not only.orchestrator._journal.suspects
