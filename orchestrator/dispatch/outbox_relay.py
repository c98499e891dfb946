"""Publish outboxes: stream by stream, side by side, until each message's fate is known."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

from loguru import logger

from orchestrator.dispatch import outbox as building
from orchestrator.dispatch.outbox import Outbox
from orchestrator.dispatch.timer_limit import TimerCap
from orchestrator.ingest.messages_in import event_of
from orchestrator.ingest.poison_guard import Convicted, Guard, Work
from orchestrator.state.commit import Commit, Record
from orchestrator.state.history import overlaid
from wf.errors import BrokerError
from wf.jetstream import topology
from wf.jetstream.port import WRONG_LAST_SEQUENCE, Outgoing, Port, Rejected, Unknown
from wf.jetstream.publish_batched import send
from wf.protocol import gate

JsonObject = dict[str, Any]

UNKNOWN_BACKOFF_S = (0.0, 0.1, 0.5, 1.0, 2.0)  # no answer: the broker is restarting, as a rule
PURGES_AT_ONCE = 50
FLUSH_BYTES = 8 * 1024 * 1024  # of outboxes that are built again at once

_Owned = tuple[str, Outgoing]  # instance, message


class Publisher:
    def __init__(self, port: Port, timer_cap: TimerCap, guard: Guard | None = None) -> None:
        self._port = port
        self._guard = guard or Guard.idle()
        self._timer_cap = timer_cap

    async def publish(
        self, outboxes: dict[str, Outbox], *, replay: bool = False
    ) -> dict[str, Outbox]:
        """Send everything; what could not be stored is returned, by instance."""
        streams: dict[str, list[_Owned]] = {}
        purges: list[tuple[str, str]] = []
        for instance, outbox in outboxes.items():
            purges += outbox.purges
            for stream, messages in outbox.streams.items():
                streams.setdefault(stream, []).extend((instance, m) for m in messages)
        left: dict[str, Outbox] = {}
        await asyncio.gather(
            *(self._stream(stream, owned, left, replay) for stream, owned in streams.items())
        )
        await self._purge(purges)
        return left

    async def _stream(
        self, stream: str, owned: list[_Owned], left: dict[str, Outbox], replay: bool
    ) -> None:
        """All of one stream. A lost answer is asked again, singly; a refusal is left."""
        if stream == topology.WORKFLOW_TIMERS:
            if self._timer_cap.is_full:
                for instance, message in owned:
                    left.setdefault(instance, Outbox()).add(stream, message)
                return
            self._timer_cap.published(len(owned))
        for delay_s in UNKNOWN_BACKOFF_S:
            if delay_s:
                await asyncio.sleep(delay_s)
            outcomes = await send(self._port, stream, [m for _, m in owned], replay=replay)
            unsure: list[_Owned] = []
            for one, outcome in zip(owned, outcomes, strict=True):
                if isinstance(outcome, Unknown):
                    unsure.append(one)
                elif isinstance(outcome, Rejected) and not _was_there(one[1], outcome):
                    _leave(left, stream, one, outcome)
            if not unsure:
                return
            owned, replay = unsure, True
        for one in owned:
            left.setdefault(one[0], Outbox()).add(stream, one[1])

    async def _purge(self, purges: list[tuple[str, str]]) -> None:
        """A timer that fires all the same is ignored by its number; a value that stays takes room,
        and nobody looks at it."""
        for start in range(0, len(purges), PURGES_AT_ONCE):
            part = purges[start : start + PURGES_AT_ONCE]
            await asyncio.gather(*(self._purge_one(*one) for one in part))

    async def _purge_one(self, stream: str, subject: str) -> None:
        try:
            await self._port.purge(stream, subject=subject)
        except BrokerError as error:
            logger.bind(stream=stream, subject=subject, error=str(error)).warning("purge.failed")

    async def flush(self, cold: dict[str, Record]) -> dict[str, Outbox]:
        """Publish the outboxes that another process committed, as singles: some of their message
        ids may be known already. Returns what could not be stored. What their events say is read
        and sent in slices. A record whose outbox cannot be made is `unusable` from here on."""
        left: dict[str, Outbox] = {}
        outboxes: dict[str, Outbox] = {}
        size = 0
        for instance, record in cold.items():
            if record.snapshot is None or record.commit is None:
                continue
            try:
                outbox = await self._rebuild(record, record.snapshot, record.commit)
            except BrokerError:
                raise
            except Exception as error:  # noqa: BLE001 — whatever it holds, the others go on
                record.unusable = f"its outbox: {gate.error_text(error)}"
                continue
            outboxes[instance] = outbox
            size += outbox.size
            if size >= FLUSH_BYTES:
                left |= await self.publish(outboxes, replay=True)
                outboxes, size = {}, 0
        return left | await self.publish(outboxes, replay=True)

    async def _rebuild(self, record: Record, snapshot: JsonObject, commit: Commit) -> Outbox:
        """The outbox of a stored commit; its events are read again from their streams.

        They are there: the sweeper stays below the ack floor, and they lie above it.
        """
        events = [
            await self._event(snapshot["id"], stream, sequence, overlay)
            for _, stream, sequence, _, overlay in commit.history
        ]
        build = partial(building.build, snapshot, commit, events)
        time_ms = commit.history[-1][0] if commit.history else 0
        outbox = await self._guarded(build, record, time_ms)
        if commit.parked:  # its tasks have their own flush timer
            outbox.streams.pop(topology.ACTIVITY_TASKS, None)
        return outbox

    async def _guarded(self, build: Callable[[], Outbox], record: Record, time_ms: int) -> Outbox:
        """Made in the name of the stored state. Raises Convicted when that kills."""
        state = topology.WORKFLOW_STATES, record.revision, time_ms
        await self._guard.settle([Work(state, build)])
        try:
            with self._guard.about(state):
                return build()
        except Convicted:
            self._guard.acquit(state)  # its quarantine is what it leads to
            raise

    async def _event(
        self, instance: str, stream: str, sequence: int, overlay: JsonObject
    ) -> JsonObject:
        if "kind" in overlay:
            return overlay
        stored = await self._port.at(stream, sequence)
        if stored is None:  # an operator purged the stream: the history says so, in its place
            log = logger.bind(instance=instance, stream=stream, sequence=sequence)
            log.error("history.event.gone")
            return {"kind": "gone"}
        return overlaid(event_of(stored), overlay)


def _was_there(message: Outgoing, outcome: Rejected) -> bool:
    """A message that is to be the first of its subject, and has been sent before."""
    return message.expected == 0 and outcome.code == WRONG_LAST_SEQUENCE


def _leave(left: dict[str, Outbox], stream: str, one: _Owned, outcome: Rejected) -> None:
    instance, message = one
    left.setdefault(instance, Outbox()).add(stream, message)
    log = logger.bind(
        instance=instance, subject=message.subject, code=outcome.code, reason=outcome.description
    )
    log.warning("publish.refused")
