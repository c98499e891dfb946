"""Collects events for `schedule.on` with `all`, until they start an instance.

Each event is put into its entry of WORKFLOW_COLLECTIONS by compare-and-set. What completes a set
leaves it in the entry as done, then the start is stored, then it is taken out, and only then the
event is acknowledged. After a crash at any place the event comes again: it is in the entry then,
so that it is not taken twice, and what was left undone for the entry is done.
"""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple

import orjson
from loguru import logger

from orchestrator.cloudevents.event_triggers import Triggers, start
from orchestrator.machine.events import trigger_sets
from orchestrator.machine.events.trigger_sets import Taken
from wf.errors import BrokerError, MessageError
from wf.jetstream import topology
from wf.jetstream.port import (
    WRONG_LAST_SEQUENCE,
    Accepted,
    Outcome,
    Outgoing,
    Port,
    Rejected,
    Stored,
)
from wf.jetstream.publish_batched import send_each
from wf.protocol import messages, subjects

JsonObject = dict[str, Any]

KEEP_S = 86_400  # an entry without events still tells late copies: so long streams keep them
MARGIN_BYTES = 128 * 1024
KEYS_AT_ONCE = 16  # each with an entry of up to a message's size
ENTRY_BYTES = 200  # what goes around an event in a set, and into `seen`
PREFIX = subjects.collection("")


class Entry(NamedTuple):
    """What is collected under a key, and the sequence of its message; 0 when there is none."""

    key: str
    state: JsonObject
    sequence: int


class Collector:
    def __init__(self, port: Port, triggers: Triggers) -> None:
        self._port = port
        self._triggers = triggers
        self._replaced: dict[str, int] = {}  # key → last event that may belong there
        self._cleaned = -1  # generation of the definitions that were looked at

    async def take(self, taken: dict[str, list[Taken]]) -> list[Taken]:
        """Put each event under its key, and store the starts that this makes. Returns those that
        there is no room for. Raises BrokerError; then the same ones are to be taken again."""
        refused: dict[str, list[Taken]] = {}
        keys = list(taken)
        for start_at in range(0, len(keys), KEYS_AT_ONCE):
            await self._take(keys[start_at : start_at + KEYS_AT_ONCE], taken, refused)
        return [one for some in refused.values() for one in some]

    async def _take(
        self, left: list[str], taken: dict[str, list[Taken]], refused: dict[str, list[Taken]]
    ) -> None:
        while left:
            entries = await self._read(left)
            # Read after the entries: what was dropped out of one before is below it.
            floor = await self._port.ack_floor(topology.CLOUD_EVENTS, topology.LISTENERS)
            changed = []
            for entry in entries:
                state, refused[entry.key] = self._added(entry.state, taken[entry.key], floor)
                changed.append(entry._replace(state=state))
            stored = await self._write(entries, changed)
            again = await self._finish([entry for entry in stored if entry.state["done"]])
            through = {entry.key for entry in stored} - again
            left = [key for key in left if key not in through]

    async def _read(self, keys: list[str]) -> list[Entry]:
        found = await asyncio.gather(
            *(
                self._port.last(
                    topology.WORKFLOW_COLLECTIONS, subjects.collection(key), leader=True
                )
                for key in keys
            )
        )
        return [_entry(key, one) for key, one in zip(keys, found, strict=True)]

    def _added(
        self, state: JsonObject, taken: list[Taken], floor: int
    ) -> tuple[JsonObject, list[Taken]]:
        """The state with the events in it, and those that there is no room for. What begins a set
        leaves half of the room to those that complete one."""
        whole = self._port.max_payload - MARGIN_BYTES
        used, refused = len(orjson.dumps(state)), []
        for one in taken:
            added = trigger_sets.add(state, one, floor)
            if added is state:
                continue
            begins = len(added["open"]) > len(state["open"]) > 0
            size = used + len(orjson.dumps(one.event)) + ENTRY_BYTES
            if size > (whole // 2 if begins else whole):
                refused.append(one)
            else:
                state, used = added, size
        return state, refused

    async def _write(self, before: list[Entry], after: list[Entry]) -> list[Entry]:
        """Store what changed; the entries that are as they should be."""
        changed = [new for old, new in zip(before, after, strict=True) if new.state != old.state]
        stored = [new for old, new in zip(before, after, strict=True) if new.state == old.state]
        outcomes = await self._port.publish(
            topology.WORKFLOW_COLLECTIONS, [_message(entry) for entry in changed]
        )
        for entry, outcome in zip(changed, outcomes, strict=True):
            if isinstance(outcome, Accepted):
                stored.append(entry._replace(sequence=outcome.sequence))
            else:
                _check(outcome)
        return stored

    async def _finish(self, entries: list[Entry]) -> set[str]:
        """Store the starts of complete sets, then take these out of their entries. Returns the keys
        to be read again: somebody else was quicker to write there."""
        if not entries:
            return set()
        complete = [(entry.key, done) for entry in entries for done in entry.state["done"]]
        complete.sort(key=lambda one: trigger_sets.completed_by(one[1]))
        starts = (self._start(key, done) for key, done in complete)
        await send_each(self._port, topology.WORKFLOW_EVENTS, starts)
        rest = [entry._replace(state={**entry.state, "done": []}) for entry in entries]
        outcomes = await self._port.publish(
            topology.WORKFLOW_COLLECTIONS, [_message(entry) for entry in rest]
        )
        again = set()
        for entry, outcome in zip(rest, outcomes, strict=True):
            if not isinstance(outcome, Accepted):
                _check(outcome)
                again.add(entry.key)
        return again

    def _start(self, key: str, done: JsonObject) -> Outgoing:
        namespace, name, _ = key.split(".", 2)
        version = done["version"]
        read = self._triggers.read_of(namespace, name, version)
        return start(namespace, name, version, trigger_sets.in_order(done), read)

    # Triggers that are gone

    async def clean(self) -> None:
        """Remove what was collected for triggers that a newer version has replaced, once all events
        from before that are matched. Raises BrokerError."""
        generation = self._triggers.definitions.generation
        if generation == self._cleaned and not self._replaced:
            return
        names = await self._port.subjects(topology.WORKFLOW_COLLECTIONS, f"{PREFIX}>")
        wanted = self._triggers.prefixes()
        keys = [name.removeprefix(PREFIX) for name in names]
        gone = {key for key in keys if key.rpartition(".")[0] not in wanted}
        self._replaced = {key: n for key, n in self._replaced.items() if key in gone}
        self._cleaned = generation
        if not gone:
            return
        newest = await self._port.last_sequence(topology.CLOUD_EVENTS)
        floor = await self._port.ack_floor(topology.CLOUD_EVENTS, topology.LISTENERS)
        passed = [key for key in gone if floor >= self._replaced.setdefault(key, newest)]
        for key in passed:
            (entry,) = await self._read([key])
            if entry.state["open"] or entry.state["done"]:
                await self._remove(entry)

    async def _remove(self, entry: Entry) -> None:
        marker = Outgoing(
            subjects.collection(entry.key),
            b"",
            expected=entry.sequence,
            ttl_s=int(topology.MARKER_TTL_S),
            headers={"KV-Operation": "DEL"},
        )
        (outcome,) = await self._port.publish(topology.WORKFLOW_COLLECTIONS, [marker])
        if isinstance(outcome, Accepted) and entry.state["open"]:
            sets = len(entry.state["open"])
            logger.bind(key=entry.key, sets=sets).warning("trigger.collection.dropped")


def _entry(key: str, stored: Stored | None) -> Entry:
    if stored is None or stored.is_marker:
        return Entry(key, trigger_sets.empty(), 0 if stored is None else stored.sequence)
    try:
        state = trigger_sets.checked(messages.decode(stored.data, stored.subject))
        return Entry(key, state, stored.sequence)
    except MessageError as error:  # put there by hand; events must go on
        text = stored.data[:1000].decode("utf-8", "backslashreplace")
        logger.bind(key=key, error=str(error), text=text).error("trigger.collection.unreadable")
        return Entry(key, trigger_sets.empty(), stored.sequence)


def _message(entry: Entry) -> Outgoing:
    idle = not entry.state["open"] and not entry.state["done"]
    return Outgoing(
        subjects.collection(entry.key),
        orjson.dumps(entry.state),
        expected=entry.sequence,
        ttl_s=KEEP_S if idle else None,
    )


def _check(outcome: Outcome) -> None:
    """Raises BrokerError unless it only means that the entry must be read again."""
    if isinstance(outcome, Rejected) and outcome.code != WRONG_LAST_SEQUENCE:
        raise BrokerError(
            f"stream {topology.WORKFLOW_COLLECTIONS} does not take a set of events: {outcome}"
        )
