"""Snapshots in the KV: load with their flush state, write with compare-and-set.

A write is one atomic batch for the group, or pipelined singles when the group is small (an atomic
batch costs about 2 ms however small) and always when something went wrong with the batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from orchestrator import record as records
from orchestrator.cache import Cache
from orchestrator.record import Record
from orchestrator.sending import BATCH_MINIMUM, chunks
from wf import subjects
from wf.jetstream import topology
from wf.jetstream.port import Accepted, Outcome, Outgoing, Port, Stored

CONSUMERS = (
    (topology.WORKFLOW_EVENTS, topology.ORCHESTRATOR),
    (topology.WORKFLOW_TIMERS, topology.TIMERS),
)


LEADER_READS = 1  # up to so many instances are asked of the stream's leader, more of any replica


@dataclass(slots=True)
class Write:
    """One snapshot to store: `value` over `record`, with the token that `value` carries."""

    instance: str
    record: Record  # what it was decided on; its revision is what the KV must still hold
    value: bytes
    token: str
    ttl_s: int | None = None


@dataclass(slots=True)
class Written:
    """Which writes landed (instance → revision) and which lost or are unknown."""

    landed: dict[str, int]
    lost: list[str]


class Store:
    def __init__(self, port: Port, cache: Cache) -> None:
        self._port = port
        self.cache = cache

    async def load(self, instances: Iterable[str], new: set[str]) -> dict[str, Record]:
        """The record of each instance, from memory or the KV.

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
        """Straight from the KV. The floors are read before the snapshots: then, at or below them
        means published."""
        floors = {
            stream: await self._port.ack_floor(stream, consumer) for stream, consumer in CONSUMERS
        }
        stored = await self._last(instances)
        found: dict[str, Record] = {}
        for instance in instances:
            record = records.decode(stored.get(subjects.state(instance)))
            if record.commit is not None:
                record.flushed = records.is_published(record.commit, floors)
            record.doubtful = len(instances) > LEADER_READS
            found[instance] = record
        return found

    async def _last(self, instances: list[str]) -> Mapping[str, Stored]:
        names = [subjects.state(instance) for instance in instances]
        if len(names) <= LEADER_READS:
            found = {
                name: await self._port.last(topology.WORKFLOW_STATES, name, leader=True)
                for name in names
            }
            return {name: stored for name, stored in found.items() if stored is not None}
        return await self._port.last_many(topology.WORKFLOW_STATES, names)

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
        return records.decode(stored).snapshot is not None

    async def write(self, writes: list[Write], *, singly: bool = False) -> Written:
        """Store all; a write whose acknowledgement was lost but whose token is found has landed."""
        written = Written({}, [])
        messages = [
            Outgoing(subjects.state(w.instance), w.value, expected=w.record.revision, ttl_s=w.ttl_s)
            for w in writes
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
        stored = await self._last([write.instance for write in unsure])
        for write in unsure:
            self.cache.drop(write.instance)
            current = records.decode(stored.get(subjects.state(write.instance)))
            if current.commit is not None and current.commit.token == write.token:
                written.landed[write.instance] = current.revision
            else:
                written.lost.append(write.instance)
