"""A pool of daemon threads for `def` activities: as many as are wanted, or as the host gives.

Unlike concurrent.futures: a thread that never returns does not keep the process from ending, and
the results of many calls reach the event loop with one wake-up.
"""

from __future__ import annotations

import asyncio
import contextvars
import sys
import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from types import FrameType
from typing import Any

Call = Callable[[], Any]
Done = Callable[[Any], None]


RETRY_S = 1.0  # after the host had no thread to give


class Threads:
    """At most `limit` threads, made as they are needed."""

    def __init__(self, loop: asyncio.AbstractEventLoop, name: str, limit: int) -> None:
        self._loop = loop
        self._name = name
        self._limit = limit
        self._calls: SimpleQueue[tuple[Call, Done] | None] = SimpleQueue()
        self._results: deque[tuple[Done, Any]] = deque()
        self._wake_sent = False
        self._threads: list[threading.Thread] = []
        self._open = 0  # calls given and not yet handed back
        self.shortage = ""  # why there are fewer threads than wanted; "": there are enough
        self._again_s = 0.0  # when to ask the host again

    @property
    def lacking(self) -> int:
        """How many of the wanted threads the host did not give."""
        return self._limit - len(self._threads) if self.shortage else 0

    def has_room(self) -> bool:
        """Whether one more call would begin at once; a thread is made for it if need be."""
        if self._open < len(self._threads):
            return True
        return len(self._threads) < self._limit and self._add_thread()

    def submit(self, call: Call, done: Done) -> None:
        """Run `call` (which must not raise) in a thread; `done(result)` then runs on the loop.

        Ask `has_room` before.
        """
        self._open += 1
        self._calls.put((call, done))

    def _add_thread(self) -> bool:
        if self.shortage and self._loop.time() < self._again_s:
            return False
        thread = threading.Thread(
            target=self._serve, name=f"{self._name}-{len(self._threads)}", daemon=True
        )
        try:
            thread.start()
        except (RuntimeError, MemoryError) as error:  # a limit of the host: pids, ulimit, memory
            self.shortage = str(error) or type(error).__name__
            self._again_s = self._loop.time() + RETRY_S
            return False
        self._threads.append(thread)
        self.shortage = ""
        return True

    def close(self) -> None:
        """Let idle threads end. One that runs ends after its call, or with the process."""
        for _ in self._threads:
            self._calls.put(None)

    def _serve(self) -> None:
        while (item := self._calls.get()) is not None:
            call, done = item
            result = contextvars.Context().run(call)
            self._results.append((done, result))
            del item, call, done, result
            if not self._wake_sent:
                self._wake_sent = True
                try:
                    self._loop.call_soon_threadsafe(self._deliver)
                except RuntimeError:
                    return  # the loop is closed: the worker has ended without us

    def _deliver(self) -> None:
        self._wake_sent = False  # first: a result that comes now sends a wake-up of its own
        while self._results:
            done, result = self._results.popleft()
            self._open -= 1
            done(result)


def frame_of(thread_id: int | None) -> FrameType | None:
    """Where the thread is now."""
    return sys._current_frames().get(thread_id) if thread_id is not None else None
