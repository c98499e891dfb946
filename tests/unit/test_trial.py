"""What kills is found out in a forked child, and kills nothing else."""

from __future__ import annotations

import asyncio
import ctypes
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import uvloop

from orchestrator.ingest import poison_trial
from orchestrator.ingest.poison_trial import Fall, fork
from wf.errors import MessageError


def well() -> None:
    pass


def no_memory() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (1, 1))
    bytearray(1 << 28)


def many_frames() -> None:
    many_frames()


KILLERS: dict[str, tuple[Callable[[], object], str]] = {
    "os._exit": (lambda: os._exit(9), "exit status 9"),
    "os._exit as if all were well": (lambda: os._exit(0), "exit status 0"),
    "SystemExit": (lambda: sys.exit(3), "SystemExit: 3"),
    "an exception": (lambda: {}["x"], "KeyError: 'x'"),
    "a fault in C code": (lambda: ctypes.string_at(0), "SIGSEGV"),
    "abort": (os.abort, "SIGABRT"),
    "SIGKILL": (lambda: os.kill(os.getpid(), signal.SIGKILL), "SIGKILL"),
    "SIGTERM": (lambda: os.kill(os.getpid(), signal.SIGTERM), "SIGTERM"),
    "no memory": (no_memory, "MemoryError"),
    "too many frames": (many_frames, "RecursionError"),
    "a hang": (lambda: time.sleep(3600), "longer than 0.2 s"),
    "a hang that takes time": (lambda: [None for _ in iter(int, 1)], "longer than 0.2 s"),
}


@pytest.mark.parametrize("name", KILLERS)
async def test_a_killer_is_named_and_those_before_it_are_not(name: str) -> None:
    killer, how = KILLERS[name]
    fall = await fork([well, well, killer, well], piece_s=0.2)
    assert fall is not None
    assert fall.number == 2
    assert how in fall.how


async def test_a_message_that_cannot_be_read_kills_nothing() -> None:
    def unreadable() -> None:
        raise MessageError("no JSON")

    assert await fork([unreadable, well]) is None


async def test_work_that_kills_nothing_passes_and_changes_nothing_here(tmp_path: Path) -> None:
    done: list[int] = []
    assert await fork([lambda: done.append(1)] * 3) is None
    assert done == []
    assert await fork([]) is None


def test_it_works_on_the_orchestrators_own_loop_and_leaves_it_alone() -> None:
    """A signal that meets the child must not wake the loop of the parent."""
    told: list[int] = []

    async def main() -> Fall | None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, told.append, 1)
        before = len(os.listdir("/proc/self/fd"))
        fall = await fork([lambda: os.kill(os.getpid(), signal.SIGTERM)])
        await asyncio.sleep(0)
        assert len(os.listdir("/proc/self/fd")) == before
        loop.remove_signal_handler(signal.SIGTERM)
        return fall

    assert uvloop.run(main()) == Fall(0, "SIGTERM")
    assert not told


async def test_a_slow_piece_is_no_hang_while_the_others_go_on() -> None:
    """The limit is of one piece, and not of all of them."""
    assert await fork([lambda: time.sleep(0.15)] * 5, piece_s=0.6) is None


async def test_a_trial_that_is_cancelled_leaves_no_process() -> None:
    task = asyncio.create_task(fork([lambda: time.sleep(3600)]))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not has_children()


def has_children() -> bool:
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return False
    return True


async def test_where_there_can_be_no_process_nothing_is_found_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse() -> int:
        raise BlockingIOError("Resource temporarily unavailable")

    monkeypatch.setattr(poison_trial.os, "fork", refuse)
    assert await fork([lambda: os._exit(1)]) is None


def test_the_child_ends_with_its_parent(tmp_path: Path) -> None:
    """The orchestrator is killed while something is tried."""
    note = tmp_path / "pid"

    def hang() -> None:
        note.write_text(str(os.getpid()))
        time.sleep(3600)

    parent = os.fork()
    if parent == 0:
        try:
            asyncio.run(fork([hang]))
        finally:
            os._exit(0)
    deadline = time.monotonic() + 10
    while not (note.exists() and note.read_text()) and time.monotonic() < deadline:
        time.sleep(0.01)
    pidfd = os.pidfd_open(int(note.read_text()))
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    assert select.select([pidfd], [], [], 10)[0], "the child lives on"
    os.close(pidfd)
