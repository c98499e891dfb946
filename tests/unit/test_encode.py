"""Bytes of the client protocol, out and in."""

from __future__ import annotations

import pytest

from wf.errors import BrokerError
from wf.jetstream import encode
from wf.jetstream.port import Outgoing
from wf.jetstream.wire import denied


def test_a_message_without_headers_is_a_pub() -> None:
    assert encode.publication("a.b", "", "", b"xy") == b"PUB a.b  2\r\nxy\r\n"
    assert encode.publication("a.b", "r", "", b"") == b"PUB a.b r 0\r\n\r\n"


def test_headers_make_it_an_hpub_with_sizes_in_bytes() -> None:
    message = Outgoing("s", b"xy", "id:1", 7, 60, {"traceparent": "ü"})
    lines = encode.header_lines(message)
    assert lines == (
        "Nats-Msg-Id: id:1\r\nNats-Expected-Last-Subject-Sequence: 7\r\nNats-TTL: 60s\r\n"
        "traceparent: ü\r\n"
    )
    head = f"NATS/1.0\r\n{lines}\r\n".encode()
    expected = b"HPUB s r %d %d\r\n%bxy\r\n" % (len(head), len(head) + 2, head)
    assert encode.publication("s", "r", lines, b"xy") == expected


def test_headers_are_read_when_somebody_looks() -> None:
    headers = encode.Headers(b"NATS/1.0\r\nA: 1\r\nB:2\r\nA: 3\r\nodd\r\n\r\n")
    assert dict(headers) == {"A": "3", "B": "2"}
    assert headers.get("C") is None
    assert len(headers) == 2


@pytest.mark.parametrize(
    ("raw", "status", "words"),
    [
        (b"NATS/1.0 503\r\n\r\n", 503, ""),
        (b"NATS/1.0 409 Consumer Deleted\r\nA: b\r\n\r\n", 409, "Consumer Deleted"),
        (b"NATS/1.0\r\nA: b\r\n\r\n", 0, None),
        (b"", 0, None),
    ],
)
def test_the_inline_status(raw: bytes, status: int, words: str | None) -> None:
    assert encode.status_of(raw) == status
    if words is not None:
        assert encode.description_of(raw) == words


def test_a_delivery_is_told_by_its_reply_subject_with_or_without_domain() -> None:
    short = b"$JS.ACK.S.c.2.30.4.1700000000123456789.5"
    long = b"$JS.ACK.hub.ACC.S.c.2.30.4.1700000000123456789.5.random"
    for reply in (short, long):
        found = encode.delivery(b"a.b", reply, b"", b"x")
        assert (found.stream, found.consumer, found.subject) == ("S", "c", "a.b")
        assert (found.sequence, found.delivered, found.pending) == (30, 2, 5)
        assert found.timestamp_ms == 1_700_000_000_123
        assert found.reply == reply.decode()
        assert found.headers is None
    with pytest.raises(BrokerError, match="not a JetStream delivery"):
        encode.delivery(b"a", b"_INBOX.x", b"", b"")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-21T10:00:00.123456789Z", 1_795_255_200_123),
        ("2026-11-21T10:00:00.5Z", 1_795_255_200_500),
        ("2026-11-21T10:00:00Z", 1_795_255_200_000),
    ],
)
def test_time_stamps_are_milliseconds(text: str, expected: int) -> None:
    assert encode.milliseconds(text) == expected


def test_a_permission_denial_names_its_subject() -> None:
    publish = 'Permissions Violation for Publish to "workflow.start.X"'
    subscribe = 'Permissions Violation for Subscription to "a.>"'
    assert denied(publish) == ("publish", "workflow.start.X")
    assert denied(subscribe) == ("subscription", "a.>")
