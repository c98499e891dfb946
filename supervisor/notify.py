"""sd_notify: tell systemd how it goes. Without systemd every call does nothing."""

from __future__ import annotations

import os
import socket
import time


class Notifier:
    """The datagram socket named by NOTIFY_SOCKET, taken out of the environment of children."""

    def __init__(self, address: str | None, watchdog_s: float | None = None) -> None:
        self._socket: socket.socket | None = None
        self._status = ""
        self.watchdog_s = watchdog_s  # how often systemd wants to hear of us; None: never
        if address:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._socket.setblocking(False)
            self._socket.connect("\0" + address[1:] if address.startswith("@") else address)

    @classmethod
    def from_environment(cls) -> Notifier:
        """Children must not speak for us, so the variables are removed."""
        address = os.environ.pop("NOTIFY_SOCKET", None)
        interval = os.environ.pop("WATCHDOG_USEC", None)
        for_pid = os.environ.pop("WATCHDOG_PID", None)
        ours = for_pid is None or for_pid == str(os.getpid())
        return cls(address, int(interval) / 1e6 if interval and ours else None)

    @property
    def is_connected(self) -> bool:
        return self._socket is not None

    def ready(self) -> None:
        self._send("READY=1")

    def reloading(self) -> None:
        """systemd 253 and later pair this with the READY that follows, by its time stamp."""
        now_us = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send(f"RELOADING=1\nMONOTONIC_USEC={now_us}")

    def stopping(self) -> None:
        self._send("STOPPING=1")

    def watchdog(self) -> None:
        self._send("WATCHDOG=1")

    def extend(self, by_s: float) -> None:
        """Starting or stopping takes longer than the unit's timeout, but goes on."""
        self._send(f"EXTEND_TIMEOUT_USEC={int(by_s * 1e6)}")

    def status(self, text: str) -> None:
        """One line for `systemctl status`; sent only when it changed."""
        if text != self._status:
            self._status = text
            self._send(f"STATUS={text}")

    def _send(self, message: str) -> None:
        if self._socket is None:
            return
        try:
            self._socket.send(message.encode())
        except OSError:
            return  # systemd restarts or is busy: the next message says as much as this one

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
