"""The guard: a process that ends the children when the supervisor was killed.

The kernel tells each child of the supervisor's death with SIGTERM, and a healthy one leaves within
seconds. One that is stopped, or stuck where no Python runs, does not; and with the supervisor gone
nobody is left to send SIGKILL. The guard holds a pidfd of every child and one end of a socket pair.
When the other end closes, however that came about, it waits a little, then kills what still runs.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
import time
from collections.abc import Iterable

from loguru import logger

from supervisor.spawn import Spawned, name_process, spawn_guard

PATIENCE_S = 7.0  # after the supervisor's death; children are to be gone within ten seconds


class Guard:
    """The supervisor's side of it."""

    def __init__(self, children: Iterable[Spawned] = ()) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self.pid = spawn_guard(lambda: _run(theirs), keep=theirs.fileno())
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


def _run(supervisor: socket.socket) -> int:
    name_process("wf-guard")
    gc.disable()  # would touch, and so copy, every page that is shared with the supervisor
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    children: dict[int, int] = {}  # pidfd → pid
    poll = select.poll()
    poll.register(supervisor, select.POLLIN)
    while True:
        ready = [fd for fd, _ in poll.poll()]
        for fd in ready:
            if fd in children:
                _forget(poll, children, fd)
        if supervisor.fileno() in ready:
            data, fds, _, _ = socket.recv_fds(supervisor, 64, 4)
            if not data:
                break
            for fd in fds:
                children[fd] = int(data)
                poll.register(fd, select.POLLIN)
    poll.unregister(supervisor)
    _end(poll, children)
    return 0


def _end(poll: select.poll, children: dict[int, int]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while children and (left_s := deadline - time.monotonic()) > 0:
        for fd, _ in poll.poll(left_s * 1000):
            _forget(poll, children, fd)
    for pid in children.values():
        logger.bind(child_pid=pid).error("guard.killed")
        # The pidfd is not readable, so it runs, so this group is still its own.
        try:
            os.killpg(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue  # it ended at this very moment


def _forget(poll: select.poll, children: dict[int, int], fd: int) -> None:
    poll.unregister(fd)
    os.close(fd)
    del children[fd]
