"""One durable pull consumer: who holds which message, and what comes again when."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.support.memory.stream import NANO, MemoryStream, Message

SAVED_EVERY_S = 0.1  # the server writes acks down now and then; a kill forgets the latest
SAVED_KEPT = 8


@dataclass(slots=True)
class Request:
    """A pull's request for `left` more messages: `give(consumer, message, delivered, pending)`
    sends one. `is_open`: somebody still listens there."""

    left: int
    give: Callable[[MemoryConsumer, Message, int, int], None]
    is_open: Callable[[], bool]
    owner: object  # one generation of one pull


@dataclass(slots=True)
class _State:
    """What survives a restart."""

    next_sequence: int
    pending: dict[int, float | None]
    counts: dict[int, int]
    places: dict[int, int]
    place: int
    floor: int
    floor_place: int


class MemoryConsumer:
    def __init__(
        self,
        stream: MemoryStream,
        config: dict[str, Any],
        *,
        now_s: Callable[[], float],
        later: Callable[[float, Callable[[], None]], object],
        exhausted: Callable[[MemoryConsumer, int, int], None],
    ) -> None:
        """`exhausted(consumer, sequence, deliveries)`: max_deliver is used up."""
        self.stream = stream
        self.config = config
        self.requests: deque[Request] = deque()
        self._now_s = now_s
        self._later = later
        self._exhausted = exhausted
        self._next = 1  # the first stream sequence that was never delivered
        self._pending: dict[int, float | None] = {}  # sequence → comes again at; None: is queued
        self._counts: dict[int, int] = {}
        # The n-th first delivery is at place n. The server moves the floor by places and only when
        # an ack comes: one that was given up leaves a gap that holds it until nothing is pending.
        self._places: dict[int, int] = {}
        self._place = 0
        self._floor = 0
        self._floor_place = 0
        self._again: deque[int] = deque()
        self._alarm_s: float | None = None
        self._saved: deque[tuple[float, _State]] = deque(maxlen=SAVED_KEPT)

    @property
    def name(self) -> str:
        return str(self.config["name"])

    @property
    def floor(self) -> int:
        """Up to here every message is acknowledged, or given up."""
        return self._floor

    @property
    def done_up_to(self) -> int:
        """As the client works it out: with nothing pending, all that was delivered is done."""
        return self._floor if self._pending else max(self._floor, self._next - 1)

    @property
    def unacknowledged(self) -> int:
        return len(self._pending)

    @property
    def open_requests(self) -> int:
        return sum(1 for one in self.requests if one.is_open())

    @property
    def waiting(self) -> int:
        """How many messages were never delivered."""
        pattern = self.config.get("filter_subject", "")
        count, at = 0, self._next
        while (message := self.stream.following(at, pattern)) is not None:
            count, at = count + 1, message.sequence + 1
        return count

    # Delivering

    def request(self, request: Request) -> None:
        self.requests.append(request)
        self.serve()

    def withdraw(self, owner: object) -> None:
        self.requests = deque(one for one in self.requests if one.owner is not owner)

    def serve(self) -> None:
        """Give what there is to who asks."""
        self._save()
        limit = self.config["max_ack_pending"]
        while self.requests:
            if not self.requests[0].is_open():
                self.requests.popleft()
                continue
            message = self._take(limit)
            if message is None:
                return
            request = self.requests.popleft()
            count = self._counts.get(message.sequence, 0) + 1
            self._counts[message.sequence] = count
            self._hold(message.sequence, self.config["ack_wait"] / NANO)
            request.left -= 1
            if request.left > 0:
                self.requests.append(request)
            request.give(self, message, count, self._left())

    def _take(self, limit: int) -> Message | None:
        """The next message to deliver: one that comes again, else a new one."""
        while self._again:
            sequence = self._again.popleft()
            message = self.stream.messages.get(sequence)
            if sequence not in self._pending:
                continue
            if message is None:  # purged meanwhile
                self._settle(sequence)
                continue
            return message
        if 0 < limit <= len(self._pending):
            return None
        message = self.stream.following(self._next, self.config.get("filter_subject", ""))
        if message is None:
            self._next = max(self._next, self.stream.last_sequence + 1)
            return None
        self._next = message.sequence + 1
        self._place += 1
        self._places[message.sequence] = self._place
        return message

    def _left(self) -> int:
        return self.stream.last_sequence - self._next + 1

    def _hold(self, sequence: int, seconds: float) -> None:
        due_s = self._now_s() + seconds
        self._pending[sequence] = due_s
        self._watch(due_s)

    def _watch(self, due_s: float) -> None:
        if self._alarm_s is None or due_s < self._alarm_s:
            self._alarm_s = due_s
            self._later(due_s, self._wake)

    def _wake(self) -> None:
        """What was held too long comes again, or has come often enough."""
        now_s = self._now_s()
        if self._alarm_s is None:
            return
        self._alarm_s = None  # a loop may call a little early: then nothing is due, wait again
        for sequence, due_s in list(self._pending.items()):
            if due_s is not None and due_s <= now_s:
                self._queue(sequence)
        open_dues = [due_s for due_s in self._pending.values() if due_s is not None]
        if open_dues:
            self._watch(min(open_dues))
        self.serve()

    def _queue(self, sequence: int) -> None:
        limit = self.config["max_deliver"]
        count = self._counts.get(sequence, 0)
        if 0 < limit <= count:
            self._drop(sequence)
            self._exhausted(self, sequence, count)
            return
        self._pending[sequence] = None
        self._again.append(sequence)

    def _drop(self, sequence: int) -> None:
        self._pending.pop(sequence, None)
        self._counts.pop(sequence, None)
        self._places.pop(sequence, None)

    def _settle(self, sequence: int) -> None:
        """Acknowledged: move the floor as far as nothing is pending."""
        place = self._places[sequence]
        self._drop(sequence)
        if not self._pending:
            self._floor, self._floor_place = self._next - 1, self._place
        elif place == self._floor_place + 1:
            above = [one for one in self._pending if one > sequence]
            if above:
                lowest = min(above)
                self._floor, self._floor_place = lowest - 1, self._places[lowest] - 1
            else:
                self._floor, self._floor_place = sequence, place

    # Being told

    def ack(self, sequence: int) -> None:
        self._save()
        if sequence in self._pending:
            self._settle(sequence)
            self.serve()

    def nak(self, sequence: int, delay_s: float | None) -> None:
        self._save()
        if sequence not in self._pending:
            return
        if delay_s:
            self._hold(sequence, delay_s)
        elif self._pending[sequence] is not None:
            self._queue(sequence)
            self.serve()

    def in_progress(self, sequence: int) -> None:
        if self._pending.get(sequence) is not None:
            self._hold(sequence, self.config["ack_wait"] / NANO)

    # Managing

    def reset(self, sequence: int | None) -> None:
        """Deliver again from `sequence`, by default what lies above the floor."""
        self._save()
        self._next = self._floor + 1 if sequence is None else sequence
        self._floor, self._place, self._floor_place = self._next - 1, 0, 0
        self._pending.clear()
        self._counts.clear()
        self._places.clear()
        self._again.clear()
        self.serve()

    def update(self, config: dict[str, Any]) -> None:
        self.config = config
        for sequence, due_s in self._pending.items():
            if due_s is not None:
                self._pending[sequence] = min(due_s, self._now_s() + config["ack_wait"] / NANO)
        self._alarm_s = None
        self._wake_soon()

    def _wake_soon(self) -> None:
        open_dues = [due_s for due_s in self._pending.values() if due_s is not None]
        if open_dues:
            self._watch(min(open_dues))
        self.serve()

    def purged(self) -> None:
        """The stream may begin later now; nobody waits for what was before."""
        first = self.stream.first_sequence
        self._next = max(self._next, first)
        if self._floor < first - 1:
            self._floor = first - 1
            for sequence in [one for one in self._pending if one < first]:
                self._floor_place = max(self._floor_place, self._places[sequence])
                self._drop(sequence)
        if not self._pending:
            self._floor, self._floor_place = self._next - 1, self._place
        self._forget_what_is_queued()

    def _forget_what_is_queued(self) -> None:
        """As the server does at every purge: what was handed back comes when ack_wait is over."""
        queued, self._again = self._again, deque()
        for sequence in queued:
            if sequence in self._pending:
                self._hold(sequence, self.config["ack_wait"] / NANO)

    # Restart

    def _save(self) -> None:
        now_s = self._now_s()
        if not self._saved or now_s - self._saved[-1][0] >= SAVED_EVERY_S:
            state = _State(
                self._next,
                dict(self._pending),
                dict(self._counts),
                dict(self._places),
                self._place,
                self._floor,
                self._floor_place,
            )
            self._saved.append((now_s, state))

    def restart(self, forget_s: float) -> None:
        """As after kill -9: what was acknowledged in the last `forget_s` may be forgotten."""
        self._save()
        now_s = self._now_s()
        old = [state for at_s, state in self._saved if now_s - at_s <= forget_s]
        if old and forget_s > 0:
            state = old[0]
            self._next = state.next_sequence
            self._pending, self._counts = dict(state.pending), dict(state.counts)
            self._places, self._place = dict(state.places), state.place
            self._floor, self._floor_place = state.floor, state.floor_place
        self._saved.clear()
        self.requests.clear()
        self._again.clear()
        self._alarm_s = None
        wait_s = self.config["ack_wait"] / NANO
        for sequence in self._pending:
            self._pending[sequence] = now_s + wait_s
        self.purged()
        if self._pending:
            self._watch(now_s + wait_s)
