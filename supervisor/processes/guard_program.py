"""What the guard executes: a program of its own, holding nothing of the supervisor's memory.

    python -I -S guard_program.py FD LOG_FORMAT

FD is its end of the socket pair; the supervisor has made it ignore every signal. It imports next to
nothing (`socket` and `signal` alone would cost it another megabyte) and no package of this project.
"""

from __future__ import annotations

import os
import select
import sys
import time
from _socket import CMSG_LEN, SCM_RIGHTS, SOL_SOCKET, socket

PATIENCE_S = 7.0  # after the supervisor's death; children are to be gone within ten seconds
_NAME = b"wf-guard"  # for ps and top
_SIGKILL = 9
_FD_BYTES = 4


def run(supervisor: socket, log_format: str) -> None:
    """Hold the children that the supervisor names; end them when it is gone."""
    children: dict[int, int] = {}  # pidfd → pid
    poll = select.poll()
    poll.register(supervisor, select.POLLIN)
    while True:
        ready = [fd for fd, _ in poll.poll()]
        for fd in ready:
            if fd in children:
                _forget(poll, children, fd)
        if supervisor.fileno() in ready:
            data, ancillary, _, _ = supervisor.recvmsg(64, CMSG_LEN(_FD_BYTES))
            if not data:
                break
            for level, kind, content in ancillary:
                if (level, kind) == (SOL_SOCKET, SCM_RIGHTS):
                    fd = int.from_bytes(content, sys.byteorder)
                    children[fd] = int(data)
                    poll.register(fd, select.POLLIN)
    poll.unregister(supervisor)
    _end(poll, children, log_format)


def _end(poll: select.poll, children: dict[int, int], log_format: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while children and (left_s := deadline - time.monotonic()) > 0:
        for fd, _ in poll.poll(left_s * 1000):
            _forget(poll, children, fd)
    for pid in children.values():
        # The pidfd is not readable, so it runs, so this group is still its own.
        try:
            os.killpg(pid, _SIGKILL)
        except ProcessLookupError:
            continue  # it ended at this very moment
    for pid in children.values():
        _say(_line(log_format, time.time(), pid))


def _say(line: str) -> None:
    """Unless it would have to wait: whoever reads the log may stand still."""
    room = select.poll()
    room.register(2, select.POLLOUT)
    if room.poll(0):
        try:
            os.write(2, line.encode())
        except OSError:
            return  # nobody is there to read it, and there is nobody else to tell


def _forget(poll: select.poll, children: dict[int, int], fd: int) -> None:
    poll.unregister(fd)
    os.close(fd)
    del children[fd]


def _line(log_format: str, now: float, child_pid: int) -> str:
    """The one thing that it ever says, as `wf.process.log` would have written it."""
    milliseconds = int(now * 1000) % 1000
    if log_format == "json":
        clock = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now))
        return (
            f'{{"ts":"{clock}.{milliseconds:03d}Z","level":"ERROR","event":"guard.killed",'
            f'"process":"guard","pid":{os.getpid()},"child_pid":{child_pid}}}\n'
        )
    clock = time.strftime("%H:%M:%S", time.localtime(now))
    return f"{clock}.{milliseconds:03d} ERROR   guard  guard.killed  child_pid={child_pid}\n"


if __name__ == "__main__":
    with open("/proc/self/comm", "wb") as comm:
        comm.write(_NAME)
    run(socket(fileno=int(sys.argv[1])), sys.argv[2])
