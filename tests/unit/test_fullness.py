"""When a broker whose disk was full is started afresh."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

from supervisor.broker.disk_full import APART_S, LOOK_S, SCARCE_BYTES, Fullness
from wf.jetstream.embedded import SPARE_BYTES

PID = 40


class Usage(NamedTuple):
    free: int


class Disk:
    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.free: int | None = SPARE_BYTES * 10
        self.log = folder / "broker.log"
        self.log.write_bytes(b"an old line: no space left on device\n")
        self.watched = Fullness(folder, self.log)
        self._now = 100.0
        monkeypatch.setattr(shutil, "disk_usage", self._usage)

    def _usage(self, path: Path) -> Usage:
        if self.free is None:
            raise OSError("no such disk")
        return Usage(self.free)

    def say(self, line: bytes) -> None:
        with self.log.open("ab") as log:
            log.write(line + b"\n")

    def due(self, *, pid: int = PID, after_s: float = LOOK_S) -> bool:
        self._now += after_s
        return self.watched.restart_due(pid, self._now)


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Disk:
    made = Disk(tmp_path, monkeypatch)
    assert not made.due(), "what an earlier process was refused is past"
    return made


def test_a_broker_with_room_is_left_alone(disk: Disk) -> None:
    disk.say(b"[INF] all well")
    assert not any(disk.due() for _ in range(50))


def test_a_broker_that_was_refused_space_is_restarted_when_there_is_room(disk: Disk) -> None:
    disk.free = 0
    disk.say(b"[ERR] write blk: No space left on device".lower())
    assert not disk.due()
    disk.free = SPARE_BYTES - 1
    assert not disk.due(), "it would not start"
    disk.free = SPARE_BYTES
    assert disk.due()


def test_a_full_disk_counts_even_when_the_log_could_not_say_so(disk: Disk) -> None:
    disk.free = SCARCE_BYTES - 1
    assert not disk.due()
    disk.free = SPARE_BYTES
    assert disk.due()


def test_where_the_disk_cannot_be_asked_its_log_decides(disk: Disk) -> None:
    disk.free = None
    assert not disk.due()
    disk.say(b"disk quota exceeded")
    assert disk.due()


def test_restarts_are_apart_when_something_else_is_lacking(disk: Disk) -> None:
    disk.say(b"no space left on device")
    assert disk.due()
    disk.say(b"no space left on device")
    assert not disk.due()
    assert disk.due(after_s=APART_S)


def test_a_disk_that_is_full_again_is_no_reason_to_wait(disk: Disk) -> None:
    for _ in range(3):
        disk.free = SCARCE_BYTES - 1
        disk.say(b"no space left on device")
        assert not disk.due()
        disk.free = SPARE_BYTES
        assert disk.due()
        assert not disk.due(), "once is enough"


def test_a_new_process_begins_anew(disk: Disk) -> None:
    disk.say(b"no space left on device")
    assert not disk.due(pid=PID + 1)
    assert not disk.due(pid=PID + 1)


def test_a_rotated_log_is_read_from_its_beginning(disk: Disk) -> None:
    disk.log.write_bytes(b"no space left on device\n")
    assert disk.due()


def test_a_log_that_is_gone_says_nothing(disk: Disk) -> None:
    disk.log.unlink()
    assert not disk.due()
