"""A cable between the pool and its broker that can be cut, held, torn and forgotten."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

CHUNK = 65536
_RST = struct.pack("ii", 1, 0)  # SO_LINGER: close with a reset


class Cable:
    """Forwards TCP connections to one port of this host."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="cable", daemon=True)
        self._open = asyncio.Event()  # bytes pass
        self._whole = True  # new connections pass
        self._near: set[asyncio.StreamWriter] = set()
        self._far: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    # What may happen to it; from any thread

    def cut(self) -> None:
        """All connections end, and none can be made, until `mend`."""
        self._do(self._cut)

    def hold(self) -> None:
        """Nothing passes either way, and nobody is told, until `mend`."""
        self._do(self._open.clear)

    def mend(self) -> None:
        self._do(self._mend)

    def tear(self) -> None:
        """All connections end with a reset; new ones pass."""
        self._do(self._tear)

    def forget(self) -> None:
        """The broker's side of all connections ends; the pool's side stays open and silent."""
        self._do(self._forget)

    def _cut(self) -> None:
        self._whole = False
        for writer in [*self._near, *self._far]:
            writer.close()

    def _mend(self) -> None:
        self._whole = True
        self._open.set()

    def _tear(self) -> None:
        for writer in [*self._near, *self._far]:
            if (sock := writer.get_extra_info("socket")) is not None:
                with suppress(OSError):  # it is being closed already
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST)
            writer.transport.abort()

    def _forget(self) -> None:
        for writer in list(self._far):
            writer.close()

    def _do(self, what: Callable[[], None]) -> None:
        done = threading.Event()

        def carried_out() -> None:
            what()
            done.set()

        self._loop.call_soon_threadsafe(carried_out)
        assert done.wait(10)

    # Forwarding

    async def _serve(self) -> asyncio.Server:
        self._open.set()
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        return server

    async def _connected(self, reader: asyncio.StreamReader, near: asyncio.StreamWriter) -> None:
        if not self._whole:
            near.close()
            return
        try:
            back, far = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            near.close()
            return
        self._near.add(near)
        self._far.add(far)
        there = asyncio.create_task(self._pump(reader, far))
        home = asyncio.create_task(self._pump(back, near))
        self._tasks |= {there, home}
        try:
            await there  # the pool's side has ended
        finally:
            for writer in (near, far):
                writer.close()
            await asyncio.gather(home, return_exceptions=True)
            self._tasks -= {there, home}
            self._near.discard(near)
            self._far.discard(far)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Until the reading side ends. What the other side does not take any more is lost."""
        with suppress(OSError):
            while data := await reader.read(CHUNK):
                await self._open.wait()
                with suppress(OSError):
                    writer.write(data)
                    await writer.drain()

    async def _close(self, server: asyncio.Server) -> None:
        server.close()
        self._cut()
        self._open.set()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@contextmanager
def cable_to(port: int) -> Iterator[Cable]:
    cable = Cable(port)
    cable._thread.start()
    server = asyncio.run_coroutine_threadsafe(cable._serve(), cable._loop).result(10)
    try:
        yield cable
    finally:
        asyncio.run_coroutine_threadsafe(cable._close(server), cable._loop).result(10)
        cable._loop.call_soon_threadsafe(cable._loop.stop)
        cable._thread.join(10)
        cable._loop.close()
