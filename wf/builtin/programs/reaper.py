"""Leads the process of one task; a program of its own, of the standard library alone.

    reaper.py WORKER_PID PROGRAM [ARGUMENT…]

The program gets a process group of its own. However it ends, and when the worker dies or says
SIGTERM, the whole group is killed before the leader ends: first the group, then the program's own
zombie is collected, so that its number cannot have become somebody else's.
"""

from __future__ import annotations

import os
import select
import signal
import sys
from contextlib import suppress

CANNOT = 127  # exit status when the program cannot be executed


class _Told(Exception):
    """SIGTERM."""


def main() -> None:
    worker, command = int(sys.argv[1]), sys.argv[2:]
    signal.signal(signal.SIGTERM, _told)
    worker_fd = os.pidfd_open(worker)
    if os.getppid() != worker:
        os._exit(CANNOT)  # it is dead already
    program = os.fork()
    if program == 0:
        _become(command)
    _own_group(program)
    for fd in (0, 1, 2):
        os.close(fd)  # whoever reads there waits for the program, not for us
    _end_like(_status(program, worker_fd))


def _told(_number: int, _frame: object) -> None:
    raise _Told


def _own_group(pid: int) -> None:
    with suppress(PermissionError, ProcessLookupError):  # it has begun, by its own doing, or ended
        os.setpgid(pid, pid)


def _become(command: list[str]) -> None:
    try:
        _own_group(os.getpid())
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.execv(command[0], command)
    except OSError as error:
        os.write(2, f"{command[0]}: {error.strerror}\n".encode())
    finally:
        os._exit(CANNOT)


def _status(program: int, worker_fd: int) -> int:
    """The wait status of the program, when its group is gone."""
    orphaned = False
    try:
        poll = select.poll()
        poll.register(os.pidfd_open(program), select.POLLIN)
        poll.register(worker_fd, select.POLLIN)
        orphaned = any(fd == worker_fd for fd, _ in poll.poll())
    except _Told:
        pass
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        os.killpg(program, signal.SIGKILL)
    except ProcessLookupError:  # it has not got its group yet: then it is alone
        os.kill(program, signal.SIGKILL)
    status = os.waitpid(program, 0)[1]
    if orphaned:
        import shutil

        shutil.rmtree(os.getcwd(), ignore_errors=True)
    return status


def _end_like(status: int) -> None:
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        os._exit(code)
    if -code != signal.SIGKILL:
        signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
    signal.pause()


if __name__ == "__main__":
    main()
