"""Snapshots in the KV: load with their flush state, write with compare-and-set.

A write is one atomic batch for the group, or pipelined singles when the group is small (an atomic
batch costs about 2 ms however small) and always when something went wrong with the batch. What a
snapshot sets apart (orchestrator/state/large_values.py) is stored before it, and dropped after one
that does
not name it any more: so what a stored snapshot names is there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

from loguru import logger

from orchestrator.ingest.poison_guard import Convicted, Guard, Work, event_of
from orchestrator.ingest.poison_journal import Event
from orchestrator.state import commit as records
from orchestrator.state.commit import Commit, Record, Sealed
from orchestrator.state.snapshot_cache import Cache
from wf.errors import MessageError
from wf.jetstream import topology
from wf.jetstream.port import Accepted, Outcome, Outgoing, Port, Stored
from wf.jetstream.publish_batched import BATCH_MINIMUM, chunks, send
from wf.protocol import gate, subjects
from wf.protocol.json_weight import weight

CONSUMERS = (
    (topology.WORKFLOW_EVENTS, topology.ORCHESTRATOR),
    (topology.WORKFLOW_TIMERS, topology.TIMERS),
)


REREAD_PAUSE_S = (0.0, 0.02, 0.1, 0.5, 1.0)
READ_BYTES = 8 * 1024 * 1024  # of snapshots that are read at once
LEADER_READS = 1  # up to so many instances are asked of the stream's leader, more of any replica


@dataclass(slots=True)
class Write:
    """One snapshot to store: `sealed` over `record`, with the token that it carries."""

    instance: str
    record: Record  # what it was decided on; its revision is what the KV must still hold
    sealed: Sealed
    token: str
    ttl_s: int | None = None


@dataclass(slots=True)
class Written:
    """Which writes landed (instance → revision) and which lost or are unknown."""

    landed: dict[str, int]
    lost: list[str]


class Store:
    def __init__(self, port: Port, cache: Cache, guard: Guard | None = None) -> None:
        self._port = port
        self._guard = guard or Guard.idle()
        self.cache = cache

    async def load(self, instances: Iterable[str], new: set[str]) -> dict[str, Record]:
        """The record of each instance, from memory or the KV; when those are large, of as many as
        may be read at once, but of one at least.

        Those in `new` are taken to be absent without a look; where that is wrong, the write that
        expects no revision loses, and the instance is read in the next round.
        """
        found: dict[str, Record] = {}
        cold: list[str] = []
        for instance in instances:
            record = self.cache.get(instance)
            if record is not None:
                found[instance] = record
            elif instance in new:
                found[instance] = records.absent()
            else:
                cold.append(instance)
        if cold:
            found.update(await self.read(cold))
        return found

    async def read(self, instances: list[str]) -> dict[str, Record]:
        """Straight from the KV, until READ_BYTES have come. The floors are read before the
        snapshots: then, at or below them means published."""
        floors = {
            stream: await self._port.ack_floor(stream, consumer) for stream, consumer in CONSUMERS
        }
        stored, whole = await self._some(instances)
        await self._guard.settle(
            [Work(_event(one), partial(records.decode, one)) for one in stored.values()]
        )
        found: dict[str, Record] = {}
        size = 0
        for instance in instances:
            current = stored.pop(subjects.state(instance), None)
            if current is None and not whole:
                continue
            if size >= READ_BYTES:
                break
            record = await self._completed(instance, self._decoded(current))
            size += record.size if current is None else record.size + weight(current.data)
            if record.commit is not None:
                record.flushed = records.is_published(record.commit, floors)
            record.doubtful = len(instances) > LEADER_READS
            found[instance] = record
        return found

    def _decoded(self, stored: Stored | None) -> Record:
        """A state that kills is none."""
        if stored is None:
            return records.absent()
        try:
            with self._guard.about(_event(stored)):
                return records.decode(stored)
        except Convicted as convicted:
            self._guard.acquit(_event(stored))  # its quarantine is what it leads to
            return records.unusable(stored.sequence, str(convicted))

    async def _completed(self, instance: str, record: Record) -> Record:
        """With the values that are stored beside the snapshot. When one is gone, so is the
        snapshot that named it: the leader knows the next one."""
        for pause_s in (*REREAD_PAUSE_S, None):
            if record.commit is None or not record.commit.apart:
                break
            beside = await self._beside(instance, record.commit)
            try:
                record.missing = records.complete(record, beside)
            except (MessageError, LookupError, TypeError, AttributeError) as error:
                return records.unusable(record.revision, gate.error_text(error))
            if not record.missing:
                break
            if pause_s is None:
                log = logger.bind(instance=instance, keys=record.missing)
                log.error("state.value.missing")
                break
            await asyncio.sleep(pause_s)
            current = await self._port.last(
                topology.WORKFLOW_STATES, subjects.state(instance), leader=True
            )
            if current is None or current.sequence != record.revision:
                record = self._decoded(current)
        return record

    async def _beside(self, instance: str, commit: Commit) -> dict[str, bytes]:
        """The values (by key) that the commit has set apart, as far as they are there."""
        keys = {subjects.state_value(instance, key): key for key in commit.apart}
        found = dict(await self._port.last_many(topology.WORKFLOW_STATES, list(keys)))
        for name in keys.keys() - found.keys():  # a replica may be behind
            stored = await self._port.last(topology.WORKFLOW_STATES, name, leader=True)
            if stored is not None:
                found[name] = stored
        return {keys[name]: stored.data for name, stored in found.items()}

    async def _some(self, instances: list[str]) -> tuple[dict[str, Stored], bool]:
        """What the KV holds for some of them, and whether that is all of it."""
        names = [subjects.state(instance) for instance in instances]
        if len(names) <= LEADER_READS:
            found = {
                name: await self._port.last(topology.WORKFLOW_STATES, name, leader=True)
                for name in names
            }
            return {name: stored for name, stored in found.items() if stored is not None}, True
        return await self._port.last_some(topology.WORKFLOW_STATES, names, READ_BYTES)

    async def revision(self, instance: str) -> int:
        """The current revision, from the stream's leader (0: none)."""
        subject = subjects.state(instance)
        stored = await self._port.last(topology.WORKFLOW_STATES, subject, leader=True)
        return 0 if stored is None else stored.sequence

    async def exists(self, instance: str) -> bool:
        """Whether there is a snapshot, as the stream's leader knows."""
        stored = await self._port.last(
            topology.WORKFLOW_STATES, subjects.state(instance), leader=True
        )
        return stored is not None and not stored.is_marker

    async def write(self, writes: list[Write], *, singly: bool = False) -> Written:
        """Store all; a write whose acknowledgement was lost but whose token is found has landed."""
        written = Written({}, [])
        writes = await self._set_apart(writes, written)
        messages = [
            Outgoing(
                subjects.state(write.instance),
                write.sealed.value,
                expected=write.record.revision,
                ttl_s=write.ttl_s,
            )
            for write in writes
        ]
        for start, chunk in chunks(messages):
            part = writes[start : start + len(chunk)]
            outcomes = await self._send(chunk, singly)
            unsure: list[Write] = []
            for write, outcome in zip(part, outcomes, strict=True):
                if isinstance(outcome, Accepted):
                    written.landed[write.instance] = outcome.sequence
                else:
                    unsure.append(write)
            if unsure:
                await self._settle(unsure, written)
        return written

    async def _set_apart(self, writes: list[Write], written: Written) -> list[Write]:
        """Store what goes beside the snapshots; those writes are returned that may go on."""
        beside = [
            (write.instance, Outgoing(subjects.state_value(write.instance, key), data))
            for write in writes
            for key, data in write.sealed.beside
        ]
        if not beside:
            return writes
        messages = [message for _, message in beside]
        outcomes = await send(self._port, topology.WORKFLOW_STATES, messages)
        lost = {
            instance
            for (instance, _), outcome in zip(beside, outcomes, strict=True)
            if not isinstance(outcome, Accepted)
        }
        for instance in lost:
            self.cache.drop(instance)
        written.lost += lost
        return [write for write in writes if write.instance not in lost]

    async def _send(self, chunk: list[Outgoing], singly: bool) -> list[Outcome]:
        if not singly and len(chunk) >= BATCH_MINIMUM:
            outcome = await self._port.publish_batch(topology.WORKFLOW_STATES, chunk)
            if isinstance(outcome, Accepted):
                first = outcome.sequence - len(chunk) + 1
                return [Accepted(first + n) for n in range(len(chunk))]
            # Only the first offender is reported: singles tell each one's fate.
        return await self._port.publish(topology.WORKFLOW_STATES, chunk)

    async def _settle(self, unsure: list[Write], written: Written) -> None:
        """Read again what was refused or not answered: one's own token means success."""
        for write in unsure:
            self.cache.drop(write.instance)
        left = unsure
        while left:
            stored, whole = await self._some([write.instance for write in left])
            later: list[Write] = []
            for write in left:
                current = stored.pop(subjects.state(write.instance), None)
                if current is None and not whole:
                    later.append(write)
                else:
                    await self._settle_one(write, records.decode(current), written)
            left = later

    async def _settle_one(self, write: Write, current: Record, written: Written) -> None:
        if current.commit is not None and current.commit.token == write.token:
            written.landed[write.instance] = current.revision
            return
        written.lost.append(write.instance)
        if current.revision > write.record.revision:
            await self._drop_beside(write, current)

    async def _drop_beside(self, write: Write, current: Record) -> None:
        """The KV has moved on: drop what was stored for nothing. (What landed unseen, and was
        built on by another process since, is named by `current`, or was dropped by it.)"""
        named = current.commit.apart if current.commit is not None else {}
        for key, _ in write.sealed.beside:
            if key not in named:
                subject = subjects.state_value(write.instance, key)
                await self._port.purge(topology.WORKFLOW_STATES, subject=subject)


def _event(stored: Stored) -> Event:
    return event_of(topology.WORKFLOW_STATES, stored)
