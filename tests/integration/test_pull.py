"""The pull loop when the server dies, the consumer vanishes, or nothing comes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from loguru import logger

from tests.support.server import RealServer
from tests.support.waiting import eventually
from wf.errors import BrokerError
from wf.jetstream import pull as pull_module
from wf.jetstream import topology
from wf.jetstream.client import JetStream
from wf.jetstream.port import Accepted, Delivery, Outgoing, Pull

TASKS = topology.ACTIVITY_TASKS
CONSUMER = topology.consumer_name("work")


async def start(js: JetStream, server: RealServer, **consumer: float) -> None:
    await topology.ensure(js, server.settings())
    settings = {"ack_wait_s": 30.0, "max_deliver": 20, "max_ack_pending": 10_000, **consumer}
    await js.ensure_task_consumer("work", **settings)


async def put(js: JetStream, numbers: range) -> None:
    left = [Outgoing("activity.tasks.work", b"%d" % n, f"task:{n}") for n in numbers]
    async with asyncio.timeout(15):
        while left:
            outcomes = await js.publish(TASKS, left)
            left = [m for m, o in zip(left, outcomes, strict=True) if not isinstance(o, Accepted)]


async def take(pull: Pull, count: int, limit_s: float = 15) -> list[Delivery]:
    taken: list[Delivery] = []
    async with asyncio.timeout(limit_s):
        while len(taken) < count:
            taken += await pull.next(count - len(taken))
    return taken


@asynccontextmanager
async def connected(server: RealServer) -> AsyncIterator[JetStream]:
    js = await server.connect()
    try:
        yield js
    finally:
        await js.close()


async def test_a_pull_goes_on_after_the_server_was_killed(broker: RealServer) -> None:
    async with connected(broker) as js:
        await start(js, broker)
        pull = await js.pull(TASKS, CONSUMER, window=50)
        for number in range(3):
            waiting = asyncio.create_task(take(pull, 1))
            broker.restart()
            await put(js, range(number, number + 1))
            (delivery,) = await waiting
            js.ack(delivery)
            await js.flush()
        await pull.stop()


async def test_nothing_stored_is_lost_when_the_server_is_killed_during_pulling(
    broker: RealServer,
) -> None:
    async with connected(broker) as js:
        await start(js, broker)
        total = 2000
        await put(js, range(total))
        pull = await js.pull(TASKS, CONSUMER, window=100)
        seen: set[bytes] = set()
        kills = 0
        async with asyncio.timeout(30):
            while len(seen) < total:
                for delivery in await pull.next(40):
                    seen.add(delivery.data)
                    js.ack(delivery)
                if len(seen) > (kills + 1) * 500 and kills < 3:
                    kills += 1
                    await asyncio.to_thread(broker.restart)
        assert kills == 3
        await pull.stop()


async def test_what_was_buffered_at_a_reconnect_comes_again_without_waiting_for_ack_wait(
    broker: RealServer,
) -> None:
    async with connected(broker) as js:
        await start(js, broker, ack_wait_s=300)
        await put(js, range(10))
        pull = await js.pull(TASKS, CONSUMER, window=10)
        await take(pull, 1)
        broker.restart()
        again = {delivery.sequence for delivery in await take(pull, 9)}
        assert again >= set(range(2, 11))
        await pull.stop()


async def test_a_pull_goes_on_when_its_consumer_was_deleted_and_made_again(
    broker: RealServer,
) -> None:
    async with connected(broker) as js:
        await start(js, broker)
        pull = await js.pull(TASKS, CONSUMER, window=10)
        waiting = asyncio.create_task(take(pull, 1))
        await js.flush()
        await js.api(f"CONSUMER.DELETE.{TASKS}.{CONSUMER}")
        await put(js, range(1))
        await start(js, broker)
        assert (await waiting)[0].sequence == 1
        await pull.stop()


async def test_a_pull_may_be_opened_before_its_consumer_exists(broker: RealServer) -> None:
    async with connected(broker) as js:
        await topology.ensure(js, broker.settings())
        pull = await js.pull(TASKS, CONSUMER, window=10)
        await put(js, range(1))
        await start(js, broker)
        assert (await take(pull, 1))[0].sequence == 1
        await pull.stop()


async def test_a_consumer_that_was_never_there_is_no_warning_and_one_that_vanished_is(
    broker: RealServer,
) -> None:
    heard: list[tuple[str, str]] = []
    sink = logger.add(lambda m: heard.append((m.record["level"].name, m.record["message"])))

    async def told(level: str, event: str) -> bool:
        return (level, event) in heard

    try:
        async with connected(broker) as js:
            await topology.ensure(js, broker.settings())
            pull = await js.pull(TASKS, CONSUMER, window=5)
            await eventually(lambda: told("INFO", "pull.waiting"))
            await start(js, broker)
            await put(js, range(1))
            await take(pull, 1)
            assert not await told("WARNING", "pull.interrupted")
            await js.api(f"CONSUMER.DELETE.{TASKS}.{CONSUMER}")
            await eventually(lambda: told("WARNING", "pull.interrupted"))
            await pull.stop()
    finally:
        logger.remove(sink)


async def test_a_missing_consumer_is_asked_for_slower_and_slower(broker: RealServer) -> None:
    async with connected(broker) as js:
        await topology.ensure(js, broker.settings())
        before = (await js.api("INFO"))["api"]["total"]
        pull = await js.pull(TASKS, CONSUMER, window=10)
        await asyncio.sleep(1.0)  # what is measured is that little happens in this time
        assert await pull.stop() == []
        assert (await js.api("INFO"))["api"]["total"] - before < 20


async def test_requests_that_run_out_are_made_again(
    broker: RealServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pull_module, "EXPIRES_S", 0.3)
    monkeypatch.setattr(pull_module, "HEARTBEAT_S", 0.1)
    async with connected(broker) as js:
        await start(js, broker)
        pull = await js.pull(TASKS, CONSUMER, window=10)
        for number in range(3):
            await asyncio.sleep(0.4)  # longer than a request lives
            await put(js, range(number, number + 1))
            (delivery,) = await take(pull, 1, limit_s=3)
            js.ack(delivery)
        assert pull._requested + len(pull._buffer) <= 10
        await pull.stop()


async def test_missed_heartbeats_start_anew(
    broker: RealServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pull_module, "HEARTBEAT_S", 0.1)
    async with connected(broker) as js:
        await start(js, broker)
        pull = await js.pull(TASKS, CONSUMER, window=10)
        await js.flush()
        # the server forgets the requests: what a lost one looks like from here
        js._wire.send(b"UNSUB %d\r\n" % pull._sid)
        await js.flush()
        await put(js, range(1))
        assert (await take(pull, 1, limit_s=5))[0].sequence == 1
        await pull.stop()


async def test_heartbeats_alone_do_not_start_anew(
    broker: RealServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pull_module, "HEARTBEAT_S", 0.1)
    async with connected(broker) as js:
        await start(js, broker)
        two = [await js.pull(TASKS, CONSUMER, window=10) for _ in range(2)]
        first = [pull._generation for pull in two]
        await asyncio.sleep(1.0)  # ten heartbeats
        assert [pull._generation for pull in two] == first
        for pull in two:
            await pull.stop()


async def test_a_smaller_window_takes_back_what_was_asked_for(broker: RealServer) -> None:
    async with connected(broker) as js:
        await start(js, broker)
        pull = await js.pull(TASKS, CONSUMER, window=100)
        await js.flush()
        pull.resize(2)
        await js.flush()
        await put(js, range(20))
        await take(pull, 1)
        await js.flush()
        assert len(await pull.stop()) <= 2


async def test_a_shrunk_window_stays_shrunk_after_a_reconnect(broker: RealServer) -> None:
    async with connected(broker) as js, connected(broker) as other:
        await start(js, broker)
        await put(js, range(4))
        pull = await js.pull(TASKS, CONSUMER, window=1)
        (held,) = await pull.next(1, shrink=True)
        broker.restart()
        successor = await other.pull(TASKS, CONSUMER, window=10)
        await take(successor, 3)  # the server may have forgotten that it delivered the first
        await js.flush()
        assert await pull.stop() == []
        js.ack(held)
        await successor.stop()


async def test_a_larger_window_asks_for_more(broker: RealServer) -> None:
    async with connected(broker) as js:
        await start(js, broker)
        await put(js, range(20))
        pull = await js.pull(TASKS, CONSUMER, window=1)
        pull.resize(20)

        async def all_buffered() -> bool:
            return len(pull._buffer) == 20

        await eventually(all_buffered)
        assert len(await pull.stop()) == 20


async def test_a_full_ack_pending_only_makes_it_wait(broker: RealServer) -> None:
    async with connected(broker) as js:
        await start(js, broker, max_ack_pending=2)
        await put(js, range(6))
        pull = await js.pull(TASKS, CONSUMER, window=10)
        seen = []
        while len(seen) < 6:
            for delivery in await take(pull, 1):
                seen.append(delivery.sequence)
                js.ack(delivery)
        assert seen == [1, 2, 3, 4, 5, 6]
        await pull.stop()


async def test_handing_back_at_a_stop_gives_the_messages_to_another_at_once(
    broker: RealServer,
) -> None:
    async with connected(broker) as js, connected(broker) as other:
        await start(js, broker, ack_wait_s=300)
        await put(js, range(5))
        pull = await js.pull(TASKS, CONSUMER, window=5)
        await take(pull, 1)
        for delivery in await pull.stop():
            js.nak(delivery)
        successor = await other.pull(TASKS, CONSUMER, window=5)
        assert {delivery.sequence for delivery in await take(successor, 4)} == {2, 3, 4, 5}
        await successor.stop()


async def test_a_closed_connection_ends_the_wait_with_an_error(broker: RealServer) -> None:
    js = await broker.connect()
    await start(js, broker)
    pull = await js.pull(TASKS, CONSUMER, window=5)
    waiting = asyncio.create_task(pull.next(1))
    await asyncio.sleep(0)
    await js.close()
    with pytest.raises(BrokerError, match="closed"):
        await waiting


async def test_large_messages_come_as_many_at_a_time_as_the_window_has_bytes_for(
    broker: RealServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pull_module, "WINDOW_BYTES", 0)  # then it is what two of the largest take
    async with connected(broker) as js:
        await start(js, broker)
        sizes = [10, 3_000_000, 10, js.max_payload - 4096, 7_000_000, 3_000_000] * 3
        for size in sizes:
            (stored,) = await js.publish(TASKS, [Outgoing("activity.tasks.work", b"x" * size)])
            assert isinstance(stored, Accepted)
        pull = await js.pull(TASKS, CONSUMER, window=1000)
        most = 2 * (js.max_payload + pull_module.FRAME_BYTES)
        seen: list[int] = []
        async with asyncio.timeout(20):
            while len(seen) < len(sizes):
                await js.flush()  # all that was asked for has come
                assert pull._buffered <= most
                for delivery in await pull.next(1):
                    seen.append(len(delivery.data))
                    js.ack(delivery)
        assert seen == sizes
        await pull.stop()


async def test_the_largest_message_comes_to_who_asks_for_one(broker: RealServer) -> None:
    async with connected(broker) as js:
        await start(js, broker)
        for _ in range(3):
            await js.publish(
                TASKS, [Outgoing("activity.tasks.work", b"x" * (js.max_payload - 4096))]
            )
        pull = await js.pull(TASKS, CONSUMER, window=1)
        assert len(await take(pull, 3)) == 3
        await pull.stop()
