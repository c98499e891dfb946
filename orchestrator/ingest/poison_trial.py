"""Do work in a forked copy of this process first, to see whether it kills.

The child is a copy of the orchestrator as it is, so it dies of what the orchestrator would die of:
a fault in C code, `os._exit`, a hang, the last byte of memory. It does pure work only: no event
loop, no broker, nothing is stored. The kernel ends it when the orchestrator ends.
"""

from __future__ import annotations

import asyncio
import ctypes
import faulthandler
import gc
import mmap
import os
import resource
import signal
import traceback
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import NamedTuple, NoReturn

from loguru import logger

from wf.errors import MessageError

Piece = Callable[[], object]

PIECE_S = 20.0  # of one piece of work; the engine's own watch is more patient, and kills more
TEXT_BYTES = 1500  # the end of a traceback
_RAISED = 70  # exit status
_PR_SET_PDEATHSIG = 1
_HANDLED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2)

_libc = ctypes.CDLL(None, use_errno=True)


class Fall(NamedTuple):
    """What a child died of."""

    number: int  # of the piece
    how: str
    hung: bool = False


Trial = Callable[[Sequence[Piece]], Awaitable[Fall | None]]


async def fork(pieces: Sequence[Piece], piece_s: float = PIECE_S) -> Fall | None:
    """Do the pieces in their order in a child. None: it did them all, or there can be no child.

    A piece that raises, ends the process, or takes longer than `piece_s` is the child's fall; but a
    MessageError is an answer.
    """
    shared = mmap.mmap(-1, mmap.PAGESIZE)
    words = memoryview(shared).cast("Q")
    try:
        try:
            pid, pidfd = _fork(pieces, shared, words)
        except OSError as error:  # too many processes, or too little memory
            logger.bind(error=str(error)).warning("trial.impossible")
            return None
        hung, status = await _end(pid, pidfd, words, piece_s)
        number, length = words[0], words[1]
        if number >= len(pieces):
            return None
        text = bytes(shared[16 : 16 + length]).decode("utf-8", "backslashreplace")
        if hung:
            return Fall(number, f"it took longer than {piece_s:g} s", hung=True)
        return Fall(number, _how(status, text))
    finally:
        words.release()
        shared.close()


def _fork(pieces: Sequence[Piece], shared: mmap.mmap, words: memoryview) -> tuple[int, int]:
    parent = os.getpid()
    # Blocked across the fork: a signal must not meet the child while it still has our handlers.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _HANDLED)
    try:
        pid = os.fork()
        if pid == 0:
            _be_child(pieces, shared, words, parent)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    try:
        return pid, os.pidfd_open(pid)
    except OSError:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise


def _be_child(
    pieces: Sequence[Piece], shared: mmap.mmap, words: memoryview, parent: int
) -> NoReturn:
    try:
        _clean_up(parent)
        for number, piece in enumerate(pieces):
            words[0] = number
            with suppress(MessageError):
                piece()
        words[0] = len(pieces)
    except BaseException:  # noqa: BLE001 — whatever it is, it would have reached the loop
        text = traceback.format_exc().encode("utf-8", "backslashreplace")[-TEXT_BYTES:]
        shared[16 : 16 + len(text)] = text
        words[1] = len(text)
    finally:
        os._exit(_RAISED)


def _clean_up(parent: int) -> None:
    signal.set_wakeup_fd(-1)  # it is the parent's loop that would wake up
    for number in _HANDLED:
        signal.signal(number, signal.SIG_DFL)
    _libc.prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:  # it died before we could ask to be told
        os._exit(_RAISED)
    faulthandler.disable()  # its dump would be taken for one of the parent
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    gc.disable()  # it would copy every page that it walks
    logger.remove()  # the parent says it again
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _HANDLED)


async def _end(pid: int, pidfd: int, words: memoryview, piece_s: float) -> tuple[bool, int]:
    """Whether it hung, and its wait status."""
    hung = True
    try:
        hung = not await _ends(pidfd, words, piece_s)
    finally:
        if hung:  # or this is being cancelled
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        os.close(pidfd)
        status = _collect(pid)
    return hung, status


def _collect(pid: int) -> int:
    """The status of a child that has ended, or is just being killed: this does not take long."""
    return os.waitpid(pid, 0)[1]


async def _ends(pidfd: int, words: memoryview, piece_s: float) -> bool:
    """True when it ends by itself; False when one piece takes too long."""
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(pidfd, ended.set)
    try:
        while True:
            number = words[0]
            try:
                async with asyncio.timeout(piece_s):
                    return await ended.wait()
            except TimeoutError:
                if words[0] == number:
                    return False
    finally:
        loop.remove_reader(pidfd)


def _how(status: int, text: str) -> str:
    if text:
        return text
    code = os.waitstatus_to_exitcode(status)
    return f"exit status {code}" if code >= 0 else signal.Signals(-code).name
