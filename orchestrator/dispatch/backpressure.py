"""Instances whose outbox the broker refuses, and how they get on (docs/design.md §6, conflicts).

A refused outbox is sent again with backoff while its events stay unacked (and in progress). After
a minute, when only tasks are left (their subject is full), the instance is parked: the snapshot
says which tasks are unpublished, a flush timer is set, and the events are acked, so that the ack
floor moves on. Further events of a parked instance carry its tasks over into their own outbox.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from loguru import logger

from orchestrator.dispatch import outbox as building
from orchestrator.dispatch.outbox import Outbox
from orchestrator.dispatch.outbox_relay import Publisher
from orchestrator.ingest.messages_in import FLUSH_TIMER, Item
from orchestrator.state import commit as records
from orchestrator.state.commit import Record
from orchestrator.state.snapshot_store import Store, Write
from wf.errors import BrokerError
from wf.jetstream import topology
from wf.jetstream.port import Accepted, Port
from wf.protocol import messages

JsonObject = dict[str, Any]

FIRST_DELAY_S = 0.1
LONGEST_DELAY_S = 5.0
PARK_AFTER_S = 60.0
FLUSH_AFTER_S = 30.0
CROWD = 500  # with more than this held, none waits for its minute


class Parking:
    def __init__(
        self,
        port: Port,
        store: Store,
        publisher: Publisher,
        *,
        new_token: Callable[[], str],
        now_ms: Callable[[], int],
        ack: Callable[[Item], None],
        release: Callable[[str, list[Item]], None],
        on_hold: Callable[[str, list[Item]], None],
        on_error: Callable[[BaseException], None],
        park_after_s: float = PARK_AFTER_S,
        flush_after_s: float = FLUSH_AFTER_S,
    ) -> None:
        self._port = port
        self._store = store
        self._publisher = publisher
        self._new_token = new_token
        self._now_ms = now_ms
        self._ack = ack
        self._release = release
        self._on_hold = on_hold
        self._on_error = on_error
        self._park_after_s = park_after_s
        self._flush_after_s = flush_after_s
        self._held: dict[str, asyncio.Task[None]] = {}

    def holds(self, instance: str) -> bool:
        return instance in self._held

    def hold(
        self, instance: str, record: Record, left: Outbox, acked: list[Item], again: list[Item]
    ) -> None:
        """Keep sending `left`, the rest of the outbox of `record`. Then ack the items `acked`,
        which it implies, release the instance, and offer the items `again` to it."""
        task = asyncio.create_task(self._hold(instance, record, left, acked, again))
        self._held[instance] = task
        self._on_hold(instance, acked + again)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._on_error(error)

    async def _hold(
        self, instance: str, record: Record, left: Outbox, acked: list[Item], again: list[Item]
    ) -> None:
        loop = asyncio.get_running_loop()
        park_at = loop.time() + self._park_after_s
        delay_s = FIRST_DELAY_S
        overtaken = False
        while left.streams:
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, LONGEST_DELAY_S)
            rest = await self._publisher.publish({instance: left}, replay=True)
            left = rest.get(instance, Outbox())
            only_tasks = set(left.streams) == {topology.ACTIVITY_TASKS}
            crowded = len(self._held) > CROWD
            if not only_tasks or (loop.time() < park_at and not crowded):
                continue
            try:
                if await self._park(instance, record, left):
                    break
                current = await self._store.revision(instance) == record.revision
            except BrokerError as error:  # no answer: what is held is simply tried again
                logger.bind(instance=instance, error=str(error)).warning("parking.again")
                continue
            if not current:
                # Another process has built on it, and flushed it before. Ours come again.
                acked, again = [], acked + again
                left = Outbox()
                self._store.cache.drop(instance)
                overtaken = True
        if not left.streams and not overtaken:
            record.flushed = True
            self._store.cache.put(instance, record)
        for item in acked:
            self._ack(item)
        del self._held[instance]
        self._release(instance, again)

    async def _park(self, instance: str, record: Record, left: Outbox) -> bool:
        """Set the flush timer, then write down what is unpublished. False: not possible now."""
        if not await self._set_flush_timer(instance):
            return False
        refused = {message.message_id for message in left.streams[topology.ACTIVITY_TASKS]}
        assert record.snapshot is not None
        assert record.commit is not None
        runs = [
            run
            for run in record.commit.tasks
            if messages.task_message_id(instance, run, record.snapshot["runs"][str(run)]["attempt"])
            in refused
        ]
        if not await self._rewrite(instance, record, runs):
            return False
        logger.bind(instance=instance, tasks=len(runs)).warning("instance.parked")
        return True

    async def _set_flush_timer(self, instance: str) -> bool:
        due_ms = self._now_ms() + int(self._flush_after_s * 1000)
        body = messages.encode({"v": messages.VERSION})
        message = building.schedule(instance, FLUSH_TIMER, due_ms, body)
        (outcome,) = await self._port.publish(topology.WORKFLOW_TIMERS, [message])
        return isinstance(outcome, Accepted)

    async def _rewrite(self, instance: str, record: Record, unpublished: list[int]) -> bool:
        """The same commit with just these tasks to publish; whether that is stored."""
        assert record.snapshot is not None
        assert record.commit is not None
        commit = replace(
            record.commit,
            token=self._new_token(),
            history=[],
            tasks=unpublished,
            timers=[],
            cancelled=[],
            sends=[],
            dead=[],
            parked=bool(unpublished),
        )
        sealed = records.seal(record.snapshot, commit, record.watch)
        written = await self._store.write([Write(instance, record, sealed, commit.token)])
        if instance not in written.landed:
            return False
        fresh = records.built(record.snapshot, commit, sealed, written.landed[instance])
        fresh.flushed = True
        self._store.cache.put(instance, fresh)
        return True

    async def flush(self, instance: str, record: Record) -> bool:
        """The flush timer fired: try the parked tasks again. False: ask again later."""
        if record.snapshot is None or record.commit is None or not record.commit.parked:
            return True
        outbox = Outbox()
        for message in building.task_messages(record.snapshot, record.commit):
            outbox.add(topology.ACTIVITY_TASKS, message)
        left = await self._publisher.publish({instance: outbox}, replay=True)
        if instance in left:
            return await self._set_flush_timer(instance)
        if not await self._rewrite(instance, record, []):
            return False
        logger.bind(instance=instance).info("instance.unparked")
        return True

    async def close(self) -> None:
        """Give up: what is held stays unacked, and the successor takes it over."""
        for task in self._held.values():
            task.cancel()
        await asyncio.gather(*self._held.values(), return_exceptions=True)
