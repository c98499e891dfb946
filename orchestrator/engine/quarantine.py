"""Instances whose stored state nobody can go on with: somebody else wrote it, or another version.

What is stored stays as it is, and so do the events of the instance: each is kept as a dead letter
`dead.quarantined.<id>`, so that nothing blocks the stream and a restart meets nothing to die of.
The state itself, with the reason, is the dead letter `dead.state.<id>`.

A `retry` or `cancel` ends the quarantine. The state is made anew from the history, what was kept is
put back where it came from, and then the command is carried out. Where the history does not give
it any more, the instance is faulted, for good and visibly; one without a history has never been.
"""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import orjson
from loguru import logger

from orchestrator.definition.lookup import Lookup
from orchestrator.dispatch.outbox_relay import Publisher
from orchestrator.engine import apply as applying
from orchestrator.engine.apply import Limits
from orchestrator.engine.faults import fault_event
from orchestrator.ingest.messages_in import Item
from orchestrator.state import commit as records
from orchestrator.state.commit import Commit, Record
from orchestrator.state.history_fold import fold, ordered
from orchestrator.state.snapshot_store import Store, Write
from wf.client import dead_letters
from wf.client.dead_letters import DeadLetter
from wf.errors import BrokerError, MessageError, WfError
from wf.jetstream import topology
from wf.jetstream.port import Outgoing, Port, Stored
from wf.jetstream.publish_batched import send_all
from wf.protocol import gate, messages, subjects

JsonObject = dict[str, Any]

ENDING = frozenset({"retry", "cancel"})  # commands that end a quarantine
SHOWN_BYTES = 64 * 1024  # of a state, in its dead letter
PAGE = 1000
BEHIND_S = 0.05
BEHIND_TIMES = 200


class Quarantine:
    def __init__(
        self,
        port: Port,
        store: Store,
        publisher: Publisher,
        lookup: Lookup,
        *,
        limits: Limits,
        ttl_s: Callable[[str], int | None],
        new_token: Callable[[], str],
    ) -> None:
        """`ttl_s` says for how long an instance of a status is kept."""
        self._port = port
        self._store = store
        self._publisher = publisher
        self._lookup = lookup
        self._limits = limits
        self._ttl_s = ttl_s
        self._new_token = new_token

    async def take(self, instance: str, record: Record, items: list[Item]) -> list[Item]:
        """Keep the items as dead letters, or end the quarantine; the items to go on with, which
        are all or none. Raises BrokerError, and then all is to be done again."""
        name = subjects.state(instance)
        stored = await self._port.last(topology.WORKFLOW_STATES, name, leader=True)
        if stored is None or stored.sequence != record.revision:
            return items  # somebody has mended it meanwhile
        if any(_ends(item) for item in items):
            await self._restore(instance, record, items)
            return items
        await self._tell(instance, stored, record.unusable)
        letters = [_kept(item, record.unusable) for item in items]
        await send_all(self._port, topology.DEAD_LETTERS, letters)
        if await self._store.revision(instance) != record.revision:
            await self._requeue(instance)  # it was ended meanwhile, maybe without these
        logger.bind(instance=instance, events=len(items)).warning("instance.quarantined")
        return []

    async def _tell(self, instance: str, stored: Stored, reason: str) -> None:
        """The state's dead letter, once for each state."""
        subject = subjects.dead_letter("state", instance)
        last = await self._port.last(topology.DEAD_LETTERS, subject)
        if last is not None and _revision(last) == stored.sequence:
            return
        evidence = {
            "reason": reason,
            "subject": stored.subject,
            "revision": stored.sequence,
            "payload_bytes": len(stored.data),
            "payload": stored.data[:SHOWN_BYTES].decode("utf-8", "backslashreplace"),
        }
        body = {"v": messages.VERSION, "instance": instance, "evidence": evidence}
        await send_all(self._port, topology.DEAD_LETTERS, [Outgoing(subject, orjson.dumps(body))])
        logger.bind(instance=instance, reason=reason).error("state.unusable")

    # The end of a quarantine

    async def _restore(self, instance: str, record: Record, items: list[Item]) -> None:
        log = logger.bind(instance=instance)
        await self._requeue(instance)  # before the state: a successor would not know of them
        history, unread = await self._history(instance)
        number = max((message["commit"] for message in history), default=0)
        if not history and not unread:
            restored = await self._remove(instance, record)
        else:
            try:
                if unread:
                    raise MessageError(unread)
                snapshot = fold(history, self._lookup, self._limits.machine)
                assert snapshot is not None
            except Exception as error:  # noqa: BLE001 — history may hold anything as well
                reason = gate.error_text(error)
                log.bind(reason=reason).error("state.not.restored")
                restored = await self._fault(instance, record, history, number, items, reason)
            else:
                restored = await self._put_back(instance, record, snapshot, number)
        if restored:
            await self._requeue(instance)  # what another process has kept since
            log.bind(commit=number).warning("state.restored")

    async def _history(self, instance: str) -> tuple[list[JsonObject], str]:
        """What can be read of it, in order, and why the rest cannot."""
        found: list[JsonObject] = []
        unread, start = "", 1
        while page := await self._port.scan(
            topology.WORKFLOW_HISTORY,
            subjects.history(instance),
            from_sequence=start,
            limit=PAGE,
        ):
            start = page[-1].sequence + 1
            for stored in page:
                try:
                    found.append(_history_message(stored))
                except MessageError as error:
                    unread = str(error)
        return ordered(found), unread

    async def _put_back(
        self, instance: str, record: Record, snapshot: JsonObject, number: int
    ) -> bool:
        commit = Commit(number, self._new_token(), lifecycle=self._limits.lifecycle)
        sealed = records.seal(snapshot, commit, None, self._limits.apart)
        ttl_s = self._ttl_s(snapshot["status"])
        write = Write(instance, record, sealed, commit.token, ttl_s)
        return instance in (await self._store.write([write])).landed

    async def _remove(self, instance: str, record: Record) -> bool:
        marker = Outgoing(
            subjects.state(instance),
            b"",
            expected=record.revision,
            ttl_s=int(topology.MARKER_TTL_S),
            headers={"KV-Operation": "DEL"},
        )
        await self._port.publish(topology.WORKFLOW_STATES, [marker])
        return not await self._store.exists(instance)

    async def _fault(
        self,
        instance: str,
        record: Record,
        history: list[JsonObject],
        number: int,
        items: list[Item],
        reason: str,
    ) -> bool:
        known = history[0] if history else {}
        detail = (
            f"its stored state was unreadable ({record.unusable}), and its history does not give "
            f"it again ({reason}): look at its history, and start what is left to do anew"
        )
        event = {
            "kind": "start",
            "id": instance,
            "workflow": str(known.get("workflow") or "unknown"),
            "namespace": str(known.get("namespace") or subjects.DEFAULT_NAMESPACE),
            "version": "",
            "input": None,
            "refused": fault_event("State lost", detail)["error"],
            "evidence": {"reason": reason, "state": record.unusable},
        }
        before = Record(None, Commit(number, ""), record.revision, flushed=True)
        item = Item(items[0].delivery, instance, event)
        token = self._new_token()
        applied = applying.apply(before, [item], self._lookup, self._limits, token)
        assert applied.sealed is not None
        write = Write(instance, before, applied.sealed, token, self._ttl_s("faulted"))
        if instance not in (await self._store.write([write])).landed:
            return False
        await self._publisher.publish({instance: applied.outbox}, replay=True)
        return True

    async def _requeue(self, instance: str) -> None:
        """What was kept goes back to where it came from, in the order in which it was stored there;
        but not what the history has: that is applied, and was delivered once more. Raises
        BrokerError."""
        subject = subjects.dead_letter(dead_letters.QUARANTINED, instance)
        behind = 0
        while await self._port.last(topology.DEAD_LETTERS, subject, leader=True) is not None:
            page = await self._port.scan(topology.DEAD_LETTERS, subject, limit=PAGE)
            if not page:  # a replica that does not have it yet
                behind += 1
                if behind > BEHIND_TIMES:
                    raise BrokerError(f"{subject}: no replica gives what its leader has")
                await asyncio.sleep(BEHIND_S)
                continue
            history, _ = await self._history(instance)
            applied = {f"{one.get('stream')}:{one.get('sequence')}" for one in history}
            letters = [dead_letters.read(stored) for stored in page]
            for letter in sorted(letters, key=_sequence):
                if _place(letter) not in applied:
                    await self._return(letter)
            await self._port.purge(topology.DEAD_LETTERS, subject=subject, up_to=page[-1].sequence)

    async def _return(self, letter: DeadLetter) -> None:
        try:
            stream, message = dead_letters.returned(letter)
        except WfError as error:  # somebody else's: none of ours is so
            log = logger.bind(instance=letter.instance, sequence=letter.sequence)
            log.bind(error=str(error)).error("event.not.returned")
        else:
            again = replace(message, message_id=f"{_place(letter)}:returned")
            await send_all(self._port, stream, [again])


def _place(letter: DeadLetter) -> str:
    """Where the event was that is kept."""
    return f"{letter.evidence.get('stream')}:{letter.evidence.get('sequence')}"


def _sequence(letter: DeadLetter) -> int:
    sequence = letter.evidence.get("sequence")
    return sequence if type(sequence) is int else 0


def _ends(item: Item) -> bool:
    return item.event["kind"] == "command" and item.event.get("verb") in ENDING


def _kept(item: Item, reason: str) -> Outgoing:
    delivery = item.delivery
    evidence: JsonObject = {
        "reason": f"the state of its instance cannot be read: {reason}",
        "subject": delivery.subject,
        "stream": delivery.stream,
        "sequence": delivery.sequence,
        "headers": dict(delivery.headers or {}),
        "payload_bytes": len(delivery.data),
        "payload": delivery.data.decode("utf-8", "backslashreplace"),
    }
    if evidence["payload"].encode() != delivery.data:  # a timer's body, which nobody reads
        evidence["payload_base64"] = b64encode(delivery.data).decode()
    body = {"v": messages.VERSION, "instance": item.instance, "evidence": evidence}
    return Outgoing(
        subjects.dead_letter(dead_letters.QUARANTINED, item.instance),
        orjson.dumps(body),
        message_id=f"{delivery.stream}:{delivery.sequence}:quarantined",
    )


def _revision(letter: Stored) -> int | None:
    revision = dead_letters.read(letter).evidence.get("revision")
    return revision if type(revision) is int else None


def _history_message(stored: Stored) -> JsonObject:
    body = messages.decode(stored.data, stored.subject, depth=gate.STORED_DEPTH)
    for key in ("commit", "n", "now_ms"):
        if type(body.get(key)) is not int:
            raise MessageError(f"{stored.subject}: {key} is no number")
    return body
