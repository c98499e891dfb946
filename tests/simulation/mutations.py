"""Mistakes that the engine does not make: each is patched in, and the simulation must notice.

A mutation is a context manager that breaks one rule. To add one, write it and decorate it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any, NamedTuple
from unittest.mock import patch

from orchestrator import main
from orchestrator.cloudevents import event_sets
from orchestrator.cloudevents.correlator import Correlator
from orchestrator.cloudevents.event_sets import Collector
from orchestrator.concurrency.admission import Admission
from orchestrator.concurrency.waiting_lines import Places
from orchestrator.dispatch import effects, outbox_relay
from orchestrator.dispatch.backpressure import Parking
from orchestrator.dispatch.outbox import Outbox
from orchestrator.dispatch.outbox_relay import Publisher
from orchestrator.dispatch.timer_limit import TimerCap
from orchestrator.engine import apply as applying
from orchestrator.engine import faults, group_commit, loop, quarantine
from orchestrator.engine.group_commit import Engine
from orchestrator.engine.loop import Service
from orchestrator.engine.quarantine import Quarantine
from orchestrator.ingest import messages_in
from orchestrator.ingest.instance_queues import Lanes
from orchestrator.ingest.poison_guard import Guard, named
from orchestrator.ingest.poison_journal import Journal
from orchestrator.machine.calls import results
from orchestrator.machine.control import suspend_resume_cancel
from orchestrator.machine.events import trigger_sets
from orchestrator.machine.kernel import concurrency_slot
from orchestrator.machine.kernel.step import Step
from orchestrator.state import commit as records
from orchestrator.state import snapshot_store
from orchestrator.state.snapshot_store import Store, Written
from tests.simulation.plan import Wish
from wf.errors import MessageError
from wf.jetstream import publish_batched, sweeper, topology
from wf.jetstream.port import Accepted, Unknown
from wf.protocol.messages import SIGNS

Breaking = Callable[[], Iterator[Any]]


class Mutation(NamedTuple):
    """`break_it` breaks the engine while it is entered; it shows in worlds with this in `plan`."""

    break_it: Callable[[], AbstractContextManager[Any]]
    plan: dict[str, Any]


MUTATIONS: dict[str, Mutation] = {}

# Instances that stand in one line.
QUEUE = tuple(Wish(f"i{n}", "queues", 2 * n, 0.3 * n, n == 2, ()) for n in range(6))

# Starts, states, results and timers that kill, some of them at once.
POISON = tuple(Wish(f"poison{n}", "poison", n % 4, 0.3 * (n // 3), False, ()) for n in range(9))


def mutation(**plan: Any) -> Callable[[Breaking], Breaking]:
    def note(function: Breaking) -> Breaking:
        MUTATIONS[function.__name__] = Mutation(contextmanager(function), plan)
        return function

    return note


@mutation()
def ack_before_commit() -> Iterator[Any]:
    """The events are acked when their group begins."""
    process = Engine.process

    async def early(self: Engine, group: group_commit.Group) -> None:
        for items in group.values():
            for item in items:
                self._port.ack(item.delivery)
        await process(self, group)

    with patch.object(Engine, "process", early):
        yield


@mutation()
def skip_the_outbox() -> Iterator[Any]:
    """Now and then what a commit implies is not published."""
    publish = Publisher.publish
    calls = [0]

    async def forgetful(self: Publisher, outboxes: Any, **options: Any) -> dict[str, Outbox]:
        calls[0] += 1
        return {} if calls[0] % 20 == 0 else await publish(self, outboxes, **options)

    with patch.object(Publisher, "publish", forgetful):
        yield


@mutation()
def outbox_before_snapshot() -> Iterator[Any]:
    """The outbox goes first, and the snapshot after it."""
    write = Engine._write

    async def late(self: Engine, known: Any, applied: Any) -> Written:
        outboxes = {key: one.outbox for key, one in applied.items() if one.commit is not None}
        await self._publisher.publish(outboxes)
        return await write(self, known, applied)

    with patch.object(Engine, "_write", late):
        yield


@mutation()
def drop_values_before_the_commit() -> Iterator[Any]:
    """What a snapshot no longer names is dropped before it is stored."""
    write = Engine._write

    async def early(self: Engine, known: Any, applied: Any) -> Any:
        for one in applied.values():
            for stream, subject in one.outbox.purges:
                await self._port.purge(stream, subject=subject)
        return await write(self, known, applied)

    with patch.object(Engine, "_write", early):
        yield


@mutation()
def store_the_snapshot_before_its_values() -> Iterator[Any]:
    """What is set apart is stored after the snapshot that names it."""
    set_apart, write = Store._set_apart, Store.write

    async def late(
        self: Store, writes: list[snapshot_store.Write], *, singly: bool = False
    ) -> Written:
        written = await write(self, writes, singly=singly)
        await set_apart(self, writes, Written({}, []))
        return written

    async def nothing(self: Store, writes: list[snapshot_store.Write], written: Written) -> Any:
        return writes

    with patch.object(Store, "_set_apart", nothing), patch.object(Store, "write", late):
        yield


@mutation()
def drop_the_compare_and_set() -> Iterator[Any]:
    """A snapshot is written over whatever is there."""
    outgoing = snapshot_store.Outgoing

    def careless(*arguments: Any, **options: Any) -> Any:
        return outgoing(*arguments, **{**options, "expected": None})

    with patch.object(snapshot_store, "Outgoing", careless):
        yield


@mutation()
def take_another_token_for_ones_own() -> Iterator[Any]:
    """After a conflict whatever is stored counts as one's own write."""

    async def trusting(self: Store, unsure: list[snapshot_store.Write], written: Written) -> None:
        stored = await self._last([write.instance for write in unsure])
        for write in unsure:
            current = records.decode(stored.get(f"$KV.WORKFLOW_STATES.{write.instance}"))
            written.landed[write.instance] = current.revision

    with patch.object(Store, "_settle", trusting):
        yield


@mutation()
def unknown_means_stored() -> Iterator[Any]:
    """A lost answer counts as a success."""
    send = publish_batched.send

    async def hopeful(*arguments: Any, **options: Any) -> Any:
        outcomes = await send(*arguments, **options)
        return [Accepted(0) if isinstance(one, Unknown) else one for one in outcomes]

    with patch.object(outbox_relay, "send", hopeful):
        yield


@mutation()
def count_a_late_result() -> Iterator[Any]:
    """A failure counts for whatever attempt is current."""
    with patch.object(results, "_result", lambda snapshot, run, event: None):
        yield


@mutation()
def no_flush_of_a_cold_snapshot() -> Iterator[Any]:
    """What a predecessor committed is taken for published."""

    async def skip(self: Engine, known: dict[str, records.Record]) -> dict[str, Outbox]:
        for record in known.values():
            record.flushed = True
        return {}

    with patch.object(Engine, "_flush_cold", skip):
        yield


@mutation()
def the_event_above_the_floor_counts_as_acked() -> Iterator[Any]:
    """Off by one: whether an outbox was published is read one event too high."""
    is_published = records.is_published

    def generous(commit: records.Commit, floors: dict[str, int]) -> bool:
        return is_published(commit, {stream: floor + 1 for stream, floor in floors.items()})

    with patch.object(records, "is_published", generous):
        yield


@mutation()
def reuse_a_run_number() -> Iterator[Any]:
    """Runs are numbered by how many are open."""
    count = Step.count

    def reusing(self: Step, key: str) -> int:
        return len(self.runs) + 1 if key == "last_run" else count(self, key)

    with patch.object(Step, "count", reusing):
        yield


@mutation(
    orchestrators=2,
    slow=0.3,
    delay_s=0.005,
    troubles=8,
    wishes=tuple(Wish(f"i{n}", "rests", 0, n / 2, False, ((0.0, "cancel"),)) for n in range(16)),
)
def drop_an_unknown_event_at_once() -> Iterator[Any]:
    """Though the start of its instance may lie below it, not yet acked."""
    with patch.object(group_commit, "droppable", lambda items, floor: (items, [])):
        yield


@mutation()
def purge_past_the_floor() -> Iterator[Any]:
    """The sweeper deletes a little more than what is acknowledged."""
    with patch.object(sweeper, "purge_to", lambda earlier, now, unhandled: max(earlier, now) + 3):
        yield


@mutation()
def trust_a_stale_cache() -> Iterator[Any]:
    """What changes nothing is acked on the word of memory alone."""
    settle = Engine._settle_ignored

    async def trusting(self: Engine, known: Any, applied: Any) -> Any:
        for record in known.values():
            record.doubtful = False
        return await settle(self, known, applied)

    with patch.object(Engine, "_settle_ignored", trusting):
        yield


@mutation(poison=True, wishes=POISON)
def never_convict() -> Iterator[Any]:
    """An event that kills the engine is applied again and again."""
    with patch.object(Journal, "convicted", lambda self, event: None):
        yield


@mutation(poison=True, wishes=POISON)
def never_try() -> Iterator[Any]:
    """What may kill is found out by dying of it."""

    async def bold(self: Guard, work: Any) -> set[Any]:
        return set()

    with patch.object(Guard, "examine", bold):
        yield


@mutation(poison=True, wishes=POISON[:1])
def acquit_before_the_commit() -> Iterator[Any]:
    """What was applied is forgotten, convicted or not, whether that is stored or not."""
    apply = Engine._apply

    def early(self: Engine, group: Any, known: Any) -> Any:
        results = apply(self, group, known)
        for items in group.values():
            for item in items:
                self._guard._journal._cases.pop(named(item.delivery), None)
                self._guard.acquit(named(item.delivery))
        self._guard._journal._write()
        return results

    with patch.object(Engine, "_apply", early):
        yield


@mutation(poison=True, wishes=POISON)
def forget_who_was_suspected() -> Iterator[Any]:
    """What is held against an event is known to one process only."""
    with patch.object(Journal, "_read", lambda self: {}):
        yield


RAISING = tuple(Wish(f"raises{n}", "raises", n % 5, 0.3 * n, False, ()) for n in range(10))


@mutation(wishes=RAISING)
def let_out_what_sealing_raises() -> Iterator[Any]:
    """No fault takes the place of an event whose outcome cannot be encoded."""

    def hopeless(items: Any, attempt: Any, error: Exception) -> Any:
        raise error

    with patch.object(applying, "without_culprit", hopeless):
        yield


@mutation(wishes=RAISING)
def blame_the_state_for_what_sealing_raises() -> Iterator[Any]:
    """What an event has led to is taken for a stored state that is none."""

    def unjust(items: Any, attempt: Any, error: Exception) -> Any:
        raise records.StateUnusable(str(error))

    with patch.object(applying, "without_culprit", unjust):
        yield


@mutation(wishes=RAISING)
def forget_the_evidence_of_a_fault() -> Iterator[Any]:
    """An event that raises is replaced, and nobody can see what it was."""
    replaced = faults.without_culprit

    def bare(items: Any, attempt: Any, error: Exception) -> Any:
        found = replaced(items, attempt, error)
        for item in found:
            if item.event["kind"] == "fault":
                item.event.pop("evidence", None)
        return found

    with patch.object(applying, "without_culprit", bare):
        yield


@mutation(litter=60)
def drop_what_cannot_be_read() -> Iterator[Any]:
    """It is acked, and no dead letter tells of it."""

    async def drop(self: Service, unreadable: Any) -> None:
        self._guard.acquit(named(unreadable.delivery))
        self._port.ack(unreadable.delivery)

    with patch.object(Service, "_set_aside", drop):
        yield


@mutation(litter=60)
def keep_what_cannot_be_read() -> Iterator[Any]:
    """It is set aside, and comes again for ever."""
    set_aside = Service._set_aside

    async def keep(self: Service, unreadable: Any) -> None:
        with patch.object(self._port, "ack", self._port.nak):
            await set_aside(self, unreadable)

    with patch.object(Service, "_set_aside", keep):
        yield


@mutation(litter=60)
def read_without_care() -> Iterator[Any]:
    """What breaks the protocol ends whoever reads it."""

    def careless(delivery: Any, own_from: int = 0) -> Any:
        found = messages_in.read(delivery, own_from)
        if isinstance(found, messages_in.Unreadable):
            raise MessageError(found.reason)
        return found

    with patch.object(loop, "read", careless):
        yield


@mutation(litter=60)
def believe_what_clients_say_of_the_engine() -> Iterator[Any]:
    """A place, a matched event or a parent counts, whoever names it."""
    with patch.object(messages_in, "_refuse_what_is_the_engines", lambda kind, body: None):
        yield


@mutation(litter=60)
def pass_over_events_that_are_none() -> Iterator[Any]:
    """CloudEvents that cannot be read leave no trace."""

    async def nothing(self: Correlator, delivery: Any, reason: str) -> None:
        pass

    with patch.object(Correlator, "_set_aside", nothing):
        yield


SPOILED = tuple(
    Wish(f"i{n}", ("chain", "hears", "watched", "waits", "policy")[n % 5], n, 0.3 * n, False, ())
    for n in range(8)
)


@mutation(spoiled=8, wishes=SPOILED)
def lose_what_a_quarantine_keeps() -> Iterator[Any]:
    """The state is made anew, and what came meanwhile is gone."""

    async def forget(self: Quarantine, instance: str) -> None:
        pass

    with patch.object(Quarantine, "_requeue", forget):
        yield


@mutation(spoiled=8, wishes=SPOILED)
def quarantine_without_evidence() -> Iterator[Any]:
    """Events of an instance whose state is none are acked."""
    send_all = quarantine.send_all

    async def forgetful(port: Any, stream: str, letters: list[Any]) -> None:
        if not any(one.subject.startswith("dead.quarantined.") for one in letters):
            await send_all(port, stream, letters)

    with patch.object(quarantine, "send_all", forgetful):
        yield


@mutation(spoiled=8, wishes=SPOILED, orchestrators=2, slow=0.1, delay_s=0.05)
def keep_events_of_a_quarantine_that_is_over() -> Iterator[Any]:
    """As it was: what one process keeps after another has put everything back stays there."""
    take = Quarantine.take

    async def blind(self: Quarantine, instance: str, record: Any, items: list[Any]) -> list[Any]:
        async def unchanged(name: str) -> int:
            return int(record.revision)

        with patch.object(self._store, "revision", unchanged):
            return await take(self, instance, record, items)

    with patch.object(Quarantine, "take", blind):
        yield


@mutation()
def one_instance_in_two_groups() -> Iterator[Any]:
    """Events of an instance that is in a group are not held back."""
    offer = Lanes.offer

    def eager(self: Lanes, item: Any) -> None:
        queue = self._waiting.pop(item.instance, None)
        offer(self, item)
        if queue is not None:
            self._waiting[item.instance] = queue

    take = Lanes.take

    def greedy(self: Lanes, limit: int) -> Any:
        for item in self._ready:
            self._waiting.pop(item.instance, None)
        return take(self, limit)

    def release(self: Lanes, instance: str, again: list[Any]) -> list[Any]:
        ready = [*again, *self._waiting.pop(instance, ())]
        self._ready.extend(ready)
        return ready

    with (
        patch.object(Lanes, "offer", eager),
        patch.object(Lanes, "take", greedy),
        patch.object(Lanes, "release", release),
    ):
        yield


@mutation()
def ack_what_is_held() -> Iterator[Any]:
    """Events whose outbox was refused are acked at once."""
    hold = Parking.hold

    def early(
        self: Parking, instance: str, known: Any, left: Any, acked: list[Any], again: list[Any]
    ) -> None:
        for item in acked:
            self._port.ack(item.delivery)
        hold(self, instance, known, left, acked, again)

    with patch.object(Parking, "hold", early):
        yield


@mutation(tasks_per_activity=1, workers=1, batch=3)
def park_without_a_timer() -> Iterator[Any]:
    """Tasks that were refused are put off, and nothing brings them back."""

    async def forget(self: Parking, instance: str) -> bool:
        return True

    with patch.object(Parking, "_set_flush_timer", forget):
        yield


@mutation(orchestrators=2, tasks_per_activity=2, slow=0.1)
def forget_redundant_commands() -> Iterator[Any]:
    """As it was: a resume that overtakes its suspend leaves no trace."""
    reason = suspend_resume_cancel.reason_to_ignore

    def forgetful(snapshot: dict[str, Any], event: dict[str, Any]) -> str | None:
        found = reason(snapshot, event)
        if found is None and event["verb"] in ("suspend", "resume"):
            redundant = (event["verb"] == "suspend") == (snapshot["status"] == "suspended")
            return "redundant" if redundant else None
        return found

    with patch.object(suspend_resume_cancel, "reason_to_ignore", forgetful):
        yield


WATCHED = tuple(
    Wish(f"i{n}", "watched", n, 0.5 * n, False, ((3.0, "suspend"), (20.0, "resume")))
    for n in range(8)
)


@mutation(wishes=WATCHED, workers=1, troubles=8)
def let_what_was_held_come_back() -> Iterator[Any]:
    """As it was: of what is held about a run each takes the place of the other, again and again."""
    rank = suspend_resume_cancel._rank

    def restless(event: dict[str, Any]) -> float:
        return math.nan if event.get("outcome") in SIGNS else rank(event)

    with patch.object(suspend_resume_cancel, "_rank", restless):
        yield


@mutation(orchestrators=2, pending_timers=2)
def count_fired_timers_as_pending() -> Iterator[Any]:
    """As it was: the cap counts every message of the stream."""

    async def look(self: TimerCap) -> None:
        self._pending = await self._port.count(topology.WORKFLOW_TIMERS)

    with patch.object(TimerCap, "look", look):
        yield


TELLING = tuple(Wish(f"i{n}", "tells", n, 2.0 * n, False, ()) for n in range(12))


@mutation(wishes=TELLING, troubles=8)
def ack_events_before_their_starts() -> Iterator[Any]:
    """CloudEvents are acknowledged before they are matched."""
    match = Correlator._match

    async def early(self: Correlator, taken: list[Any]) -> None:
        for delivery in taken:
            self._port.ack(delivery)
        await match(self, taken)

    with patch.object(Correlator, "_match", early):
        yield


@mutation(wishes=TELLING, troubles=8)
def take_a_set_out_before_its_start() -> Iterator[Any]:
    """What is complete leaves its entry, and is started afterwards."""
    write = Collector._write

    async def early(self: Collector, before: Any, after: list[Any]) -> Any:
        without = [one._replace(state={**one.state, "done": []}) for one in after]
        stored = {one.key: one for one in await write(self, before, without)}
        return [stored[one.key]._replace(state=one.state) for one in after if one.key in stored]

    with patch.object(Collector, "_write", early):
        yield


@mutation(wishes=TELLING, troubles=8)
def forget_which_events_were_collected() -> Iterator[Any]:
    """An event that comes again is the first of another set."""
    add = trigger_sets.add

    def forgetful(state: dict[str, Any], taken: Any, floor: int) -> dict[str, Any]:
        return add({**state, "seen": []}, taken, 0)

    with patch.object(trigger_sets, "add", forgetful):
        yield


@mutation(wishes=TELLING, orchestrators=2)
def collect_without_compare_and_set() -> Iterator[Any]:
    """A set is written over what another orchestrator has put into it."""
    message = event_sets._message
    with patch.object(event_sets, "_message", lambda entry: replace(message(entry), expected=None)):
        yield


@mutation()
def rewrite_history_numbers() -> Iterator[Any]:
    """Every commit has the number of the one before."""
    with patch.object(records.Record, "commit_number", property(lambda self: 0)):
        yield


@mutation(wishes=QUEUE)
def admit_one_too_many() -> Iterator[Any]:
    """The limit is counted wrongly."""
    due = Places.due

    def generous(self: Places, name: str, limit: int | None) -> list[str]:
        return due(self, name, None if limit is None else limit + 1)

    with patch.object(Places, "due", generous):
        yield


@mutation(wishes=QUEUE)
def forget_who_makes_room() -> Iterator[Any]:
    """Who leaves the line makes no place for the next one."""
    grant = Admission._grant

    async def forgetful(self: Admission, rows: dict[str, None]) -> None:
        await grant(self, {row: None for row in rows if len(self._places.front(row, None)) > 1})

    with patch.object(Admission, "_grant", forgetful):
        yield


@mutation(wishes=QUEUE)
def keep_the_place() -> Iterator[Any]:
    """An instance that has ended does not say so."""
    with (
        patch.object(concurrency_slot, "leave", lambda step: None),
        patch.object(main, "AUDIT_S", 1e9),
    ):
        yield


@mutation(wishes=QUEUE, slow=0.1, orchestrators=3, troubles=16)
def ask_without_expecting_to_be_first() -> Iterator[Any]:
    """A request that is sent again goes to the end of the line, or comes back after its end."""
    build = effects.BUILDERS[concurrency_slot.TAKE_PLACE]

    def careless(*arguments: Any) -> Any:
        stream, message = build(*arguments)
        return stream, replace(message, expected=None, message_id=None)

    with patch.dict(effects.BUILDERS, {concurrency_slot.TAKE_PLACE: careless}):  # type: ignore[arg-type]
        yield
