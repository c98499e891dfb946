"""The guard: a process that ends the children when the supervisor was killed.

The kernel tells each child of the supervisor's death with SIGTERM, and a healthy one leaves within
seconds. One that is stopped, or stuck where no Python runs, does not; and with the supervisor gone
nobody is left to send SIGKILL. The guard holds a pidfd of every child and one end of a socket pair.
When the other end closes, however that came about, it waits a little, then kills what still runs.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

from loguru import logger

from supervisor.spawn import Spawned, spawn_guard

_PROGRAM = Path(__file__).with_name("guard_program.py")
_IGNORED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


class Guard:
    """The supervisor's side of it."""

    def __init__(self, log_format: str, children: Iterable[Spawned] = ()) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self.pid = spawn_guard(
                lambda: _execute(theirs.fileno(), log_format), keep=theirs.fileno()
            )
        for child in children:
            self.protect(child)

    def protect(self, child: Spawned) -> None:
        """Have `child` ended with us, should we be killed."""
        try:
            socket.send_fds(self._socket, [str(child.pid).encode()], [child.pidfd])
        except OSError as error:
            # It has just died; it will be reaped, and its successor is given all of them.
            logger.bind(error=str(error)).warning("guard.unreachable")

    def close(self) -> None:
        """Let it go: its end of the pair closes, it finds nothing to do, and leaves."""
        self._socket.close()


def _execute(fd: int, log_format: str) -> NoReturn:
    os.set_inheritable(fd, True)
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)  # stays so in the program
    # -I -S: neither the environment nor site-packages; 3 MB instead of 7
    os.execv(sys.executable, [sys.executable, "-I", "-S", str(_PROGRAM), str(fd), log_format])
