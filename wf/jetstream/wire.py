"""One connection of nats-py, with a short way in and a short way out.

nats-py does the handshake, TLS, credentials, pings and reconnects. Messages pass it by: out as
ready bytes, one write per turn of the event loop; in through `Reader` to sinks. The private names
of nats-py that this rests on are checked by tests/integration/test_wire.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from loguru import logger
from nats import errors
from nats.aio.client import PING_PROTO, Client
from nats.aio.subscription import Subscription
from nats.aio.transport import TcpTransport

from wf.jetstream.reader import Direct, Reader, Sink


class Wire(Client):
    """A nats-py client that reconnects for ever and hands messages to sinks.

    `on_lost` is called the moment the connection breaks, `on_back` when it is whole again and the
    subscriptions are in place, `on_denied(kind, subject)` when the server refuses a subject.
    """

    def __init__(self) -> None:
        super().__init__()
        self.reader = Reader(self)
        self._ps = self.reader  # type: ignore[assignment]
        self.on_lost: list[Callable[[], None]] = []
        self.on_back: list[Callable[[], None]] = []
        self.on_closed: list[Callable[[], None]] = []
        self.on_denied: list[Callable[[str, str], None]] = []
        self.whole = asyncio.Event()  # set while connected
        self._loop = asyncio.get_running_loop()
        self._write_due = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._flushes: set[asyncio.Future[bool]] = set()

    # Out.

    def send(self, data: bytes) -> None:
        """Put bytes on their way with the loop's next turn; kept while disconnected."""
        self._pending.append(data)
        self._pending_data_size += len(data)
        if not self._write_due:
            self._write_due = True
            self._loop.call_soon(self._write)

    def _write(self) -> None:
        self._write_due = False
        if self._pending and self.is_connected and self._transport:
            # one write: uvloop's writelines takes 30 µs longer
            self._transport.write(b"".join(self._pending))
            self._pending = []
            self._pending_data_size = 0

    async def flush(self, timeout: float = 10) -> None:
        """Return when the server has seen everything sent so far.

        Asked again after a reconnect (nats-py's own waits for a PONG that was lost). Raises
        FlushTimeoutError.
        """
        deadline = self._loop.time() + timeout
        while await self.connected_by(deadline) and self._transport:
            self._write()
            pong: asyncio.Future[bool] = self._loop.create_future()
            self._pongs.append(pong)
            self._flushes.add(pong)
            self._transport.write(PING_PROTO)
            try:
                async with asyncio.timeout_at(deadline):
                    if await pong:
                        return
            except TimeoutError:
                break
            finally:
                self._flushes.discard(pong)
        raise errors.FlushTimeoutError

    async def connected_by(self, deadline: float) -> bool:
        """Wait for the connection until `deadline` (the loop's clock); whether it is there."""
        if self.is_connected:
            return True
        try:
            async with asyncio.timeout_at(deadline):
                while not self.is_connected:
                    if self.is_closed:
                        return False
                    self.whole.clear()
                    await self.whole.wait()
        except TimeoutError:
            return False
        return True

    async def shut(self) -> None:
        """Close for good. While disconnected, what waits to be sent is dropped."""
        if not self.is_connected:  # nats-py would write it to the dead transport
            self._pending = []
            self._pending_data_size = 0
        try:
            await self.close()
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            # not we were cancelled: nats-py waits for what its own reconnect waited for
            await self.closed()

    # Subscriptions.

    def attach(self, subject: str, sink: Sink) -> int:
        """Subscribe; made again by nats-py after every reconnect."""
        self._sid += 1
        sid = self._sid
        self._subs[sid] = Subscription(self, sid, subject)
        self.reader.sinks[b"%d" % sid] = sink
        self.send(b"SUB %b  %d\r\n" % (subject.encode(), sid))
        return sid

    def detach(self, sid: int, *, linger_s: float = 0.0) -> None:
        """Unsubscribe; the sink still takes what is under way for `linger_s`."""
        if self._subs.pop(sid, None) is not None and not self.is_closed:
            self.send(b"UNSUB %d\r\n" % sid)
        if linger_s > 0:
            self._loop.call_later(linger_s, self.reader.sinks.pop, b"%d" % sid, None)
        else:
            self.reader.sinks.pop(b"%d" % sid, None)

    # The connection's fate.

    def ping(self) -> None:
        """The server asks whether we are there."""
        self.send(b"PONG\r\n")

    def pong(self) -> None:
        """The server answers a PING; its waiter may have given up."""
        if self._pongs:
            waiter = self._pongs.pop(0)
            if not waiter.done():
                waiter.set_result(True)
            self._pongs_received += 1
            self._pings_outstanding = 0

    def server_changed(self, info: dict[str, Any]) -> None:
        """A later INFO: other servers of the cluster, or lame duck mode."""
        self._spawn(self._process_info(info))

    def server_error(self, text: str) -> None:
        """An -ERR line. nats-py would close for good; only a new connection helps, so make one."""
        if "permissions violation" in text.lower():
            logger.bind(error=text).error("broker.permission_denied")
            verb, subject = denied(text)
            for callback in self.on_denied:
                callback(verb, subject)
            return
        logger.bind(error=text).error("broker.error")
        self._spawn(self._process_op_err(errors.Error(f"nats: {text}")))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _read_loop(self) -> None:
        transport = self._transport
        if not isinstance(transport, TcpTransport):
            await super()._read_loop()  # WebSocket has frames of its own
            return
        socket: Any = transport._io_writer.transport  # type: ignore[union-attr]
        stream: Any = transport._io_reader
        direct = Direct(self.reader, socket.get_protocol())
        socket.set_protocol(direct)
        stream.feed_eof()
        direct.data_received(await stream.read())  # what came along with the handshake
        try:
            await self._process_op_err(await direct.ended)
        finally:
            direct.ended.cancel()

    async def _connect_to_server(self, s: Any) -> None:
        # A try whose handshake failed leaves its socket to the collector: an idle process would be
        # out of descriptors before that comes by.
        if self._transport:
            self._transport.close()  # type: ignore[no-untyped-call]
        await super()._connect_to_server(s)

    async def _process_op_err(self, e: Exception) -> None:
        was_connected = self.is_connected
        await super()._process_op_err(e)
        if was_connected and not self.is_connected:
            self._lose(e)

    def _lose(self, error: Exception) -> None:
        # Unsent publishes must not be stored later, after their sender has looked and decided.
        self._pending = []
        self._pending_data_size = 0
        self.whole.clear()
        for pong in self._flushes:
            if not pong.done():
                pong.set_result(False)
        logger.bind(error=str(error) or type(error).__name__).warning("broker.disconnected")
        for callback in self.on_lost:
            callback()

    async def back(self) -> None:
        """nats-py's reconnected_cb."""
        self.whole.set()
        url: Any = self.connected_url
        logger.bind(server=url.netloc.rpartition("@")[2] if url else "").info("broker.reconnected")
        for callback in self.on_back:
            callback()

    async def closed(self) -> None:
        """nats-py's closed_cb."""
        self.whole.set()  # whoever waits for the connection need not wait any longer
        for callback in self.on_closed:
            callback()


def denied(text: str) -> tuple[str, str]:
    """("publish" or "subscription", subject) of a permissions violation."""
    verb = "publish" if "for publish" in text.lower() else "subscription"
    parts = text.split('"')
    return verb, parts[1] if len(parts) > 1 else ""
