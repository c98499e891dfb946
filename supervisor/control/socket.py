"""The control socket: one JSON request line in, one JSON answer out, then it is closed.

A Unix socket that only its owner may open, in state_dir. Both ends reach it through a descriptor
of the directory, because a socket's path may not be longer than 107 bytes.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson
from loguru import logger

from supervisor.processes.loop import Loop

NAME = "control.sock"
Command = Callable[[dict[str, Any]], dict[str, Any]]
_LONGEST_REQUEST = 64 * 1024
_MOST_CLIENTS = 32


class ControlServer:
    """Answers requests between other events; no client can make it wait."""

    def __init__(self, state_dir: Path, loop: Loop, commands: Mapping[str, Command]) -> None:
        self._loop = loop
        self._commands = commands
        self._state_dir = state_dir
        self._clients: list[_Client] = []
        self._listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self._listening.setblocking(False)
        (state_dir / NAME).unlink(missing_ok=True)  # of a dead predecessor: we hold the lock
        mask = os.umask(0o177)
        try:
            with _short(state_dir) as path:
                self._listening.bind(path)
        finally:
            os.umask(mask)
        self._listening.listen(8)
        loop.watch(self._listening.fileno(), self._accept)

    def _accept(self) -> None:
        try:
            connection, _ = self._listening.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        if len(self._clients) >= _MOST_CLIENTS:
            self._clients[0].close()  # whoever has kept us waiting longest
        self._clients.append(_Client(connection, self))

    def answer(self, line: bytes) -> bytes:
        """The answer to one request line."""
        try:
            request = orjson.loads(line)
            command = self._commands[request["command"]]
        except (orjson.JSONDecodeError, KeyError, TypeError):
            known = ", ".join(sorted(self._commands))
            return orjson.dumps({"error": f"not a known command; known are: {known}"})
        try:
            return orjson.dumps(command(request), default=str)
        except Exception as error:  # noqa: BLE001 - to ask how it goes must never end it
            logger.opt(exception=True).error("control.failed")
            return orjson.dumps({"error": f"the supervisor could not answer: {error!r}"})

    def closed(self, client: _Client) -> None:
        self._clients.remove(client)

    def close(self) -> None:
        for client in list(self._clients):
            client.close()
        self._loop.forget(self._listening.fileno())
        self._listening.close()
        (self._state_dir / NAME).unlink(missing_ok=True)

    @property
    def loop(self) -> Loop:
        return self._loop


class _Client:
    def __init__(self, connection: socket.socket, server: ControlServer) -> None:
        self._connection = connection
        self._server = server
        self._request = bytearray()
        self._answer = memoryview(b"")
        connection.setblocking(False)
        server.loop.watch(connection.fileno(), self._read)

    def _read(self) -> None:
        try:
            data = self._connection.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._request += data
        if b"\n" in self._request:
            line = bytes(self._request).split(b"\n", 1)[0]
            self._answer = memoryview(self._server.answer(line) + b"\n")
            self._server.loop.forget(self._connection.fileno())
            self._server.loop.watch_writing(self._connection.fileno(), self._write)
        elif not data or len(self._request) > _LONGEST_REQUEST:
            self.close()

    def _write(self) -> None:
        try:
            self._answer = self._answer[self._connection.send(self._answer) :]
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        if not self._answer:
            self.close()

    def close(self) -> None:
        self._server.loop.forget(self._connection.fileno())
        self._connection.close()
        self._server.closed(self)


def ask(state_dir: Path, request: dict[str, Any], timeout_s: float = 5.0) -> dict[str, Any]:
    """Send `request` to the supervisor of `state_dir`; its answer.

    Raises FileNotFoundError or ConnectionRefusedError when none runs, TimeoutError when it is
    stuck, PermissionError when it belongs to somebody else.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout_s)
        with _short(state_dir) as path:
            connection.connect(path)
        connection.sendall(orjson.dumps(request) + b"\n")
        chunks = []
        while chunk := connection.recv(65536):
            chunks.append(chunk)
    answer = orjson.loads(b"".join(chunks))
    if not isinstance(answer, dict):
        raise ConnectionError(f"{state_dir / NAME} answered {answer!r}")
    return answer


@contextlib.contextmanager
def _short(state_dir: Path) -> Iterator[str]:
    directory = os.open(state_dir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{NAME}"
    finally:
        os.close(directory)
