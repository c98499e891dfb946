"""Standard output and standard error that never block: what nobody reads is kept a while, then
dropped and counted.

Whoever reads our log may stand still (a stopped `tee`, a blocked log driver, Ctrl-S on a
terminal). A write would then wait in the kernel, and with it the supervisor or a worker's event
loop.
"""

from __future__ import annotations

import atexit
import io
import os
import sys
import time
from collections.abc import Callable

from wf.process.nonblocking_descriptor import Outlet

LAST_WORDS_S = 0.5  # a process that ends waits this long for the reader


class Stream(io.TextIOWrapper):
    """What sys.stdout and sys.stderr are in a process of ours. Printing never raises."""

    def __init__(self, outlet: Outlet, encoding: str) -> None:
        super().__init__(
            io.BufferedWriter(outlet),
            encoding=encoding,
            errors="backslashreplace",
            line_buffering=True,
        )
        self.outlet = outlet

    def close(self) -> None:
        """It stays open: an activity that closes it must not break the next one's `print`."""
        self.flush()


class _Now:
    """The streams of this process."""

    outlets: tuple[Outlet, ...] = ()


_now = _Now()


def install() -> None:
    """Replace sys.stdout and sys.stderr, for good, in this process and those that it forks; but
    not what a program or a test that calls us has put in their place itself."""
    if _now.outlets:
        return
    _claim_descriptors()
    if sys.stdout is sys.__stdout__:
        sys.stdout = _replaced(1, sys.stdout)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _replaced(2, sys.stderr)
    os.register_at_fork(after_in_child=_after_fork)
    atexit.register(finish)


def _replaced(fd: int, stream: object) -> Stream:
    """`stream` is None where the descriptor was closed."""
    outlet = Outlet(fd)
    _now.outlets = (*_now.outlets, outlet)
    return Stream(outlet, getattr(stream, "encoding", None) or "utf-8")


def allow_threads() -> None:
    """A thread may write what is kept; it lives while there is something. Not in the supervisor,
    which must have one thread when it forks: it calls `flush_held`."""
    for outlet in _now.outlets:
        outlet.threads = True


def keep_apart() -> None:
    """Write to descriptors of our own: whoever closes 1 and then opens a socket would get our
    lines in it."""
    for outlet in _now.outlets:
        outlet.keep_apart()


def tell_dropped(notice: Callable[[int], bytes]) -> None:
    """How dropped lines are told, given their number."""
    for outlet in _now.outlets:
        outlet.notice = notice


def flush_held() -> bool:
    """Write what readers take now of what was kept; whether that was all."""
    written = [outlet.flush_held() for outlet in _now.outlets]
    return all(written)


def finish() -> None:
    """The process ends: wait for slow readers, half a second at most."""
    deadline = time.monotonic() + LAST_WORDS_S
    for outlet in _now.outlets:
        outlet.finish(deadline)


def _claim_descriptors() -> None:
    """Where a standard descriptor is closed, a file or socket would get its number, and our log."""
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free: this one


def _after_fork() -> None:
    for outlet in _now.outlets:
        outlet.after_fork()
