"""The protocol reader gives the same messages however the bytes are cut."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nats.errors import ProtocolError

from wf.jetstream.reader import Reader

Message = tuple[bytes, bytes, bytes, bytes]

TOKEN = st.text("abc$.>*_-", min_size=1, max_size=20).map(str.encode)
PAYLOAD = st.binary(max_size=60) | st.sampled_from(
    [b"\r\n", b"MSG a 1 0\r\n\r\n", b"PING\r\n", b""]
)
HEADERS = st.sampled_from(
    [b"", b"NATS/1.0\r\n\r\n", b"NATS/1.0 503\r\n\r\n", b"NATS/1.0\r\nA: b\r\n\r\n"]
)
MESSAGES = st.lists(st.tuples(TOKEN, TOKEN | st.just(b""), HEADERS, PAYLOAD), max_size=12)


class Listener:
    """Stands where nats-py's client does."""

    def __init__(self) -> None:
        self.heard: list[Any] = []

    def ping(self) -> None:
        self.heard.append("PING")

    def pong(self) -> None:
        self.heard.append("PONG")

    def server_changed(self, info: dict[str, Any]) -> None:
        self.heard.append(info)

    def server_error(self, text: str) -> None:
        self.heard.append(text)


def wire(message: Message, sid: int = 1) -> bytes:
    subject, reply, headers, data = message
    words = [subject, b"%d" % sid, *([reply] if reply else [])]
    if headers:
        words += [b"%d" % len(headers), b"%d" % (len(headers) + len(data))]
        return b"HMSG " + b" ".join(words) + b"\r\n" + headers + data + b"\r\n"
    return b"MSG " + b" ".join([*words, b"%d" % len(data)]) + b"\r\n" + data + b"\r\n"


def read(chunks: list[bytes]) -> tuple[list[Message], Listener, Reader]:
    listener = Listener()
    reader = Reader(listener)
    messages: list[Message] = []
    reader.sinks[b"1"] = lambda *message: messages.append(message)

    async def run() -> None:
        for chunk in chunks:
            await reader.parse(chunk)

    asyncio.run(run())
    return messages, listener, reader


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


@given(MESSAGES, st.lists(st.integers(0, 10_000), max_size=30))
def test_messages_survive_any_cut(messages: list[Message], places: list[int]) -> None:
    data = b"".join(wire(message) + b"PING\r\n" for message in messages)
    seen, listener, _ = read(cut(data, places))
    assert seen == messages
    assert listener.heard == ["PING"] * len(messages)


def test_messages_survive_being_read_byte_by_byte() -> None:
    messages = [(b"a.b", b"r", b"NATS/1.0\r\nA: b\r\n\r\n", b"\r\nx"), (b"c", b"", b"", b"")]
    data = b"".join(wire(message) for message in messages)
    seen, _, _ = read([data[place : place + 1] for place in range(len(data))])
    assert seen == messages


def test_a_large_message_in_many_pieces_is_joined_once() -> None:
    body = b"x" * 8_000_000
    data = wire((b"a", b"", b"", body))
    seen, _, reader = read([data[place : place + 32768] for place in range(0, len(data), 32768)])
    assert seen == [(b"a", b"", b"", body)]
    assert reader._chunks == []


def test_messages_of_an_unknown_subscription_are_passed_over() -> None:
    message = (b"a", b"", b"", b"x")
    seen, _, _ = read([wire(message, 7) + wire(message, 1)])
    assert seen == [message]


def test_control_lines_reach_their_handlers() -> None:
    _, listener, _ = read(
        [b"+OK\r\nPING\r\nPONG\r\nINFO {\"a\":1}\r\n-ERR 'Permissions Violation for Publish'\r\n"]
    )
    assert listener.heard == ["PING", "PONG", {"a": 1}, "Permissions Violation for Publish"]


def test_what_is_not_the_protocol_is_an_error() -> None:
    with pytest.raises(ProtocolError):
        read([b"HTTP/1.1 200 OK\r\n"])
    with pytest.raises(ProtocolError):
        read([b"x" * 70_000])


def test_a_sink_that_fails_does_not_stop_the_reading() -> None:
    listener = Listener()
    reader = Reader(listener)
    seen: list[bytes] = []

    def sink(subject: bytes, reply: bytes, headers: bytes, data: bytes) -> None:
        seen.append(data)
        if data == b"bad":
            raise RuntimeError("sink")

    reader.sinks[b"1"] = sink
    data = b"".join(wire((b"a", b"", b"", body)) for body in (b"bad", b"good"))
    asyncio.run(reader.parse(data))
    assert seen == [b"bad", b"good"]


def test_a_reset_forgets_half_a_message() -> None:
    seen: list[Message] = []
    reader = Reader(Listener())
    reader.sinks[b"1"] = lambda *message: seen.append(message)
    message = (b"a", b"", b"", b"x")

    async def run() -> None:
        await reader.parse(wire((b"a", b"", b"", b"y" * 100))[:50])
        reader.reset()
        await reader.parse(wire(message))

    asyncio.run(run())
    assert seen == [message]
