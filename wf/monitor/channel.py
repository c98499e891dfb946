"""The monitor's line to the supervisor: JSON lines both ways over one socket."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import orjson

_LONGEST_LINE = 64 * 1024 * 1024


class Channel:
    """Made by `open_channel`; the end of the supervisor is the end of the lines."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def next(self) -> dict[str, Any] | None:
        """The next message; None when the supervisor is gone."""
        try:
            line = await self._reader.readline()
        except ConnectionError:
            return None
        if not line.endswith(b"\n"):
            return None
        message = orjson.loads(line)
        return message if isinstance(message, dict) else {}

    def send(self, message: dict[str, Any]) -> None:
        self._writer.write(orjson.dumps(message) + b"\n")

    def is_behind(self) -> bool:
        """Whether the supervisor does not read: what it can do without must then not pile up."""
        return self._writer.transport.get_write_buffer_size() > 0

    async def close(self) -> None:
        """Everything sent has left."""
        try:
            await self._writer.drain()
        except ConnectionError:
            return
        self._writer.close()


async def open_channel(fd: int) -> Channel:
    """Over the report descriptor of a child that was given a two-way one."""
    end = socket.socket(fileno=fd)
    return Channel(*await asyncio.open_unix_connection(sock=end, limit=_LONGEST_LINE))
