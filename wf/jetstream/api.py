"""Requests to the JetStream API: JSON in, JSON out, errors by code, asked again while it helps."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import orjson

from wf.errors import BrokerError
from wf.jetstream.encode import publication, status_of
from wf.jetstream.port import Rejected, Unknown
from wf.jetstream.replies import Question, Replies, rejected

UNAVAILABLE = frozenset({10008, 10009})  # JetStream is starting, or there is no leader yet
STREAM_NOT_FOUND = 10059
CONSUMER_NOT_FOUND = 10014
MESSAGE_NOT_FOUND = 10037

TIMEOUT_S = 20.0  # a stream leader's election takes 4–9 s
_ATTEMPT_S = 5.0
_MAX_DELAY_S = 0.5


class ApiError(BrokerError):
    """JetStream refused a request. `code` as the server counts (10014, …)."""

    def __init__(self, subject: str, code: int, description: str) -> None:
        super().__init__(f"{subject}: {description} ({code})")
        self.code = code


async def call(
    replies: Replies,
    subject: str,
    body: dict[str, Any] | None = None,
    *,
    timeout_s: float = TIMEOUT_S,
) -> dict[str, Any]:
    """The answer to `$JS.API.<subject>`. Raises ApiError, or BrokerError when none comes.

    Asked again after a lost connection, no responders or no answer: only for what may be repeated.
    """
    payload = orjson.dumps(body) if body is not None else b""
    full = f"$JS.API.{subject}"

    def finished(answers: list[tuple[bytes, bytes]]) -> dict[str, Any] | None:
        answer: dict[str, Any] = orjson.loads(answers[0][1])
        error = answer.get("error")
        if error is None:
            return answer
        if error.get("err_code") in UNAVAILABLE:
            return None
        refusal = rejected(error)
        raise ApiError(subject, refusal.code, refusal.description)

    deadline = asyncio.get_running_loop().time() + timeout_s
    delay_s = 0.02
    while True:
        reason = "JetStream is not available"
        answers = await ask(replies, full, payload, deadline)
        if isinstance(answers, Unknown):
            reason = answers.reason
        else:
            answer = finished(answers)
            if answer is not None:
                return answer
        delay_s = await pause(subject, reason, delay_s, deadline)


async def collect(
    replies: Replies, subject: str, payload: bytes, *, many: bool, timeout_s: float = TIMEOUT_S
) -> list[tuple[bytes, bytes]]:
    """The (headers, payload) answers of a direct get; with `many`, up to its closing status.

    Raises BrokerError when the whole of it does not come in time.
    """
    deadline = asyncio.get_running_loop().time() + timeout_s
    delay_s = 0.02
    while True:
        answers = await ask(replies, subject, payload, deadline, many=many)
        if not isinstance(answers, Unknown):
            return answers
        delay_s = await pause(subject, answers.reason, delay_s, deadline)


async def pause(subject: str, reason: str, delay_s: float, deadline: float) -> float:
    """Wait before the next attempt and give the next delay. Raises BrokerError at the deadline."""
    if asyncio.get_running_loop().time() + delay_s >= deadline:
        raise BrokerError(f"{subject}: {reason}; is the broker up, with JetStream enabled?")
    await asyncio.sleep(delay_s * random.uniform(0.5, 1.5))
    return min(delay_s * 2, _MAX_DELAY_S)


async def ask(
    replies: Replies, subject: str, payload: bytes, deadline: float, *, many: bool = False
) -> list[tuple[bytes, bytes]] | Unknown:
    """One attempt. Raises ApiError when the server's permissions refuse the subject."""
    loop = asyncio.get_running_loop()
    if not await replies.wire.connected_by(deadline):
        return Unknown("not connected to the broker")
    future: asyncio.Future[Unknown | Rejected | None] = loop.create_future()
    question = Question(subject, future, many=many)
    token = replies.take(question, 1)
    replies.wire.send(publication(subject, f"{replies.prefix}{token}", "", payload))
    try:
        async with asyncio.timeout_at(min(deadline, loop.time() + _ATTEMPT_S)):
            end = await future
    except TimeoutError:
        return Unknown("no answer came")
    finally:
        replies.forget(token, 1)
    if isinstance(end, Rejected):
        raise ApiError(subject, end.code, end.description)
    if end is not None:
        return end
    if status_of(question.answers[-1][0]) == 503:
        return Unknown("no responders")
    return question.answers
