"""Bytes of the NATS client protocol: messages out, deliveries and stored messages in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime

from wf.errors import BrokerError
from wf.jetstream.port import Delivery, Outgoing, Stored

MESSAGE_ID = "Nats-Msg-Id"
EXPECTED = "Nats-Expected-Last-Subject-Sequence"
TTL = "Nats-TTL"

_HEAD = b"NATS/1.0"


class Headers(Mapping[str, str]):
    """Headers of one message, taken apart only when somebody looks."""

    __slots__ = ("_parsed", "_raw")

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._parsed: dict[str, str] | None = None

    def _read(self) -> dict[str, str]:
        if self._parsed is None:
            self._parsed = read_headers(self._raw)
        return self._parsed

    def __getitem__(self, key: str) -> str:
        return self._read()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._read())

    def __len__(self) -> int:
        return len(self._read())

    def __repr__(self) -> str:
        return f"Headers({self._read()!r})"


def read_headers(raw: bytes) -> dict[str, str]:
    """Name → value of a header block, status line left out; the last of equal names holds."""
    headers: dict[str, str] = {}
    for line in raw.decode("utf-8", "replace").split("\r\n")[1:]:
        name, colon, value = line.partition(":")
        if colon:
            headers[name.strip()] = value.strip()
    return headers


def status_of(raw: bytes) -> int:
    """The inline status of a header block (404, 503, …); 0 when it has none."""
    if raw[8:9] != b" ":
        return 0
    code = raw[9:12]
    return int(code) if code.isdigit() else 0


def description_of(raw: bytes) -> str:
    """The words after the inline status."""
    return raw[12 : raw.find(b"\r\n")].decode("utf-8", "replace").strip()


def check_subject(subject: str) -> str:
    """Return `subject`, or raise ValueError when it would break the protocol line."""
    if not subject or " " in subject or not subject.isprintable():
        raise ValueError(f"subject {subject!r}: no spaces or control characters are allowed")
    return subject


def header_lines(message: Outgoing) -> str:
    """The message's own header lines, each ending in CRLF. Raises ValueError for a line break."""
    lines = ""
    count = 0
    if message.message_id is not None:
        lines = f"{MESSAGE_ID}: {message.message_id}\r\n"
        count = 1
    if message.expected is not None:
        lines += f"{EXPECTED}: {message.expected}\r\n"
        count += 1
    if message.ttl_s is not None:
        lines += f"{TTL}: {message.ttl_s}s\r\n"
        count += 1
    if message.headers:
        for name, value in message.headers.items():
            lines += f"{name}: {value}\r\n"
            count += 1
    if lines.count("\n") != count or lines.count("\r") != count:
        raise ValueError(f"{message.subject}: a header holds a line break")
    return lines


def publication(subject: str, reply: str, lines: str, data: bytes) -> bytes:
    """One PUB or HPUB. `reply` may be empty; `lines` as `header_lines` gives them."""
    if not subject or " " in subject or not subject.isprintable():
        check_subject(subject)
    if not lines:
        return b"PUB %b %b %d\r\n%b\r\n" % (subject.encode(), reply.encode(), len(data), data)
    head = f"NATS/1.0\r\n{lines}\r\n".encode()
    size = len(head)
    return b"HPUB %b %b %d %d\r\n%b%b\r\n" % (
        subject.encode(),
        reply.encode(),
        size,
        size + len(data),
        head,
        data,
    )


def delivery(subject: bytes, reply: bytes, headers: bytes, data: bytes) -> Delivery:
    """What a consumer delivered; all of its figures are in the reply subject.

    `$JS.ACK.<stream>.<consumer>.<delivered>.<stream seq>.<consumer seq>.<time>.<pending>`, or with
    `<domain>.<account>` after ACK and a token more at the end.
    """
    answer = reply.decode()
    tokens = answer.split(".")
    if len(tokens) != 9:
        if len(tokens) < 11:
            raise BrokerError(f"not a JetStream delivery: reply subject {answer!r}")
        tokens = tokens[2:]
    return Delivery(
        tokens[2],
        tokens[3],
        subject.decode("utf-8", "backslashreplace"),
        data,
        Headers(headers) if headers else None,
        int(tokens[5]),
        int(tokens[4]),
        int(tokens[7]) // 1_000_000,
        int(tokens[8]),
        answer,
    )


_OWN = ("Nats-Stream", "Nats-Subject", "Nats-Sequence", "Nats-Time-Stamp", "Nats-Num-Pending",
        "Nats-Last-Sequence", "Nats-UpTo-Sequence")  # fmt: skip


def stored_direct(headers: Mapping[str, str], data: bytes) -> Stored:
    """A message as a direct get gives it: the stream's facts are headers of their own."""
    rest = {name: value for name, value in headers.items() if name not in _OWN}
    return Stored(
        headers["Nats-Subject"],
        data,
        rest or None,
        int(headers["Nats-Sequence"]),
        milliseconds(headers["Nats-Time-Stamp"]),
    )


def milliseconds(timestamp: str) -> int:
    """RFC 3339 with up to nanoseconds → milliseconds since the epoch."""
    whole, dot, rest = timestamp.rstrip("Z").partition(".")
    seconds = int(datetime.fromisoformat(f"{whole}+00:00").timestamp())
    return seconds * 1000 + (int(rest[:3].ljust(3, "0")) if dot else 0)
