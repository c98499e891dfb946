"""What systemd is told, and when."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pool_directory import PoolDirectory, replace, until


class Systemd:
    """The receiving end of NOTIFY_SOCKET."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.setblocking(False)
        self._messages: list[str] = []

    def messages(self) -> list[str]:
        while True:
            try:
                self._messages.append(self._socket.recv(4096).decode())
            except BlockingIOError:
                return self._messages

    def told(self, start: str) -> list[str]:
        return [message for message in self.messages() if message.startswith(start)]

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def systemd(monkeypatch: pytest.MonkeyPatch) -> Iterator[Systemd]:
    path = Path(f"/tmp/wf-notify-{os.getpid()}.sock")  # short enough for a socket's address
    path.unlink(missing_ok=True)
    monkeypatch.setenv("NOTIFY_SOCKET", str(path))
    monkeypatch.setenv("WATCHDOG_USEC", "300000")
    receiver = Systemd(path)
    yield receiver
    receiver.close()
    path.unlink()


def test_ready_is_said_once_and_only_when_the_minimum_is(
    pool: PoolDirectory, systemd: Systemd
) -> None:
    pool.module("mail")
    pool.behaves("mail", "never-ready")
    pool.configure({"mail": 1})
    pool.start(ready=False, boot_timeout_s=1.0, worker={"first_delay_s": 0.01})
    until(lambda: pool.processes("mail", "starting"), "the worker starts")
    assert not systemd.told("READY")
    assert systemd.told("EXTEND_TIMEOUT_USEC")
    pool.behaves("mail", "work")
    until(lambda: systemd.told("READY"), "it said so")
    assert pool.processes("mail")
    until(lambda: systemd.told("STATUS=running: 1/1 workers ready"), "status says how it goes")


def test_a_failed_pool_does_not_keep_the_service_from_being_ready(
    pool: PoolDirectory, systemd: Systemd
) -> None:
    pool.module("mail", "def mail(:")
    pool.module("pdf")
    pool.configure({"mail": 1, "pdf": 1})
    pool.start()
    assert systemd.told("READY")
    until(lambda: any("failed: mail" in text for text in systemd.told("STATUS")), "status says so")


def test_a_reload_is_announced_with_its_time_and_ended_with_ready(
    pool: PoolDirectory, systemd: Systemd
) -> None:
    pool.module("mail")
    pool.configure({"mail": 1})
    pool.start(watch_interval_s=60.0)
    before_us = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    replace(pool.config, "this is no TOML")
    pool.signal(signal.SIGHUP)
    until(lambda: len(systemd.told("READY")) == 2, "the reload is over")
    [reloading] = systemd.told("RELOADING=1")
    assert int(reloading.partition("MONOTONIC_USEC=")[2]) >= before_us
    assert systemd.messages().index(reloading) < len(systemd.messages()) - 1
    until(lambda: any("reload refused" in text for text in systemd.told("STATUS")), "status says")


def test_the_watchdog_hears_of_us_and_stopping_is_said(
    pool: PoolDirectory, systemd: Systemd
) -> None:
    pool.module("mail")
    pool.configure({"mail": 1})
    pool.start()
    until(lambda: len(systemd.told("WATCHDOG=1")) > 5, "the watchdog was told again and again")
    assert pool.stop() == 0
    assert systemd.told("STOPPING=1")


def test_more_time_is_asked_for_once_for_each_step_and_not_while_nothing_happens(
    pool: PoolDirectory, systemd: Systemd
) -> None:
    pool.module("mail")
    pool.behaves("mail", "endless-drain")
    pool.configure({"mail": 1})
    pool.start()
    before = len(systemd.told("EXTEND_TIMEOUT_USEC"))
    pool.signal(signal.SIGTERM)
    until(lambda: len(systemd.told("WATCHDOG=1")) > 20, "it waits for its grace")
    assert pool.wait() == 0
    asked = [int(told.partition("=")[2]) for told in systemd.told("EXTEND_TIMEOUT_USEC")[before:]]
    grace_us = 5_000_000
    assert 1 <= len(asked) <= 3, "once for the workers, the monitor and the orchestrator"
    assert grace_us <= asked[0] <= grace_us + 11_000_000


def test_children_do_not_inherit_the_notification_socket(
    pool: PoolDirectory, systemd: Systemd
) -> None:
    pool.module("mail", "import os\nfrom wf import activity\n@activity\ndef mail(): ...\n")
    pool.behaves("mail", "grandchild")
    pool.configure({"mail": 1})
    pool.start()
    [event] = until(lambda: pool.events("grandchild"), "a program of the worker runs")
    pid = int(event.split()[0].partition(":")[2])
    environment = until(lambda: Path(f"/proc/{pid}/environ").read_bytes(), "its environment")
    assert b"NOTIFY_SOCKET" not in environment
    assert b"WATCHDOG_USEC" not in environment
