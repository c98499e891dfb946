"""A descriptor that is written to without ever waiting.

O_NONBLOCK on an inherited descriptor is no remedy: it belongs to the open file description, which
the shell and other programs share. So a pipe or a terminal is opened once more for ourselves, a
socket is sent to without waiting, and where neither is allowed the kernel is asked first.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import select
import socket
import stat
import threading
import time
from collections import deque
from collections.abc import Callable

HELD_BYTES = 1024 * 1024  # kept for a reader that is slow; lines that come then are dropped
OWN_DESCRIPTORS = 64  # from this number on
_STILL_FULL_S = 1.0

Send = Callable[[memoryview], int]  # how many bytes were taken; BlockingIOError: none, for now


class Outlet(io.RawIOBase):
    """One descriptor that is written to without ever waiting, from any thread."""

    def __init__(self, fd: int) -> None:
        super().__init__()
        self._fd = fd
        self.notice: Callable[[int], bytes] = _notice  # the line that tells of dropped lines
        self.threads = False  # whether a thread may write what is kept
        self._forget()

    def _forget(self) -> None:
        """Begin anew: after a fork, what was kept is the parent's to write."""
        self._lock = threading.RLock()
        self._queue: deque[tuple[memoryview, int]] = deque()  # with the lines that each stands for
        self._held_bytes = 0
        self._dropped = 0  # lines
        self._torn = False  # the last line was taken in part only
        self._busy = False
        self._send: Send | None = None
        self._close_own: Callable[[], None] | None = None
        self._helper: threading.Thread | None = None

    # As a raw stream

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._fd

    def isatty(self) -> bool:
        try:
            return os.isatty(self._fd)
        except OSError:
            return False

    def close(self) -> None:
        """The descriptor itself is not ours to close."""
        self._give_way_up()
        super().close()

    def write(self, data: object) -> int:
        content = bytes(data)  # type: ignore[call-overload]  # any buffer
        self.put(content)
        return len(content)

    def keep_apart(self) -> None:
        """Take a descriptor of our own, out of the way of those who close the first few."""
        with contextlib.suppress(OSError):  # none left: the standard one will do
            self._fd = fcntl.fcntl(self._fd, fcntl.F_DUPFD_CLOEXEC, OWN_DESCRIPTORS)

    # What goes out

    def put(self, data: bytes) -> None:
        """Write `data`, keep it for later, or drop it. Never raises, never waits."""
        with self._lock:
            if self._held_bytes >= HELD_BYTES:
                self._dropped += _lines(data)
            else:
                if self._dropped:
                    self._tell()
                self._keep(data, _lines(data))
            self._drain()
            if self._queue and self.threads and self._helper is None:
                self._start_helper()

    def flush_held(self) -> bool:
        """Write what is taken now of what is kept; whether that was all."""
        with self._lock:
            self._drain()
            return not self._queue

    def finish(self, deadline: float) -> None:
        """Wait for the reader until `deadline` (monotonic seconds) at most."""
        while not self.flush_held() and (left_s := deadline - time.monotonic()) > 0:
            self._await_room(left_s)

    def _keep(self, data: bytes, lines: int) -> None:
        self._queue.append((memoryview(data), lines))
        self._held_bytes += len(data)

    def _tell(self) -> None:
        dropped, self._dropped = self._dropped, 0
        self._keep((b"\n" if self._torn else b"") + self.notice(dropped), dropped)
        self._torn = False

    def _drain(self) -> None:
        if self._busy:
            return  # a signal handler that prints, in the middle of this: the loop below takes it
        self._busy = True
        try:
            while self._queue:
                self._write_first()
                if not self._queue and self._dropped:
                    self._tell()
        except BlockingIOError:
            return
        except OSError:  # the reader is gone, the disk is full, the descriptor was closed
            self._dropped += sum(lines for _, lines in self._queue)
            self._queue.clear()
            self._held_bytes = 0
            self._give_way_up()  # another reader may come, by another way
        finally:
            self._busy = False

    def _write_first(self) -> None:
        view, lines = self._queue[0]
        if self._send is None:
            self._send = self._find_way()
        taken = self._send(view)
        self._held_bytes -= taken
        self._torn = taken < len(view)
        if self._torn:
            self._queue[0] = view[taken:], lines
        else:
            self._queue.popleft()

    # How it goes out

    def _find_way(self) -> Send:
        mode = os.fstat(self._fd).st_mode
        if stat.S_ISSOCK(mode):  # the journal of systemd
            own = socket.socket(fileno=os.dup(self._fd))
            self._close_own = own.close
            return lambda view: own.send(view, socket.MSG_DONTWAIT)
        if not stat.S_ISFIFO(mode) and not self.isatty():
            return lambda view: os.write(self._fd, view)
        fd = self._open_anew()
        if fd is None:
            return self._send_if_there_is_room
        self._close_own = lambda: os.close(fd)
        return lambda view: os.write(fd, view)

    def _open_anew(self) -> int | None:
        """None where another user made it, as programs do that run services as root."""
        paths = [f"/proc/self/fd/{self._fd}"]
        with contextlib.suppress(OSError):
            os.tcgetpgrp(self._fd)  # an error unless it is our controlling terminal
            paths.append("/dev/tty")  # then this is the same one, and everybody may open it
        for path in paths:
            with contextlib.suppress(OSError):
                return os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        return None

    def _send_if_there_is_room(self, view: memoryview) -> int:
        try:
            return os.pwritev(self._fd, [view], -1, os.RWF_NOWAIT)
        except BlockingIOError:
            raise
        except OSError:  # a terminal, a named pipe, a kernel before 6.4
            if not self._await_room(0.0):
                raise BlockingIOError from None
            # poll means room for this much: of a terminal it says no more than that there is some
            return os.write(self._fd, view[: 1 if self.isatty() else select.PIPE_BUF])

    def _await_room(self, timeout_s: float) -> bool:
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        return bool(poll.poll(timeout_s * 1000))

    # Who writes the rest

    def _start_helper(self) -> None:
        self._helper = threading.Thread(target=self._help, name="wf log", daemon=True)
        try:
            self._helper.start()
        except RuntimeError:  # no more threads: the next line tries again
            self._helper = None

    def _help(self) -> None:
        while True:
            self._await_room(_STILL_FULL_S)
            with self._lock:
                self._drain()
                if not self._queue:
                    self._helper = None
                    return

    def _give_way_up(self) -> None:
        self._send = None
        close, self._close_own = self._close_own, None
        if close is not None:
            with contextlib.suppress(OSError):
                close()

    def after_fork(self) -> None:
        """In the child."""
        self._give_way_up()
        self._forget()


def _lines(data: bytes) -> int:
    return max(1, data.count(b"\n"))


def _notice(lines: int) -> bytes:
    return f"{lines} lines were dropped: nobody read them\n".encode()
