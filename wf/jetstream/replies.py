"""One reply inbox for everything that is answered: publishes, batches, API requests, gets.

Each question carries its own token below the inbox; answers find their waiter through it. A lost
connection and a refused subject end the waits at once instead of at their timeouts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Protocol

import orjson

from wf.jetstream.encode import status_of
from wf.jetstream.port import (
    WRONG_LAST_SEQUENCE,
    Accepted,
    Outcome,
    Outgoing,
    Rejected,
    Unknown,
)
from wf.jetstream.wire import Wire

DENIED = 403  # Rejected.code when the server's permissions refuse the subject
LOST = Unknown("the connection was lost before the answer came")
LATE = Unknown("no answer within the time allowed")
NOT_CONNECTED = Unknown("not connected to the broker")
ABSENT = Unknown("no stream takes this subject now (no responders)")


class Waiter(Protocol):
    """Whoever waits for answers to one or more tokens."""

    def answer(self, token: int, headers: bytes, data: bytes) -> bool:
        """Take an answer; True when no more is expected for this token."""

    def give_up(self, outcome: Unknown | Rejected) -> None:
        """No answer will come any more."""

    def denied(self, subject: str) -> bool:
        """Whether the subject that the server refused is one of ours."""


class Replies:
    """Tokens and their waiters on one connection."""

    def __init__(self, wire: Wire, inbox: str) -> None:
        self.wire = wire
        self._prefix = f"{inbox}."
        self._prefix_length = len(self._prefix)
        self._waiting: dict[int, Waiter] = {}
        self._next_token = 0
        wire.attach(f"{inbox}.*", self._sink)
        wire.on_lost.append(lambda: self.abandon(LOST))
        wire.on_denied.append(self._denied)

    def ask(self, waiter: Waiter) -> str:
        """A fresh reply subject whose answers go to `waiter`."""
        token = self._next_token
        self._next_token = token + 1
        self._waiting[token] = waiter
        return f"{self._prefix}{token}"

    def take(self, waiter: Waiter, count: int) -> int:
        """Fresh tokens for `count` questions in a row; the first of them."""
        first = self._next_token
        self._next_token = first + count
        waiting = self._waiting
        for token in range(first, first + count):
            waiting[token] = waiter
        return first

    @property
    def prefix(self) -> str:
        """Reply subject = prefix + token."""
        return self._prefix

    def forget(self, first: int, count: int) -> None:
        """No more answers are wanted for these tokens."""
        for token in range(first, first + count):
            self._waiting.pop(token, None)

    def abandon(self, outcome: Unknown | Rejected) -> None:
        """End every wait."""
        waiters = set(self._waiting.values())
        self._waiting.clear()
        for waiter in waiters:
            waiter.give_up(outcome)

    def _sink(self, subject: bytes, reply: bytes, headers: bytes, data: bytes) -> None:
        token = int(subject[self._prefix_length :])
        waiter = self._waiting.get(token)
        if waiter is not None and waiter.answer(token, headers, data):
            self._waiting.pop(token, None)

    def _denied(self, verb: str, subject: str) -> None:
        if verb != "publish":
            return
        outcome = Rejected(DENIED, f"this connection's user may not publish to {subject}")
        for waiter in set(self._waiting.values()):
            if waiter.denied(subject):
                waiter.give_up(outcome)


class Flight:
    """Publishes under way together, `count` answers expected; done when each has its outcome."""

    __slots__ = ("_future", "_left", "_messages", "first", "outcomes")

    def __init__(
        self,
        replies: Replies,
        messages: Sequence[Outgoing],
        count: int,
        future: asyncio.Future[None],
    ) -> None:
        self.outcomes: list[Outcome | None] = [None] * count
        self._left = count
        self._future = future
        self._messages = messages
        self.first = replies.take(self, count)

    def answer(self, token: int, headers: bytes, data: bytes) -> bool:
        place = token - self.first
        if self.outcomes[place] is None:
            self.outcomes[place] = publish_ack(headers, data)
            self._left -= 1
            if not self._left and not self._future.done():
                self._future.set_result(None)
        return True

    def give_up(self, outcome: Unknown | Rejected) -> None:
        for place, known in enumerate(self.outcomes):
            if known is None:
                self.outcomes[place] = outcome
        self._left = 0
        if not self._future.done():
            self._future.set_result(None)

    def denied(self, subject: str) -> bool:
        return any(message.subject == subject for message in self._messages)

    def land(self, replies: Replies) -> list[Outcome]:
        """What became of each message; tokens without an answer are given back."""
        if self._left:
            replies.forget(self.first, len(self.outcomes))
        return [LATE if outcome is None else outcome for outcome in self.outcomes]


class Question:
    """One request; `replies` collects answers until `last` says that it was the last."""

    __slots__ = ("_future", "_many", "_subject", "answers")

    def __init__(self, subject: str, future: asyncio.Future[Any], *, many: bool = False) -> None:
        self.answers: list[tuple[bytes, bytes]] = []
        self._subject = subject
        self._future = future
        self._many = many

    def answer(self, token: int, headers: bytes, data: bytes) -> bool:
        self.answers.append((headers, data))
        if self._many and headers and not status_of(headers):
            return False
        if not self._future.done():
            self._future.set_result(None)
        return True

    def give_up(self, outcome: Unknown | Rejected) -> None:
        if not self._future.done():
            self._future.set_result(outcome)

    def denied(self, subject: str) -> bool:
        return subject == self._subject


def publish_ack(headers: bytes, data: bytes) -> Outcome:
    """The outcome that a stream's answer to a publish stands for."""
    if headers and status_of(headers) == 503:
        return ABSENT
    try:
        answer = orjson.loads(data)
        error = answer.get("error")
        if error is None:
            return Accepted(answer["seq"], answer.get("duplicate", False))
    except (orjson.JSONDecodeError, KeyError, AttributeError):
        return Unknown(f"not a publish acknowledgement: {data[:200]!r}")
    return rejected(error)


def rejected(error: dict[str, Any]) -> Rejected:
    """The server's error object; 10071 names the subject's real last sequence in words."""
    code = int(error.get("err_code") or error.get("code") or 0)
    description = str(error.get("description", ""))
    last: int | None = None
    if code == WRONG_LAST_SEQUENCE:
        number = description.rpartition(":")[2].strip()
        last = int(number) if number.isdigit() else None
    return Rejected(code, description, last)
