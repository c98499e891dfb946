"""sd_notify: tell systemd how it goes. Without systemd every call does nothing."""

from __future__ import annotations

import os
import socket
import time

from loguru import logger


class Notifier:
    """The datagram socket named by NOTIFY_SOCKET, taken out of the environment of children."""

    def __init__(self, address: str | None, watchdog_s: float | None = None) -> None:
        self._socket: socket.socket | None = None
        self._status = ""
        self._unsent: dict[str, str] = {}  # the latest message of each kind that was not taken
        self.watchdog_s = watchdog_s  # how often systemd wants to hear of us; None: never
        if address:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._socket.setblocking(False)
            self._connect("\0" + address[1:] if address.startswith("@") else address)

    def _connect(self, address: str) -> None:
        assert self._socket is not None
        try:
            self._socket.connect(address)
        except OSError as error:  # a variable that an older shell left behind, say
            logger.bind(socket=address, error=str(error)).warning("systemd.unreachable")
            self.close()

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
        """What systemd does not take now is kept, one message of each kind, for the next time:
        it must not miss READY, and we must not wait for it."""
        if self._socket is None:
            return
        kind = message.partition("=")[0]
        self._unsent.pop(kind, None)  # it goes to the end: the order of what is new counts
        self._unsent[kind] = message
        self.flush()

    def flush(self) -> None:
        """Send what was not taken before. Call it once in a while."""
        while self._socket is not None and self._unsent:
            kind = next(iter(self._unsent))
            try:
                self._socket.send(self._unsent[kind].encode())
            except OSError:
                return  # systemd restarts or is busy
            del self._unsent[kind]

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
