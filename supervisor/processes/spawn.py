"""Fork one child and clean it up before it runs anything else.

The supervisor has one thread, so the child's memory is a consistent copy. What it must not keep:
the parent's wakeup fd and signal handlers (a signal meant for the child would reach the parent),
its file descriptors, its process group, its standard input.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import signal
import socket
import sys
import traceback
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NoReturn

from loguru import logger

from wf.process import standard_streams

_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36
_EXIT_UNCAUGHT = 70  # EX_SOFTWARE: the entry point raised
_HANDLED = tuple(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})

_libc = ctypes.CDLL(None, use_errno=True)


class TooManyThreads(RuntimeError):
    """The supervisor has more than one OS thread; a fork would copy locks that nobody releases."""


@dataclass(frozen=True, slots=True)
class Spawned:
    """A child as its parent sees it."""

    pid: int
    pidfd: int
    report_fd: int | None  # our end of its report pipe, non-blocking
    slot_fd: int | None = None  # its slot (wf/process/status_page.py)


def become_subreaper() -> None:
    """Adopt the orphans of our children, so that none escapes to init."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def name_process(name: str) -> None:
    """What `ps` and `top` call this process; the kernel keeps 15 bytes of it."""
    _libc.prctl(_PR_SET_NAME, ctypes.c_char_p(name.encode()), 0, 0, 0)


def assert_single_threaded() -> None:
    """Raise TooManyThreads unless this process has exactly one OS thread."""
    count = len(os.listdir("/proc/self/task"))
    if count != 1:
        raise TooManyThreads(f"{count} threads in the supervisor: it must not fork now")


def spawn(
    run: Callable[[int], int], *, slot_fd: int | None = None, two_way: bool = False
) -> Spawned:
    """Fork a child that calls `run(report_fd)` and exits with what it returns.

    It keeps `slot_fd` besides, and reads from its report descriptor as well when `two_way`.
    """
    ours, theirs = _channel(two_way)
    keep = (theirs,) if slot_fd is None else (theirs, slot_fd)
    try:
        pid, pidfd = _fork(lambda: run(theirs), keep=keep)
    except BaseException:
        os.close(ours)
        raise
    finally:
        os.close(theirs)
    return Spawned(pid, pidfd, ours, slot_fd)


def _channel(two_way: bool) -> tuple[int, int]:
    """The parent's and the child's end, non-blocking and close-on-exec."""
    if not two_way:
        return os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    ours.setblocking(False)
    theirs.setblocking(False)
    return ours.detach(), theirs.detach()


def spawn_program(
    argv: Sequence[str], defaults: Mapping[str, str], keep: Sequence[int] = ()
) -> Spawned:
    """Fork a child that executes `argv`; it too is told when the supervisor dies. `defaults` are
    for what its environment does not set; the program keeps the descriptors `keep`."""

    def execute() -> NoReturn:
        for fd in keep:
            os.set_inheritable(fd, True)
        os.execve(argv[0], list(argv), {**defaults, **os.environ})

    pid, pidfd = _fork(execute, keep=keep)
    return Spawned(pid, pidfd, None)


def spawn_guard(run: Callable[[], int], keep: int) -> int:
    """Fork the one child that is to outlive us; its pid. It keeps the descriptor `keep`."""
    pid, pidfd = _fork(run, (keep,), dies_with_us=False)
    os.close(pidfd)
    return pid


def _fork(
    run: Callable[[], int], keep: Iterable[int], dies_with_us: bool = True
) -> tuple[int, int]:
    assert_single_threaded()
    supervisor_pid = os.getpid()
    _flush()
    # Blocked across the fork: a signal must not meet the child while it still has our handlers.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _HANDLED)
    try:
        pid = os.fork()
        if pid == 0:
            _be_child(run, supervisor_pid if dies_with_us else None, keep)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    try:
        return pid, os.pidfd_open(pid)
    except OSError:  # no descriptor left: a child that we cannot watch must not run unseen
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise


def _be_child(run: Callable[[], int], supervisor_pid: int | None, keep: Iterable[int]) -> NoReturn:
    status = _EXIT_UNCAUGHT
    try:
        _clean_up(supervisor_pid, keep)
        status = run()
    except SystemExit as exit_:
        status = exit_.code if isinstance(exit_.code, int) else _EXIT_UNCAUGHT
    except BaseException:  # noqa: BLE001 - the last frame of the process: report, then end it
        error = traceback.format_exc()
        logger.bind(error=error).critical("process.uncaught")
    finally:
        _leave(status)


def _clean_up(supervisor_pid: int | None, keep: Iterable[int]) -> None:
    signal.set_wakeup_fd(-1)
    for number in _HANDLED:
        if signal.getsignal(number) not in (signal.SIG_DFL, None):
            signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # writing to a closed pipe is an error, not death
    os.setpgid(0, 0)
    if supervisor_pid is not None:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != supervisor_pid:  # it died before we could ask to be told
            os._exit(0)
    _close_descriptors(keep)
    _stdin_from_null()
    _forget_exit_handlers()
    # Last: from here on a signal ends us, or reaches the handlers that the entry point installs.
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _close_descriptors(keep: Iterable[int]) -> None:
    begin = 3
    for fd in sorted(keep):
        os.closerange(begin, fd)
        begin = fd + 1
    os.closerange(begin, os.sysconf("SC_OPEN_MAX"))


def _stdin_from_null() -> None:
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    if null != 0:
        os.close(null)


def _leave(status: int) -> NoReturn:
    # Not sys.exit: the parent's finally blocks are not ours to run; its handlers are forgotten.
    try:
        atexit._run_exitfuncs()
        _flush()
        standard_streams.finish()
    finally:
        os._exit(status)


def _flush() -> None:
    """A reader that is gone, or a stream that was closed, is no reason to fail."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()


def _forget_exit_handlers() -> None:
    """What the parent registered to run at its end is not ours; what we register from now on is.

    Private names, held by tests/process/test_hooks.py: there is no other way to tell them apart.
    """
    atexit._clear()
    weakref.finalize._registry.clear()  # type: ignore[attr-defined]
    weakref.finalize._registered_with_atexit = False  # type: ignore[attr-defined]
    pools = sys.modules.get("multiprocessing.util")
    if pools is not None:
        atexit.register(pools._exit_function)


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
