"""The guard: a process that ends the children when the supervisor was killed.

The kernel tells each child of the supervisor's death with SIGTERM, and a healthy one leaves within
seconds. One that is stopped, or stuck where no Python runs, does not; and with the supervisor gone
nobody is left to send SIGKILL. The guard holds a pidfd of every child and one end of a socket pair.
When the other end closes, however that came about, it waits a little, then kills what still runs.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
import time
from collections.abc import Iterable
from typing import NoReturn

from loguru import logger

from supervisor.processes import guard_program
from supervisor.processes.spawn import Spawned, name_process, spawn_guard

_YOUNG_S = 1.0
_IGNORED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


class Guard:
    """The supervisor's side of it."""

    def __init__(
        self, log_format: str, children: Iterable[Spawned] = (), *, execute: bool = True
    ) -> None:
        """`execute=False`: a mere fork, for when the program cannot run; it needs more memory."""
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self.pid = spawn_guard(lambda: _be(theirs, log_format, execute), keep=theirs.fileno())
        self._started_at = time.monotonic()
        for child in children:
            self.protect(child)

    def protect(self, child: Spawned) -> None:
        """Have `child` ended with us, should we be killed."""
        try:
            socket.send_fds(self._socket, [str(child.pid).encode()], [child.pidfd])
        except OSError as error:
            # It has just died; it will be reaped, and its successor is given all of them.
            logger.bind(error=str(error)).warning("guard.unreachable")

    def is_young(self) -> bool:
        """Whether it has hardly begun: if it is dead already, its program is not to be trusted."""
        return time.monotonic() - self._started_at < _YOUNG_S

    def close(self) -> None:
        """Let it go: its end of the pair closes, it finds nothing to do, and leaves."""
        self._socket.close()


def _be(supervisor: socket.socket, log_format: str, execute: bool) -> int:
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)  # stays so in the program
    if execute:
        try:
            _execute(supervisor.fileno(), log_format)
        except OSError as error:  # Python is being upgraded under us, or gone
            logger.bind(error=str(error)).warning("guard.not_executed")
    name_process("wf-guard")
    gc.disable()  # would touch, and so copy, every page that is shared with the supervisor
    guard_program.run(supervisor, log_format)
    return 0


def _execute(fd: int, log_format: str) -> NoReturn:
    os.set_inheritable(fd, True)
    # -I -S: neither the environment nor site-packages; 3 MB instead of 7
    program = str(guard_program.__file__)
    os.execv(sys.executable, [sys.executable, "-I", "-S", program, str(fd), log_format])
