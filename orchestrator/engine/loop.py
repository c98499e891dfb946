"""The orchestrator's loop: take what is there, commit it as a group, go on.

Natural batching: nothing waits for a group to fill. While one group commits the next one is
gathered; the size of groups follows the load by itself.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from functools import partial

from loguru import logger

from orchestrator.engine.event_groups import Group
from orchestrator.engine.group_commit import Engine
from orchestrator.ingest import dead_letters
from orchestrator.ingest.ack_renewal import Leases
from orchestrator.ingest.instance_queues import Lanes
from orchestrator.ingest.messages_in import Item, Unreadable, read
from orchestrator.ingest.poison_guard import Guard, Work, named
from wf.jetstream import topology
from wf.jetstream.port import Accepted, Delivery, Port, Pull

GROUPS_AT_ONCE = 4
HELD_AHEAD = 3  # groups' worth of events that are taken in but not yet acked, at most
GROUP_BYTES = 8 * 1024 * 1024  # of a group's events; a larger event is a group of its own
HELD_BYTES = 48 * 1024 * 1024  # of the events of one stream that are taken in but not yet acked
FINISH_S = 3.0  # for the groups under way; orphans are to be gone within ten seconds


class Service:
    def __init__(
        self,
        port: Port,
        lanes: Lanes,
        leases: Leases,
        *,
        batch: int,
        guard: Guard | None = None,
    ) -> None:
        self._port = port
        self._lanes = lanes
        self._leases = leases
        self._batch = batch
        self._guard = guard or Guard.idle()
        self._pulls: list[Pull] = []
        self._engine: Engine | None = None
        self._stop = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._groups: set[asyncio.Task[None]] = set()
        self._aside: set[str] = set()  # instances that wait for room in a queue
        self._stopping = False
        self._failure: BaseException | None = None
        self.counts: Counter[str] = Counter()
        self.own_from = 0  # of WORKFLOW_EVENTS, as in inbound.to_event

    async def run(self, engine: Engine) -> None:
        """Until `stop`; raises what went wrong in a group or an intake."""
        intakes = [
            asyncio.create_task(self._intake(topology.WORKFLOW_EVENTS, topology.ORCHESTRATOR)),
            asyncio.create_task(self._intake(topology.WORKFLOW_TIMERS, topology.TIMERS)),
        ]
        for task in intakes:
            task.add_done_callback(self._ended)
        self._engine = engine
        try:
            await self._stop.wait()  # meanwhile intakes and groups call `_dispatch`
            await self._finish()
        finally:
            for task in intakes:
                task.cancel()
            await asyncio.gather(*intakes, return_exceptions=True)
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """Take in nothing more; `run` returns when the groups under way are through."""
        self._stopping = True
        self._stop.set()

    def fail(self, error: BaseException) -> None:
        """Something broke that must not be survived half: end, and let the successor recover."""
        if self._failure is None:
            self._failure = error
        self.stop()

    async def _finish(self) -> None:
        """Hand back what was not begun, and see the groups under way through."""
        for pull in self._pulls:
            for delivery in await pull.stop():
                self._port.nak(delivery)
        for item in self._lanes.drain():
            self._port.nak(item.delivery)
            self._leases.drop(item)
        if self._groups and self._failure is None:
            # Without a broker they would never end. What they leave undone is done by whoever
            # comes next, as after a crash.
            await asyncio.wait(self._groups, timeout=FINISH_S)
            if self._groups:
                logger.bind(groups=len(self._groups)).warning("groups.left")
        for group in self._groups:
            group.cancel()
        await asyncio.gather(*self._groups, return_exceptions=True)

    # Intake

    async def _intake(self, stream: str, consumer: str) -> None:
        pull = await self._port.pull(stream, consumer, window=self._batch * 2)
        self._pulls.append(pull)
        limit = self._batch * HELD_AHEAD
        loop = asyncio.get_running_loop()
        left: deque[Delivery] = deque()  # not looked at before there is room for what is in it
        try:
            while not self._stopping:
                left.extend(await pull.next(self._batch))
                await self._guard.settle(
                    [Work(named(one), partial(read, one)) for one in left], hopeless=True
                )
                now_s = loop.time()
                while left and not self._stopping:
                    await self._offer(left.popleft(), now_s)
                    if self._is_full(stream, limit):
                        await self._wait_for_room(stream, limit)
                        now_s = loop.time()
                self._dispatch()
        finally:
            for delivery in left:
                self._port.nak(delivery)

    async def _offer(self, delivery: Delivery, now_s: float) -> None:
        item = self._read(delivery)
        if isinstance(item, Unreadable):
            await self._set_aside(item)
        else:
            self._leases.take(item, now_s, aside=item.instance in self._aside)
            self._lanes.offer(item)

    def _read(self, delivery: Delivery) -> Item | Unreadable:
        """What is convicted of more than its effect on its instance is not even looked at."""
        event = named(delivery)
        case = self._guard.case(event)
        if case is not None and case.is_hopeless:
            return Unreadable(delivery, f"reading it ended the process: {case.cause}")
        self._guard.mark(event)
        own_from = self.own_from if delivery.stream == topology.WORKFLOW_EVENTS else 0
        item = read(delivery, own_from)
        self._guard.clear()
        return item

    async def _wait_for_room(self, stream: str, limit: int) -> None:
        self._dispatch()
        for instance in self._aside:  # some of what is held may have moved behind others
            self._leases.set_aside(self._lanes.waiting(instance))
        while self._is_full(stream, limit) and not self._stopping:
            self._room.clear()
            await self._room.wait()

    def _is_full(self, stream: str, limit: int) -> bool:
        leases = self._leases
        return leases.active(stream) >= limit or leases.active_bytes(stream) >= HELD_BYTES

    async def _set_aside(self, unreadable: Unreadable) -> None:
        """Store a message that breaks the protocol as a dead letter, then ack it."""
        delivery = unreadable.delivery
        message = dead_letters.letter(delivery.stream, delivery, unreadable.reason, "unreadable")
        (outcome,) = await self._port.publish(topology.DEAD_LETTERS, [message])
        log = logger.bind(subject=delivery.subject, sequence=delivery.sequence)
        if isinstance(outcome, Accepted):
            log.bind(reason=unreadable.reason).error("message.unreadable")
            self.counts["unreadable"] += 1
            self._guard.acquit(named(delivery))
            self._port.ack(delivery)
        else:
            log.bind(outcome=str(outcome)).warning("dead-letter.not.stored")
            self._port.nak(delivery, 1.0)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.fail(error)

    # Groups

    def _dispatch(self) -> None:
        """Begin groups of what is ready, as many as may be under way at once."""
        engine = self._engine
        while engine and len(self._groups) < GROUPS_AT_ONCE and self._lanes.has_ready:
            if self._stopping:
                return
            group = self._lanes.take(self._batch, GROUP_BYTES)
            if group:
                self._begin(engine, group)

    def _begin(self, engine: Engine, group: Group) -> None:
        task = asyncio.create_task(engine.process(group))
        self._groups.add(task)
        task.add_done_callback(self._group_done)

    def _group_done(self, task: asyncio.Task[None]) -> None:
        self._groups.discard(task)
        self._ended(task)
        self._dispatch()

    # What the engine tells

    def done(self, item: Item) -> None:
        """The item was acked or handed back."""
        self._leases.drop(item)
        self._room.set()

    def release(self, instance: str, again: list[Item]) -> None:
        """The instance may be in a group again; `again` goes first."""
        ready = self._lanes.release(instance, again)
        if instance in self._aside:
            self._aside.discard(instance)
            self._leases.bring_back(ready)
        self._dispatch()

    def hold(self, instance: str, items: list[Item]) -> None:
        """The instance waits for room in a queue; its events are not work in hand until then."""
        self._aside.add(instance)
        self._leases.set_aside([*items, *self._lanes.waiting(instance)])
        self._room.set()
