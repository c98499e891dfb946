"""Reads the client protocol of NATS off the socket: a fast stand-in for nats-py's own parser.

nats-py matches regular expressions, awaits coroutines and queues an object for every message
(about 5 µs each), and wakes a task for every read (10 µs more). Here a whole chunk is taken apart
in one pass and each message goes straight to the sink of its subscription, synchronously.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import orjson
from loguru import logger
from nats.errors import ProtocolError, UnexpectedEOF

# subject, reply, headers (b"" without), payload; called from the reading task, must not block
Sink = Callable[[bytes, bytes, bytes, bytes], None]

_M, _H = ord("M"), ord("H")
_MAX_LINE = 64 * 1024  # INFO lines of large clusters are the longest


class Reader:
    """Takes the place of `nats.protocol.parser.Parser`: `parse`, `reset`, `nc`."""

    def __init__(self, nc: Any) -> None:
        self.nc = nc
        self.sinks: dict[bytes, Sink] = {}  # subscription id as on the wire → sink
        self._chunks: list[bytes] = []
        self._held = 0  # bytes in _chunks
        self._wanted = 0  # bytes without which a further look is pointless

    def reset(self) -> None:
        """Forget half-read input: the connection is a new one."""
        self._chunks.clear()
        self._held = 0
        self._wanted = 0

    async def parse(self, data: bytes = b"") -> None:
        """What nats-py's own reading loop calls."""
        self.feed(data)

    def feed(self, data: bytes) -> None:
        """Take in what the socket gave and dispatch what is complete. Raises ProtocolError."""
        if self._chunks:
            self._chunks.append(data)
            self._held += len(data)
            if self._held < self._wanted:
                return
            data = b"".join(self._chunks)
            self._chunks.clear()
        while True:
            try:
                position, wanted, line = self._messages(data)
            except (ValueError, IndexError) as error:
                raise ProtocolError(f"nats: not a message: {error}") from error
            if not line:
                break
            self._control(line)
            data = data[position:]
        self._held = len(data) - position
        self._wanted = wanted - position
        if self._held:
            self._chunks.append(data[position:])

    def _messages(self, data: bytes) -> tuple[int, int, bytes]:
        """Dispatch messages until the input ends or another kind of line comes.

        Gives (where it stopped, up to where input is needed, the other line or b"").
        """
        position = 0
        size = len(data)
        sinks = self.sinks
        find = data.find
        while position < size:
            end = find(b"\r\n", position)
            if end < 0:
                if size - position > _MAX_LINE:
                    raise ProtocolError("nats: control line too long")
                return position, size + 1, b""
            first = data[position]
            if first == _M and data[position + 1] == 83:  # MSG subject sid [reply] size
                parts = data[position + 4 : end].split(b" ")
                header_size = 0
            elif first == _H:  # HMSG subject sid [reply] header-size size
                parts = data[position + 5 : end].split(b" ")
                header_size = int(parts[-2])
                del parts[-2]
            else:
                return end + 2, 0, data[position:end]
            body = end + 2
            stop = body + int(parts[-1])
            if stop + 2 > size:
                return position, stop + 2, b""
            sink = sinks.get(parts[1])
            if sink is not None:
                split = body + header_size
                reply = parts[2] if len(parts) == 4 else b""
                try:
                    sink(parts[0], reply, data[body:split], data[split:stop])
                except Exception as error:  # noqa: BLE001 — it would end the reading task for good
                    logger.opt(exception=error).bind(subject=parts[0]).error("broker.sink_failed")
            position = stop + 2
        return position, position, b""

    def _control(self, line: bytes) -> None:
        kind = line[:4].upper()
        if kind == b"PING":
            self.nc.ping()
        elif kind == b"PONG":
            self.nc.pong()
        elif kind == b"-ERR":
            self.nc.server_error(line[4:].strip().decode(errors="replace").strip("'"))
        elif kind == b"INFO":
            self.nc.server_changed(orjson.loads(line[4:]))
        elif kind[:3] != b"+OK":
            raise ProtocolError(f"nats: unknown protocol line {line[:40]!r}")


class Direct(asyncio.Protocol):
    """Hands what the socket gives straight to the reader, without a task between.

    Everything else goes to `inner`, the protocol of the stream that the transport was opened with:
    its writer's `drain` and `wait_closed` go on working.
    """

    def __init__(self, reader: Reader, inner: asyncio.Protocol) -> None:
        self.ended: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()
        self._reader = reader
        self._inner = inner

    def data_received(self, data: bytes) -> None:
        if self.ended.done():
            return  # the connection is given up already
        try:
            self._reader.feed(data)
        except Exception as error:  # noqa: BLE001 — whatever it is: only a new connection helps
            self._end(error)

    def eof_received(self) -> bool | None:
        self._end(UnexpectedEOF())
        return self._inner.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(exc or UnexpectedEOF())
        self._inner.connection_lost(exc)

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()

    def _end(self, error: Exception) -> None:
        if not self.ended.done():
            self.ended.set_result(error)
