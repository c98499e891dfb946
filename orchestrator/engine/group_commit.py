"""One group of events, from load to ack: docs/design.md §6, top-down in `Engine.process`.

    load → flush what a predecessor left → apply → 1. snapshots → 2. outbox → 3. ack

What loses a compare-and-set goes round again with a fresh snapshot; what the broker refuses to
take is retried by `orchestrator/dispatch/backpressure.py` while the others go on.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from loguru import logger

from orchestrator.dispatch.backpressure import Parking
from orchestrator.dispatch.outbox import Outbox
from orchestrator.dispatch.outbox_relay import Publisher
from orchestrator.engine import apply as applying
from orchestrator.engine import child_conflict, event_groups, faults
from orchestrator.engine.apply import Applied, Limits
from orchestrator.engine.event_groups import Group
from orchestrator.engine.quarantine import Quarantine
from orchestrator.ingest import dead_letters
from orchestrator.ingest.early_events import droppable
from orchestrator.ingest.messages_in import FLUSH_TIMER, Item, listener_key, place_key
from orchestrator.ingest.poison_guard import Guard, Work, named
from orchestrator.ingest.poison_journal import Event
from orchestrator.machine import TERMINAL
from orchestrator.registry.definitions import Definitions
from orchestrator.state.commit import Record, StateUnusable, built
from orchestrator.state.snapshot_store import Store, Write, Written
from wf.errors import BrokerError
from wf.jetstream import topology
from wf.jetstream.paging import last_pages
from wf.jetstream.port import Port
from wf.jetstream.publish_batched import send_all
from wf.protocol import gate, subjects

# Why an event has no effect when the listener, or the turn in line, that it is for is no more.
TOO_LATE = frozenset({"late", "terminal", "unknown", "expired"})

DEADLY = "deadly"  # an event that cannot even be replaced by a fault

NAK_DELAY_S = 1.0
LOST_BACKOFF_S = (0.0, 0.02, 0.1, 0.5, 1.0)


@dataclass(slots=True, frozen=True)
class Retention:
    """Seconds for which an ended instance's snapshot stays in the KV."""

    completed_s: int
    faulted_s: int

    def of(self, status: str) -> int | None:
        if status not in TERMINAL:
            return None
        return self.faulted_s if status == "faulted" else self.completed_s


class Engine:
    def __init__(
        self,
        port: Port,
        store: Store,
        definitions: Definitions,
        guard: Guard,
        publisher: Publisher,
        parking: Parking,
        *,
        limits: Limits,
        retention: Retention,
        new_token: Callable[[], str],
        done: Callable[[Item], None],
        release: Callable[[str, list[Item]], None],
        stale: Callable[[str], None] = lambda key: None,
        vacant: Callable[[str], None] = lambda key: None,
    ) -> None:
        """`done` is told of every item that was acked or handed back, `release` of every instance
        that may be in a group again, with the items to offer first. `new_token` gives random
        commit tokens. `stale` is told of entries of the index of listeners that lead nowhere,
        `vacant` of such places."""
        self._port = port
        self._store = store
        self._definitions = definitions
        self._guard = guard
        self._publisher = publisher
        self._parking = parking
        self._limits = limits
        self._retention = retention
        self._new_token = new_token
        self._done = done
        self._release = release
        self._stale = stale
        self._vacant = vacant
        self._quarantine = Quarantine(
            port,
            store,
            publisher,
            definitions.get,
            limits=limits,
            ttl_s=retention.of,
            new_token=new_token,
        )
        self.counts: Counter[str] = Counter()

    async def process(self, group: Group) -> None:
        """Carry every event of the group to its ack, and release its instances one by one."""
        pending, turn, lost = group, 0, 0
        while pending:
            if lost:
                await asyncio.sleep(LOST_BACKOFF_S[min(lost, len(LOST_BACKOFF_S) - 1)])
            turn += 1
            gone: set[str] = set()
            before = event_groups.count(pending)
            try:
                pending = await self._turn(pending, gone, fresh=turn == 1)
            except Exception as error:
                # No answer: what is not acked is simply done again. So is what an event broke, and
                # that one is suspect from here on.
                if not isinstance(error, BrokerError) and not self._guard.raised(error):
                    raise
                log = logger.bind(error=gate.error_text(error), instances=len(pending))
                log.warning("group.again")
                pending = {one: items for one, items in pending.items() if one not in gone}
                for instance in pending:
                    self._store.cache.drop(instance)
            # One by one (groups.one_each) every turn leaves some, and none is lost.
            careful = self._guard.is_careful()
            lost = 0 if careful and event_groups.count(pending) < before else lost + 1

    async def _turn(self, group: Group, gone: set[str], *, fresh: bool) -> Group:
        """One round; what must go round again is returned. `gone` gets the instances that are
        not this group's any more: released, or Parking's to release. `fresh`: the first round, in
        which a start may be taken for the first of its instance."""
        careful = self._guard.is_careful(_event(item) for items in group.values() for item in items)
        group, again = event_groups.one_each(group) if careful else (group, {})
        starting = event_groups.starting(group)
        told = await self._told(starting)
        records = await self._store.load(group, starting - told if fresh else set())
        for instance in group.keys() - records.keys():  # too much at once: in another group
            gone.add(instance)
            self._release(instance, group[instance] + again.pop(instance, []))
        refused = await self._flush_cold(records)
        await self._take_out(group, records, gone, again)
        for instance, left in refused.items():
            items = group[instance] + again.pop(instance, [])
            gone.add(instance)
            self._parking.hold(instance, records.pop(instance), left, [], items)
        gone |= await self._drop_expired(group, records, told, again)
        group = {instance: group[instance] for instance in records}
        await self._definitions.prepare(group, records)
        if careful:
            group = await self._try(group, records, again)
        results = self._apply(group, records)
        await self._take_out(group, records, gone, again)
        written = await self._write(records, results)
        event_groups.merge(again, {instance: group[instance] for instance in written.lost})
        for instance in written.lost:
            results.pop(instance)
            self.counts["conflicts"] += 1
        gone |= await self._publish(records, results, written.landed, again)
        event_groups.merge(again, await self._settle_ignored(records, results))
        for instance in group:
            if instance not in again and instance not in gone:
                gone.add(instance)
                self._release(instance, [])
        return again

    # Load

    async def _flush_cold(self, records: dict[str, Record]) -> dict[str, Outbox]:
        """Publish what a predecessor committed and may not have published. Returns the refused."""
        cold = {key: record for key, record in records.items() if not record.flushed}
        if not cold:
            return {}
        refused = await self._publisher.flush(cold)
        self.counts["flushed"] += len(cold) - len(refused)
        for instance, record in cold.items():
            record.flushed = instance not in refused
        return refused

    async def _take_out(
        self, group: Group, records: dict[str, Record], gone: set[str], again: Group
    ) -> None:
        """Instances whose stored state nobody can go on with leave the group, and `records`."""
        for instance in [one for one, record in records.items() if record.unusable]:
            self._store.cache.drop(instance)
            items = group[instance] + again.pop(instance, [])
            back = await self._quarantine.take(instance, records.pop(instance), items)
            self.counts["quarantined"] += len(items) - len(back)
            for item in items[len(back) :]:
                self._ack(item)
            gone.add(instance)
            self._release(instance, back)

    async def _told(self, starting: set[str]) -> set[str]:
        """Those of the instances to be started that have a history: they are not new."""
        names = {
            subjects.history(instance): instance
            for instance in starting
            if self._store.cache.get(instance) is None
        }
        if len(names) == 1:
            ((name, instance),) = names.items()
            last = await self._port.last(topology.WORKFLOW_HISTORY, name)
            return {instance} if last is not None else set()
        if not names:
            return set()
        pages = last_pages(self._port, topology.WORKFLOW_HISTORY, names)
        return {names[name] async for page in pages for name in page}

    async def _drop_expired(
        self, group: Group, records: dict[str, Record], told: set[str], again: Group
    ) -> set[str]:
        """A start whose instance has history but no snapshot: it ended and expired. Released here,
        with what of it was to wait for the next round.

        The snapshot is read once more, after the history: another process may have made the
        instance in between, and then its outbox must be seen to.
        """
        absent = [
            instance
            for instance in told
            if instance in records and records[instance].snapshot is None
        ]
        appeared = [instance for instance in absent if await self._store.exists(instance)]
        for instance in absent:
            records.pop(instance)
            if instance in appeared:
                self.counts["stale"] += 1
                self._release(instance, group[instance] + again.pop(instance, []))
                continue
            for item in group[instance]:
                await child_conflict.refuse(self._port, item, None)
                self._ignore(item, "expired")
            self._release(instance, again.pop(instance, []))
        return set(absent)

    # Apply

    async def _try(self, group: Group, records: dict[str, Record], again: Group) -> Group:
        """In a child first, one event each: what fell there goes round again, the rest goes on."""
        fallen = await self._guard.examine(
            [
                Work(_event(items[0]), partial(self._apply_one, records[instance], items))
                for instance, items in group.items()
            ]
        )
        fell = {key: items for key, items in group.items() if _event(items[0]) in fallen}
        event_groups.merge(again, fell)
        return {key: items for key, items in group.items() if key not in fell}

    def _apply(self, group: Group, records: dict[str, Record]) -> dict[str, Applied]:
        """All of it without an await, so that the journal names just what is being applied."""
        results: dict[str, Applied] = {}
        for instance, items in group.items():
            self._guard.mark(_event(items[0]), alone=len(items) == 1)
            applied = self._apply_one(records[instance], items)
            if applied is not None:
                results[instance] = applied
        self._guard.clear()
        return results

    def _apply_one(self, record: Record, items: list[Item]) -> Applied | None:
        """None when the state is no state: `record` says so from here on."""
        plain: list[Item] = []
        ignored: list[tuple[Item, str]] = []
        for item in items:
            case = self._guard.case(_event(item))
            if item.event["kind"] == FLUSH_TIMER:
                ignored.append((item, FLUSH_TIMER))
            elif case is None:
                plain.append(item)
            elif case.is_hopeless:
                ignored.append((item, DEADLY))
            else:
                plain.append(faults.convicted(item, case))
        try:
            applied = applying.apply(
                record, plain, self._definitions.lookup, self._limits, self._new_token()
            )
        except StateUnusable as error:
            record.unusable = str(error)
            return None
        applied.ignored += ignored
        return applied

    # 1. Snapshots

    async def _write(self, records: dict[str, Record], results: dict[str, Applied]) -> Written:
        writes = [
            Write(
                instance,
                records[instance],
                result.sealed,
                result.commit.token,
                self._retention.of(result.snapshot["status"]) if result.snapshot else None,
            )
            for instance, result in results.items()
            if result.commit is not None and result.sealed is not None
        ]
        return await self._store.write(writes)

    # 2. Outbox, 3. ack

    async def _publish(
        self,
        records: dict[str, Record],
        results: dict[str, Applied],
        landed: dict[str, int],
        again: Group,
    ) -> set[str]:
        """Publish the outboxes of what landed, then ack its events. Returns the held ones."""
        held: set[str] = set()
        committed = {instance: results[instance] for instance in landed}
        for instance, revision in landed.items():
            result = results[instance]
            assert result.sealed is not None
            records[instance] = built(result.snapshot, result.commit, result.sealed, revision)
            if result.finished:
                await self._announce(instance, result)
        refused = await self._publisher.publish({k: r.outbox for k, r in committed.items()})
        for instance, result in committed.items():
            record = records[instance]
            parked = record.commit is not None and record.commit.parked
            if instance in refused and not (parked and _only_tasks(refused[instance])):
                # Not even a duplicate may be acked now: it may be a copy of what was applied.
                items = result.applied + [item for item, _ in result.ignored]
                result.ignored = []
                later = again.pop(instance, [])
                held.add(instance)
                self._parking.hold(instance, record, refused[instance], items, later)
                continue
            record.flushed = True
            self._remember(instance, record)
            for item in result.applied:
                self._ack(item)
            self.counts["applied"] += len(result.applied)
        return held

    def _remember(self, instance: str, record: Record) -> None:
        """Keep what is alive: hardly an event comes for an instance that has ended."""
        assert record.snapshot is not None
        assert record.commit is not None
        record.commit.history = []  # published, and the bulk of the record
        if record.snapshot["status"] in TERMINAL:
            self._store.cache.drop(instance)
        else:
            self._store.cache.put(instance, record)

    async def _announce(self, instance: str, result: Applied) -> None:
        """Tell waiters that the end is stored; that they hear it is not guaranteed."""
        status = result.snapshot["status"] if result.snapshot else ""
        self.counts[f"ended.{status}"] += 1
        await self._port.publish_core(subjects.finished(instance), status.encode())

    async def _settle_ignored(
        self, records: dict[str, Record], results: dict[str, Applied]
    ) -> Group:
        """Ack what changed nothing, unless that was decided on a stale snapshot."""
        again: Group = {}
        unknown: list[Item] = []
        for instance, result in results.items():
            if not result.ignored:
                continue
            record = records[instance]
            current = result.commit is not None or not record.doubtful  # the write proved it
            if not current and await self._store.revision(instance) != record.revision:
                self._store.cache.drop(instance)
                again[instance] = [item for item, _ in result.ignored]
                self.counts["stale"] += 1
                continue
            for item, reason in result.ignored:
                if reason == FLUSH_TIMER:
                    await self._flush_parked(item, record)
                elif reason == "unknown":
                    unknown.append(item)
                elif reason == DEADLY:
                    await self._set_aside(item)
                else:
                    if reason == "exists":
                        await child_conflict.refuse(self._port, item, record.snapshot)
                    self._ignore(item, reason)
        if unknown:
            event_groups.merge(again, await self._settle_unknown(unknown))
        return again

    async def _flush_parked(self, item: Item, record: Record) -> None:
        if await self._parking.flush(item.instance, record):
            self._ack(item)
        else:
            self._nak(item)

    async def _set_aside(self, item: Item) -> None:
        """Even the fault that was to take its place kills: the dead letters have it alone."""
        case = self._guard.case(_event(item))
        reason = f"working on it ended the process: {case.cause if case else ''}"
        letter = dead_letters.letter(item.delivery.stream, item.delivery, reason, DEADLY)
        await send_all(self._port, topology.DEAD_LETTERS, [letter])
        self._ignore(item, DEADLY)

    def _ignore(self, item: Item, reason: str) -> None:
        self.counts[f"ignored.{reason}"] += 1
        log = logger.bind(instance=item.instance, sequence=item.delivery.sequence, reason=reason)
        log.debug("event.ignored")
        if reason in TOO_LATE:
            if (key := listener_key(item)) is not None:
                self._stale(key)
            elif (key := place_key(item)) is not None:
                self._vacant(key)
        self._ack(item)

    async def _settle_unknown(self, items: list[Item]) -> Group:
        """No such instance: its start may still be on its way below this event; else drop it.

        What has appeared by the time that the floor is known goes round again.
        """
        floor = await self._port.ack_floor(topology.WORKFLOW_EVENTS, topology.ORCHESTRATOR)
        drop, wait = droppable(items, floor)
        again: Group = {}
        for item in drop:
            if item.instance in again or await self._store.exists(item.instance):
                again.setdefault(item.instance, []).append(item)
            else:
                self._ignore(item, "unknown")
        for item in wait:
            self._nak(item)
        return again

    def _ack(self, item: Item) -> None:
        self._guard.acquit(_event(item))
        self._port.ack(item.delivery)
        self._done(item)

    def _nak(self, item: Item) -> None:
        self._port.nak(item.delivery, NAK_DELAY_S)
        self._done(item)


def _event(item: Item) -> Event:
    return named(item.delivery)


def _only_tasks(outbox: Outbox) -> bool:
    return set(outbox.streams) == {topology.ACTIVITY_TASKS}
