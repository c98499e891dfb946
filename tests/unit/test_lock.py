"""Locks that name their holder, and end with it."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from supervisor import lock
from supervisor.broker import store_lock
from supervisor.lock import FileLock, Held, NoLocks
from tests.support.waiting import eventually_sync
from wf.errors import BrokerError, ConfigError
from wf.settings import Settings, load

HOLDER = """
import pathlib, signal, subprocess, sys
from supervisor.lock import FileLock
held = FileLock(pathlib.Path(sys.argv[1]), {})
broker = subprocess.Popen(["sleep", "60"], pass_fds=[held.fd], stdout=subprocess.DEVNULL)
print(broker.pid, flush=True)
signal.pause()
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "state").mkdir()
    (tmp_path / "store").mkdir()
    overrides = {
        "supervisor.state_dir": tmp_path / "state",
        "supervisor.name": "orders",
        "nats.store_dir": tmp_path / "store",
    }
    return load(None, overrides, {})


def is_free(path: Path) -> bool:
    try:
        FileLock(path, {}).release()
    except Held:
        return False
    return True


def test_a_second_one_learns_who_holds_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    held = FileLock(path, {"pool": "orders"})
    held.tell(broker_pid=7)
    with pytest.raises(Held) as raised:
        FileLock(path, {"pool": "copy"})
    assert raised.value.facts == {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "pool": "orders",
        "broker_pid": 7,
    }
    held.release()
    assert is_free(path)


def test_it_is_let_go_when_the_last_that_inherited_it_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    supervisor = subprocess.Popen([sys.executable, "-c", HOLDER, path], stdout=subprocess.PIPE)
    with supervisor:
        assert supervisor.stdout is not None
        broker_pid = int(supervisor.stdout.readline())
        supervisor.kill()
    assert not is_free(path)
    os.kill(broker_pid, signal.SIGKILL)
    eventually_sync(lambda: is_free(path), what="the lock is free")


def test_a_file_that_was_replaced_meanwhile_is_not_what_is_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "lock"
    real = fcntl.flock

    def replaced_first(fd: int, how: int) -> None:
        monkeypatch.setattr(fcntl, "flock", real)
        path.unlink()
        real(fd, how)

    monkeypatch.setattr(fcntl, "flock", replaced_first)
    held = FileLock(path, {})
    assert os.fstat(held.fd).st_ino == path.stat().st_ino
    held.release()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_locks(
    number: int, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(fd: int, how: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(lock.fcntl, "flock", none)
    with pytest.raises(NoLocks):
        FileLock(settings.nats.store_dir / "lock", {})
    assert store_lock.lock_store(settings) is None  # told in the log
    with pytest.raises(ConfigError, match="without locks"):
        lock.lock_state(settings.supervisor.state_dir, "orders", Path("pool.toml"))


@pytest.mark.parametrize(
    "content", [b"", b"17\n", b"[1]", b"{", b"\xff\xfe", b"\0" * 100, b'{"pid": {"a": 1}}']
)
def test_a_holder_whose_words_cannot_be_read_is_a_holder(
    settings: Settings, content: bytes
) -> None:
    path = settings.nats.store_dir / store_lock.NAME
    path.write_bytes(content)
    with path.open("rb") as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)
        with pytest.raises(BrokerError, match=r"store_dir: .* is used by pool 'unknown'"):
            store_lock.lock_store(settings)


def test_a_full_disk_takes_the_lock_without_its_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(fd: int, data: bytes, offset: int) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    FileLock(tmp_path / "lock", {}).release()
