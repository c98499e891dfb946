"""One stream: what it takes, what it refuses, what it holds."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tests.support.memory.matching import matches, transformed
from wf.jetstream.batch import (
    BATCH_DUPLICATE_ID,
    BATCH_KEY_TWICE,
    BATCH_LAST_ID,
    MESSAGE_TOO_LARGE,
)
from wf.jetstream.port import (
    SUBJECT_FULL,
    WRONG_LAST_SEQUENCE,
    Accepted,
    Outcome,
    Outgoing,
    Rejected,
    Stored,
)

NANO = 1_000_000_000
SCHEDULE = "Nats-Schedule"
TARGET = "Nats-Schedule-Target"
SCHEDULER = "Nats-Scheduler"
SCHEDULE_NEXT = "Nats-Schedule-Next"


@dataclass(slots=True)
class Message:
    """One message as stored. `at_s`: the loop's time at which it was stored."""

    subject: str
    data: bytes
    headers: dict[str, str] | None
    sequence: int
    timestamp_ms: int
    at_s: float
    message_id: str | None

    def stored(self) -> Stored:
        return Stored(self.subject, self.data, self.headers, self.sequence, self.timestamp_ms)


class MemoryStream:
    """`config` as in the JetStream API. `later(at_s, callback)` calls back at a loop time;
    `noted(stream, message)` hears of every store."""

    def __init__(
        self,
        config: dict[str, Any],
        *,
        now_s: Callable[[], float],
        wall_ms: Callable[[], int],
        later: Callable[[float, Callable[[], None]], object],
        noted: Callable[[MemoryStream, Message], None],
        max_payload: int,
    ) -> None:
        self.config = config
        self.messages: dict[int, Message] = {}
        self.created = ""
        self.first_sequence = max(1, int(config.get("first_seq", 0)))
        self.last_sequence = self.first_sequence - 1
        self.schedules: dict[str, tuple[int, int]] = {}  # subject → (due, sequence)
        self._subjects: dict[str, list[int]] = {}
        self._ids: dict[str, tuple[int, float]] = {}
        self._now_s = now_s
        self._wall_ms = wall_ms
        self._later = later
        self._noted = noted
        self._max_payload = max_payload

    @property
    def name(self) -> str:
        return str(self.config["name"])

    # Taking

    def takes(self, subject: str) -> bool:
        return any(matches(pattern, subject) for pattern in self.config["subjects"])

    def publish(self, message: Outgoing) -> Outcome:
        """One message: compare-and-set comes before dedupe."""
        subject = transformed(self.config, message.subject)
        wrong = self._wrong_sequence(subject, message)
        if wrong is not None:
            return wrong
        known = self._known(message.message_id)
        if known is not None:
            return Accepted(known, duplicate=True)
        refused = self._too_much(subject, message, {}, 0)
        if refused is not None:
            return refused
        return Accepted(self._store(subject, message))

    def publish_batch(self, messages: Sequence[Outgoing]) -> Outcome:
        """All or none: for each message in turn, dedupe comes before compare-and-set."""
        more: dict[str, int] = {}
        ids: set[str] = set()
        subjects = [transformed(self.config, message.subject) for message in messages]
        for subject, message in zip(subjects, messages, strict=True):
            if message.headers and "Nats-Expected-Last-Msg-Id" in message.headers:
                return Rejected(BATCH_LAST_ID, "expected last message id is not supported")
            key = message.message_id
            if key is not None and (key in ids or self._known(key) is not None):
                return Rejected(BATCH_DUPLICATE_ID, "batch publish contains duplicate message id")
            if message.expected is not None and subject in more:
                return Rejected(BATCH_KEY_TWICE, "wrong last sequence: constant per subject")
            refused = self._wrong_sequence(subject, message) or self._too_much(
                subject, message, more, len(ids)
            )
            if refused is not None:
                return refused
            more[subject] = more.get(subject, 0) + 1
            if key is not None:
                ids.add(key)
        for subject, message in zip(subjects, messages, strict=True):
            self._store(subject, message)
        return Accepted(self.last_sequence)

    def _wrong_sequence(self, subject: str, message: Outgoing) -> Rejected | None:
        if message.expected is None:
            return None
        last = self.last_of(subject)
        real = 0 if last is None else last.sequence
        if real == message.expected:
            return None
        return Rejected(WRONG_LAST_SEQUENCE, f"wrong last sequence: {real}", real)

    def _known(self, message_id: str | None) -> int | None:
        if message_id is None or message_id not in self._ids:
            return None
        sequence, at_s = self._ids[message_id]
        if self._now_s() - at_s > self.config["duplicate_window"] / NANO:
            del self._ids[message_id]
            return None
        return sequence

    def _too_much(
        self, subject: str, message: Outgoing, more: Mapping[str, int], batched: int
    ) -> Rejected | None:
        if len(message.data) > self._max_payload:
            return Rejected(MESSAGE_TOO_LARGE, "message size exceeds maximum allowed")
        config = self.config
        if config["discard"] != "new":
            return None
        limit = config["max_msgs_per_subject"]
        if config.get("discard_new_per_subject") and limit > 0:
            count = len(self._subjects.get(subject, ())) + more.get(subject, 0)
            if count >= limit:
                return Rejected(SUBJECT_FULL, "maximum messages per subject exceeded")
        limit = config["max_msgs"]
        if limit > 0 and len(self.messages) + batched >= limit:
            return Rejected(SUBJECT_FULL, "maximum messages exceeded")
        return None

    def _store(self, subject: str, message: Outgoing) -> int:
        headers = dict(message.headers or {})
        if message.message_id is not None:
            headers["Nats-Msg-Id"] = message.message_id
        if message.expected is not None:
            headers["Nats-Expected-Last-Subject-Sequence"] = str(message.expected)
        if message.ttl_s is not None:
            headers["Nats-TTL"] = f"{message.ttl_s}s"
        stored = self._append(subject, message.data, headers or None, message.message_id)
        sequence = stored.sequence
        if message.message_id is not None:
            self._ids[message.message_id] = (sequence, self._now_s())
        if message.ttl_s is not None:
            self._expire_in(sequence, message.ttl_s)
        elif self.config["max_age"]:
            self._expire_in(sequence, self.config["max_age"] / NANO)
        if headers.get(SCHEDULE_NEXT) == "purge" and SCHEDULER in headers:
            self.purge(headers[SCHEDULER], None)
        if SCHEDULE in headers:
            self._schedule(stored, headers[SCHEDULE])
        self._noted(self, stored)
        return sequence

    def _append(
        self, subject: str, data: bytes, headers: dict[str, str] | None, message_id: str | None
    ) -> Message:
        self.last_sequence += 1
        message = Message(
            subject, data, headers, self.last_sequence, self._wall_ms(), self._now_s(), message_id
        )
        self.messages[message.sequence] = message
        held = self._subjects.setdefault(subject, [])
        held.append(message.sequence)
        limit = self.config["max_msgs_per_subject"]
        while 0 < limit < len(held):
            self._delete(held[0])
        while self.config["discard"] == "old" and 0 < self.config["max_msgs"] < len(self.messages):
            self._delete(next(iter(self.messages)))
        return message

    # Expiry and schedules

    def _expire_in(self, sequence: int, seconds: float) -> None:
        self._later(self._now_s() + seconds, lambda: self._expired(sequence))

    def _expired(self, sequence: int) -> None:
        message = self.messages.get(sequence)
        if message is None:
            return
        self._delete(sequence)
        marker_ttl = self.config.get("subject_delete_marker_ttl", 0)
        is_marker = message.headers is not None and "Nats-Marker-Reason" in message.headers
        if marker_ttl and not is_marker and not self._subjects.get(message.subject):
            headers = {"Nats-Marker-Reason": "MaxAge", "Nats-TTL": f"{marker_ttl // NANO}s"}
            marker = self._append(message.subject, b"", headers, None)
            self._expire_in(marker.sequence, marker_ttl / NANO)
            self._noted(self, marker)

    def _schedule(self, message: Message, rule: str) -> None:
        """One schedule a subject: a new one takes the place of the old."""
        for older in list(self._subjects[message.subject][:-1]):
            self._delete(older)
        assert rule.startswith("@at "), f"{rule}: only @at is modelled"
        due_ms = int(datetime.fromisoformat(rule[4:]).timestamp() * 1000)
        self.schedules[message.subject] = (due_ms, message.sequence)
        self.watch_clock()

    def watch_clock(self) -> None:
        """(Again) wait for the next schedule: after a new one, a restart, a jump of the clock."""
        if self.schedules:
            soonest = min(due for due, _ in self.schedules.values())
            self._later(self._now_s() + max(1, soonest - self._wall_ms()) / 1000, self._fire)

    def _fire(self) -> None:
        now_ms = self._wall_ms()
        due = [s for s, (due_ms, _) in self.schedules.items() if due_ms <= now_ms]
        for subject in due:
            _, sequence = self.schedules.pop(subject)
            message = self.messages.get(sequence)
            if message is None:
                continue
            self._delete(sequence)
            assert message.headers is not None
            headers = {SCHEDULER: subject, SCHEDULE_NEXT: "purge"}
            fired = self._append(message.headers[TARGET], message.data, headers, None)
            self._noted(self, fired)
        self.watch_clock()

    # Holding

    def last_of(self, subject: str) -> Message | None:
        held = self._subjects.get(subject)
        return self.messages[held[-1]] if held else None

    def following(self, sequence: int, pattern: str) -> Message | None:
        """The first message from `sequence` on whose subject matches ("" matches all)."""
        messages = self.messages
        for number in range(max(sequence, self.first_sequence), self.last_sequence + 1):
            message = messages.get(number)
            if message is not None and (not pattern or matches(pattern, message.subject)):
                return message
        return None

    def counts(self, pattern: str) -> dict[str, int]:
        return {s: len(held) for s, held in self._subjects.items() if matches(pattern, s)}

    def purge(self, pattern: str | None, up_to: int | None) -> int:
        gone = [
            sequence
            for sequence, message in self.messages.items()
            if (up_to is None or sequence <= up_to)
            and (pattern is None or matches(pattern, message.subject))
        ]
        for sequence in gone:
            self._delete(sequence)
        return len(gone)

    def _delete(self, sequence: int) -> None:
        message = self.messages.pop(sequence)
        held = self._subjects[message.subject]
        del held[bisect_left(held, sequence)]
        if not held:
            del self._subjects[message.subject]
        known = self.schedules.get(message.subject)
        if known is not None and known[1] == sequence:
            del self.schedules[message.subject]
        while self.first_sequence <= self.last_sequence and (
            self.first_sequence not in self.messages
        ):
            self.first_sequence += 1

    # Restart

    def forget_ids(self, keeps: Callable[[], bool]) -> None:
        """A restart knows only the ids of messages that are still there; of them those that
        `keeps` says."""
        self._ids = {
            message.message_id: (message.sequence, message.at_s)
            for message in self.messages.values()
            if message.message_id is not None and keeps()
        }
