"""Who may run: places for the instances of workflows that limit how many run at once.

The order in the bucket WORKFLOW_PLACES decides (orchestrator/concurrency/waiting_lines.py); all
that is done here is to tell those
who have a place, by an event of their own. `admit` takes each change of the bucket once (consumer
`admission`, shared by all orchestrators), brings its copy up to it, and stores the events before it
acknowledges: what makes a place for somebody is never lost, and told twice is told once.
"""

from __future__ import annotations

from collections import Counter

from loguru import logger

from orchestrator.concurrency.waiting_lines import Entry, Places, row_of
from orchestrator.dispatch.effects import leave_place
from orchestrator.ingest.bucket_watch import Following
from orchestrator.ingest.consume import read
from orchestrator.ingest.poison_guard import Guard, event_of
from orchestrator.machine import TERMINAL
from orchestrator.registry.definitions import Definitions
from wf.errors import BrokerError, MessageError
from wf.jetstream import topology
from wf.jetstream.paging import last_pages
from wf.jetstream.port import Delivery, Outgoing, Port, Stored
from wf.jetstream.publish_batched import send_all
from wf.protocol import gate, messages, subjects

ALL = "$KV.WORKFLOW_PLACES.>"
PREFIX = "$KV.WORKFLOW_PLACES."
AUDITED = 50  # entries in one audit; their snapshots are read whole


class Admission:
    def __init__(
        self, port: Port, definitions: Definitions, *, batch: int, guard: Guard | None = None
    ) -> None:
        self._port = port
        self._guard = guard or Guard.idle()
        self._definitions = definitions
        self._batch = batch
        self._places = Places()
        self._seen: int | None = None  # generation of the definitions when all rows were looked at
        self._vacant: set[str] = set()
        self._suspected: set[str] = set()
        self._audited = 0
        self.entries = Following(
            port, topology.WORKFLOW_PLACES, ALL, self._take, self._forget, self._guard
        )
        self.counts: Counter[str] = Counter()

    async def admit(self) -> None:
        """Tell whoever gets a place by a change of the bucket."""
        stream, consumer = topology.WORKFLOW_PLACES, topology.ADMISSION
        await read(self._port, stream, consumer, self._batch, self._admit)

    async def _admit(self, taken: list[Delivery]) -> None:
        await self.entries.catch_up()
        keys = [delivery.subject.removeprefix(PREFIX) for delivery in taken]
        for key, delivery in zip(keys, taken, strict=True):
            if not delivery.data:
                self._places.remove(key)  # wherever the copy is, it is gone
            elif key not in self._places and await self._is_there(delivery):
                raise BrokerError(f"a replica does not have {key} yet")
        await self._grant(dict.fromkeys(row_of(key) for key in keys if _is_entry(key)))

    async def _is_there(self, delivery: Delivery) -> bool:
        """Whether an entry that the copy lacks is in the bucket: not taken out, and not odd."""
        last = await self._port.last(topology.WORKFLOW_PLACES, delivery.subject, leader=True)
        if last is None or last.sequence != delivery.sequence:
            return False
        return _is_entry(delivery.subject.removeprefix(PREFIX))

    async def refresh(self) -> None:
        """Look at all rows when a limit may have changed, or nobody knows who was told."""
        await self.entries.refresh()
        generation = self._definitions.generation
        if generation != self._seen:
            await self._grant(dict.fromkeys(self._places.waiting()))
            self._seen = generation

    async def _grant(self, rows: dict[str, None]) -> None:
        due: list[str] = []
        for row in rows:
            limit = await self._limit(row)
            due += self._places.due(row, limit)
        if due:
            await send_all(self._port, topology.WORKFLOW_EVENTS, [_admitted(key) for key in due])
            self._places.told(due)
            self.counts["admitted"] += len(due)

    async def _limit(self, row: str) -> int | None:
        """That of the newest version; None when it has none, which is made sure of."""
        namespace, workflow, *_ = row.split(".")
        known = self._definitions.limit(namespace, workflow)
        if known is None:
            await self._definitions.entries.catch_up()
            known = self._definitions.limit(namespace, workflow)
        return known

    # Places whose instances are no more

    def vacate(self, key: str) -> None:
        """The entry is of an instance that does not want it any more."""
        self._vacant.add(key)

    async def clear_vacant(self) -> None:
        """Take what was told to `vacate` out of the bucket."""
        if not self._vacant:
            return
        await self.entries.refresh()
        keys, self._vacant = self._vacant, set()
        found = sorted(key for key in keys if key in self._places)
        if not found:
            return  # given up in the ordinary way meanwhile
        try:
            await send_all(
                self._port, topology.WORKFLOW_PLACES, [leave_place(key) for key in found]
            )
        except BrokerError:
            self._vacant |= keys
            raise
        for key in found:
            logger.bind(instance=Entry.parse(key).instance, key=key).warning("place.reclaimed")

    async def audit(self) -> None:
        """Look whether those who have a place, and let others wait, are there and at work. One that
        is not, twice in a row, does not want it any more: somebody could not say so."""
        keys = await self._in_the_way()
        absent = await self._absent(keys) if keys else set()
        for key in sorted(absent & self._suspected):
            if await self._is_absent(key):
                self.vacate(key)
        self._suspected = absent

    async def _in_the_way(self) -> list[str]:
        """Entries that have a place in rows where others wait: some of them, in turns."""
        keys = [key for key in sorted(self._suspected) if key in self._places]
        rows = list(self._places.waiting())
        for _ in range(len(rows)):
            if len(keys) >= AUDITED:
                break
            row = rows[self._audited % len(rows)]
            front = self._places.front(row, await self._limit(row))
            start = self._audited // len(rows) * AUDITED % len(front) if front else 0
            keys += front[start : start + AUDITED]
            self._audited += 1
        return list(dict.fromkeys(keys))

    async def _absent(self, keys: list[str]) -> set[str]:
        names = {key: subjects.state(Entry.parse(key).instance) for key in keys}
        keys_of = {name: key for key, name in names.items()}
        wanted = set()
        async for page in last_pages(self._port, topology.WORKFLOW_STATES, keys_of):
            wanted |= {
                keys_of[name] for name, one in page.items() if self._wants(one, keys_of[name])
            }
        return set(keys) - wanted

    async def _is_absent(self, key: str) -> bool:
        name = subjects.state(Entry.parse(key).instance)
        return not self._wants(
            await self._port.last(topology.WORKFLOW_STATES, name, leader=True), key
        )

    def _wants(self, stored: Stored | None, key: str) -> bool:
        """Whether the snapshot is of an instance that has this place, or waits for it. One that
        cannot be read keeps its place until it is mended."""
        if stored is None or stored.is_marker:
            return False
        try:
            with self._guard.about(event_of(topology.WORKFLOW_STATES, stored)):
                snapshot = gate.decode(stored.data, "state", depth=gate.STORED_DEPTH)
        except MessageError:
            return True
        match snapshot:
            case {"status": str(status)}:
                slot = snapshot.get("slot")
                turn = slot.get("turn") if isinstance(slot, dict) else None
                return status not in TERMINAL and turn == Entry.parse(key).turn
        return True

    # The copy

    def _take(self, stored: Stored) -> None:
        key = stored.subject.removeprefix(PREFIX)
        if stored.is_marker:
            self._places.remove(key)
        elif _is_entry(key):
            self._places.put(key)
        else:
            logger.bind(subject=stored.subject).error("place.unusable")

    def _forget(self) -> None:
        self._places.clear()
        self._seen = None


def _is_entry(key: str) -> bool:
    try:
        Entry.parse(key)
    except ValueError:
        return False
    return True


def _admitted(key: str) -> Outgoing:
    entry = Entry.parse(key)
    return Outgoing(
        subjects.own_place(entry.instance, entry.turn),
        messages.encode(messages.admit_body(turn=entry.turn, entry=key)),
        message_id=messages.admit_message_id(entry.instance, entry.turn),
    )
