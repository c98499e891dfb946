"""sd_notify while systemd is busy, and where there is none."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from supervisor.sd_notify import Notifier


@pytest.fixture
def systemd(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # an address is short
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind("notify")
        receiver.setblocking(False)
        yield receiver


def taken(receiver: socket.socket) -> list[str]:
    messages = []
    try:
        while True:
            messages.append(receiver.recv(4096).decode())
    except BlockingIOError:
        return messages


def test_what_a_busy_systemd_did_not_take_is_sent_again_in_order(systemd):
    notifier = Notifier("notify")
    for number in range(5000):
        notifier.status(f"line {number}")
        notifier.watchdog()
    notifier.ready()
    notifier.stopping()
    first = taken(systemd)
    assert "READY=1" not in first
    notifier.flush()
    assert taken(systemd) == ["STATUS=line 4999", "WATCHDOG=1", "READY=1", "STOPPING=1"]
    notifier.close()


def test_a_socket_that_is_not_there_is_no_reason_not_to_start(tmp_path: Path):
    notifier = Notifier(str(tmp_path / "none"))
    assert not notifier.is_connected
    notifier.ready()
    notifier.close()
