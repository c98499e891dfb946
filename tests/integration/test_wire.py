"""What the wire takes from inside nats-py, and how one connection fares."""

from __future__ import annotations

import asyncio
import gc
import inspect
import os

import pytest
from nats.aio.client import Client

from tests.support.server import RealServer
from tests.support.waiting import eventually
from wf.errors import BrokerError
from wf.jetstream import api, topology
from wf.jetstream.port import Outgoing, Unknown
from wf.jetstream.wire import Wire


async def test_nats_py_still_has_what_the_wire_rests_on() -> None:
    client = Client()
    for attribute in (
        "_ps",
        "_pending",
        "_pending_data_size",
        "_transport",
        "_subs",
        "_sid",
        "_pongs",
        "_pongs_received",
        "_pings_outstanding",
        "_nuid",
        "_server_info",
    ):
        assert hasattr(client, attribute), attribute
    for method in (
        "_process_op_err",
        "_process_info",
        "_read_loop",
        "_connect_to_server",
        "flush",
    ):
        assert inspect.iscoroutinefunction(getattr(Client, method)), method
        if hasattr(Wire, method) and method in vars(Wire):
            ours = inspect.signature(getattr(Wire, method)).parameters
            assert list(ours) == list(inspect.signature(getattr(Client, method)).parameters)


async def test_a_connection_comes_back_again_and_again(broker: RealServer) -> None:
    js = await broker.connect()
    await topology.ensure(js, broker.settings())
    back = []
    js.on_reconnect(lambda: back.append(1))
    for number in range(3):
        broker.kill9() if number % 2 else broker.stop()
        broker.start()
        async with asyncio.timeout(5):
            while len(back) <= number:
                await asyncio.sleep(0.001)
        assert await js.last_sequence(topology.WORKFLOW_EVENTS) == 0
    await js.close()


async def test_tries_that_fail_leave_no_sockets_behind(broker: RealServer) -> None:
    """As behind a load balancer without a backend: the connection is made, and ends at once."""
    js = await broker.connect()
    broker.stop()
    tries = []

    def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tries.append(1)
        writer.close()

    door = await asyncio.start_server(hang_up, "127.0.0.1", broker.port)
    gc.disable()
    try:
        before = len(os.listdir("/proc/self/fd"))
        await eventually(lambda: reached(tries, 10), what="ten tries", limit_s=30)
        assert len(os.listdir("/proc/self/fd")) <= before + 2
    finally:
        gc.enable()
        door.close()
        await js.close()


async def reached(tries: list[int], count: int) -> bool:
    return len(tries) >= count


async def test_acknowledgements_given_while_disconnected_are_sent_later(
    broker: RealServer,
) -> None:
    js = await broker.connect()
    await topology.ensure(js, broker.settings())
    await js.publish("", [Outgoing("workflow.start.order", b"{}")])
    pull = await js.pull(topology.WORKFLOW_EVENTS, topology.ORCHESTRATOR, window=1)
    (delivery,) = await pull.next(1)
    await pull.stop()
    broker.stop()
    async with asyncio.timeout(5):
        while js._wire.is_connected:
            await asyncio.sleep(0.001)
    js.ack(delivery)
    broker.start()
    await js.flush()
    async with asyncio.timeout(5):
        while await js.ack_floor(topology.WORKFLOW_EVENTS, topology.ORCHESTRATOR) != 1:
            await asyncio.sleep(0.005)
    await js.close()


async def test_a_flush_that_lost_its_connection_asks_again(broker: RealServer) -> None:
    js = await broker.connect()
    for _ in range(5):
        flushing = asyncio.create_task(js.flush())
        await asyncio.sleep(0)
        broker.restart()
        async with asyncio.timeout(5):
            await flushing
    await js.close()


async def test_a_flush_given_up_does_not_end_the_reading(broker: RealServer) -> None:
    js = await broker.connect()
    for _ in range(3):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await js.flush()
        await js.flush()
    await js.close()


async def test_a_server_that_stays_away_is_an_error_in_the_end(
    broker: RealServer,
) -> None:
    js = await broker.connect()
    broker.kill9()
    with pytest.raises(BrokerError, match="is the broker up"):
        await api.call(js._replies, "INFO", timeout_s=0.3)
    await js.close()


async def test_many_questions_share_one_connection(broker: RealServer) -> None:
    js = await broker.connect()
    await topology.ensure(js, broker.settings())
    answers = await asyncio.gather(
        *(js.last_sequence(topology.WORKFLOW_EVENTS) for _ in range(200)),
        *(js.at(topology.WORKFLOW_EVENTS, 1) for _ in range(200)),
    )
    assert answers == [0] * 200 + [None] * 200
    assert js._replies._waiting == {}
    await js.close()


async def test_cancelled_questions_leave_nothing_behind(broker: RealServer) -> None:
    js = await broker.connect()
    await topology.ensure(js, broker.settings())
    tasks = [
        asyncio.create_task(js.publish("", [Outgoing("workflow.start.order", b"{}")]))
        for _ in range(10)
    ] + [asyncio.create_task(js.last_sequence(topology.WORKFLOW_EVENTS)) for _ in range(10)]
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await js.flush()
    assert js._replies._waiting == {}
    await js.close()


async def test_closing_twice_is_fine(broker: RealServer) -> None:
    js = await broker.connect()
    await js.close()
    await js.close()


async def test_closing_ends_every_wait(broker: RealServer) -> None:
    js = await broker.connect()
    await topology.ensure(js, broker.settings())
    broker.kill9()
    async with asyncio.timeout(5):
        while js._wire.is_connected:
            await asyncio.sleep(0.001)
    waiting = asyncio.create_task(
        js.publish("", [Outgoing("workflow.start.order", b"{}")], timeout_s=60)
    )
    await asyncio.sleep(0)
    await js.close()
    async with asyncio.timeout(2):
        (outcome,) = await waiting
    assert isinstance(outcome, Unknown)
