"""The selector that everything waits in: pidfds, report pipes, sockets and the signal pipe."""

from __future__ import annotations

import os
import selectors
import signal
from collections.abc import Callable, Iterable

Callback = Callable[[], None]


class Loop:
    """File descriptors and what to call when they have something to say. One thread only."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()  # epoll, close-on-exec

    def watch(self, fd: int, callback: Callback) -> None:
        """Call `callback` whenever `fd` is readable."""
        self._selector.register(fd, selectors.EVENT_READ, callback)

    def watch_writing(self, fd: int, callback: Callback) -> None:
        """Call `callback` whenever `fd` can take more."""
        self._selector.register(fd, selectors.EVENT_WRITE, callback)

    def forget(self, fd: int) -> None:
        """Stop watching `fd`. Before closing it."""
        self._selector.unregister(fd)

    def wait(self, timeout_s: float) -> None:
        """Sleep until something happens or `timeout_s` is over; call what was waiting for it."""
        for key, _ in self._selector.select(max(0.0, timeout_s)):
            if self._selector.get_map().get(key.fd) is key:  # not forgotten by a call before it
                key.data()

    def close(self) -> None:
        self._selector.close()


class SignalPipe:
    """Signals as bytes in a pipe, so that they are handled between two waits, never within one."""

    def __init__(self, numbers: Iterable[signal.Signals]) -> None:
        self.fd, self._writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._previous_fd = signal.set_wakeup_fd(self._writing, warn_on_full_buffer=False)
        self._previous = {number: signal.signal(number, _ignore) for number in numbers}

    def take(self) -> list[signal.Signals]:
        """The signals that came since the last call, in order."""
        try:
            data = os.read(self.fd, 4096)
        except BlockingIOError:
            return []
        return [signal.Signals(number) for number in data]

    def close(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._previous_fd)
        os.close(self.fd)
        os.close(self._writing)


def _ignore(number: int, frame: object) -> None:
    """A Python handler must exist for the wakeup fd to be written; the pipe does the rest."""
