"""One process of a task, from its start to its end, with all that it has started.

It has a directory of its own, a bare environment and a process group, which its leader kills
(wf/builtin/programs/reaper.py): when the activity ends before it (a timeout, a drain), when the
process ends, and when
the worker dies.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, cast

from wf.builtin.programs.command_line import PATH, Program

LEADER = str(Path(__file__).with_name("reaper.py"))


class Ended(NamedTuple):
    """How it ended: its exit status, negative for a signal, and what it wrote."""

    code: int
    stdout: bytes
    stderr: bytes


class TooMuch(Exception):
    """It wrote more than is allowed."""


class Missing(Exception):
    """The program cannot be started."""


async def run(
    program: Program,
    *,
    stdin: bytes,
    variables: Mapping[str, str],
    max_bytes: int,
    file: tuple[str, str] | None = None,
) -> Ended:
    """Run it to its end. `file`: name and text of a file in its directory, whose path is the
    first argument. Raises TooMuch, Missing."""
    with tempfile.TemporaryDirectory(prefix="wf-run-") as directory:
        arguments = program.arguments
        if file is not None:
            path = Path(directory, file[0])
            path.write_text(file[1], encoding="utf-8")
            arguments = (str(path), *arguments)
        if not os.access(program.path, os.X_OK):
            raise Missing(f"{program.path}: cannot be executed, or is not there")
        bare = {"PATH": PATH, "HOME": directory, "TMPDIR": directory, "LANG": "C.UTF-8"}
        loop = asyncio.get_running_loop()
        try:
            transport, outcome = await loop.subprocess_exec(
                lambda: _Outcome(loop, max_bytes),
                *(sys.executable, "-I", "-S", LEADER, str(os.getpid())),
                program.path,
                *arguments,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=directory,
                env={**bare, **variables},
                start_new_session=True,
            )
        except OSError as error:
            raise Missing(f"{program.path}: {error.strerror or error}") from error
        try:
            _feed(transport, stdin)
            return await outcome.ended
        finally:
            outcome.end()
            await outcome.gone.wait()
            transport.close()


def _feed(transport: asyncio.SubprocessTransport, data: bytes) -> None:
    # uvloop's transports are not of asyncio's classes
    pipe = cast(asyncio.WriteTransport, transport.get_pipe_transport(0))
    if data:
        pipe.write(data)  # it need not read what it gets
    pipe.close()


class _Outcome(asyncio.SubprocessProtocol):
    """Collects what the process writes until it has ended and nobody can write any more."""

    def __init__(self, loop: asyncio.AbstractEventLoop, max_bytes: int) -> None:
        self.ended: asyncio.Future[Ended] = loop.create_future()
        self.gone = asyncio.Event()  # the process, whoever else may still hold its pipes
        self._max_bytes = max_bytes
        self._written = {1: bytearray(), 2: bytearray()}
        self._open = {1, 2}
        self._transport: asyncio.SubprocessTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.SubprocessTransport, transport)

    def end(self) -> None:
        """Have the leader kill the group, if that is not done yet."""
        assert self._transport is not None
        if not self.gone.is_set():
            with suppress(ProcessLookupError):
                self._transport.send_signal(signal.SIGTERM)

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        written = self._written[fd]
        written += data
        if len(written) > self._max_bytes and not self.ended.done():
            self.ended.set_exception(TooMuch())

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        self._open.discard(fd)
        self._look()

    def process_exited(self) -> None:
        self.gone.set()
        self._look()

    def _look(self) -> None:
        if self.gone.is_set() and not self._open and not self.ended.done():
            assert self._transport is not None
            code = self._transport.get_returncode()
            assert code is not None
            self.ended.set_result(Ended(code, bytes(self._written[1]), bytes(self._written[2])))
