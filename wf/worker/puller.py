"""Taking tasks from an activity's consumer, as many as there is room for."""

from __future__ import annotations

import asyncio
import time

from loguru import logger

from wf.errors import BrokerError, MessageError
from wf.jetstream import topology
from wf.jetstream.port import Accepted, Delivery, Port, Pull
from wf.jetstream.publish_until_stored import store_one
from wf.protocol import gate
from wf.worker.activity_queue import Lane
from wf.worker.results import dead_message
from wf.worker.runner import Report, Runner
from wf.worker.task import Held, parse

RETRY_S = 1.0


class Puller:
    """Pulls for one lane: readable tasks go to the runner, the rest is reported or set aside."""

    def __init__(self, lane: Lane, runner: Runner, port: Port, report: Report) -> None:
        self._lane = lane
        self._runner = runner
        self._port = port
        self._report = report
        self._pull: Pull | None = None
        self._dead: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Pull until stopped."""
        lane = self._lane
        room = await lane.wait_for_room()
        while room:
            pull = self._pull or await self._open(room)
            pull.resize(room)
            deliveries = await pull.next(room, shrink=True)
            if not deliveries:
                return  # stopped
            coming = max(0, room - len(deliveries))
            if self.take(deliveries, pausing=True):
                await self._settle(pull)
                coming = 0
            elif coming and lane.room() <= 0:
                pull.resize(coming := 0)  # others may have them
            room = await lane.wait_for_room(coming)

    async def _open(self, room: int) -> Pull:
        self._pull = await self._port.pull(
            topology.ACTIVITY_TASKS, topology.consumer_name(self._lane.name), window=room
        )
        return self._pull

    async def _settle(self, pull: Pull) -> None:
        """A task is to run alone, and may be the worker's end: what is under way comes before, so
        that the slot knows of it and it can be handed back."""
        self._pull = None
        try:
            self.take(await pull.stop())
        finally:
            self._lane.solitude.resume()

    async def stop(self) -> list[Delivery]:
        """Ask for no more; what was delivered and not taken."""
        return await self._pull.stop() if self._pull is not None else []

    def take(self, deliveries: list[Delivery], *, pausing: bool = False) -> bool:
        """Hold the tasks, and start what has a place.

        `pausing`: a task that is to run alone does not start before `Solitude.resume`; True then.
        """
        self._lane.slot.taken(time.monotonic())
        alone = self._lane.alone
        solitude, before = self._lane.solitude, len(alone)
        if pausing:
            solitude.pause()
        for delivery in deliveries:
            self._take_one(delivery)
        paused = pausing and len(alone) > before
        if pausing and not paused:
            solitude.resume()
        self._runner.offer()
        return paused

    def _take_one(self, delivery: Delivery) -> None:
        lane = self._lane
        known = lane.held.get(delivery.sequence)
        if known is not None:  # delivered again while it is still in hand: the lease is new
            known.delivery = delivery
            known.lease_lost = False
            lane.note_lease(known)
            return
        try:
            held = parse(delivery)
        except Exception as error:  # noqa: BLE001 - whatever it is: one message ends no worker
            said = str(error) if isinstance(error, MessageError) else gate.error_text(error)
            self._set_aside(delivery, said)
            return
        if delivery.delivered >= lane.policy.max_deliver:
            lane.held[delivery.sequence] = held
            self._undeliverable(held)
            return
        lane.hold(held)
        if held.alone:
            lane.solitude.add(lane, held)
        else:
            lane.waiting.append(held)

    def _undeliverable(self, held: Held) -> None:
        held.settled = held.failed = True
        logger.bind(
            instance=held.instance,
            run=held.run,
            attempt=held.attempt,
            activity=self._lane.name,
            deliveries=held.delivery.delivered,
        ).error("task.undeliverable")
        self._report(self._lane, held, self._lane.results.undeliverable(held))

    def _set_aside(self, delivery: Delivery, reason: str) -> None:
        self._lane.unreadable[delivery.sequence] = delivery
        task = asyncio.get_running_loop().create_task(self._dead_letter(delivery, reason))
        self._dead.add(task)
        task.add_done_callback(self._dead.discard)

    async def _dead_letter(self, delivery: Delivery, reason: str) -> None:
        """Store what cannot be read, with its evidence; only then end its deliveries."""
        lane = self._lane
        log = logger.bind(activity=lane.name, sequence=delivery.sequence, reason=reason)
        letter = dead_message(delivery, lane.name, reason, lane.results.limit)
        while True:
            try:
                outcome = await store_one(self._port, topology.DEAD_LETTERS, letter)
            except BrokerError as error:
                log.bind(error=str(error)).warning("message.not_dead_lettered")
            else:
                if isinstance(outcome, Accepted):
                    break
                log.bind(error=outcome.description).warning("message.not_dead_lettered")
            await asyncio.sleep(RETRY_S)
        self._port.terminate(delivery)
        lane.unreadable.pop(delivery.sequence, None)
        log.error("message.dead_lettered")
