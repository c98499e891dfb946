"""What this host's pool looks like, for every host: one key of the bucket POOL_STATUS.

The key is `<host>.<name of the supervisor>`. Entries last a minute; one that is not renewed is of a
host that is gone, or of one that lost the broker.
"""

from __future__ import annotations

import asyncio
import re
import socket
import time
from typing import Any

import orjson
from loguru import logger

from wf.errors import BrokerError, MessageError
from wf.jetstream import paging, topology
from wf.jetstream.port import Accepted, Outgoing, Port
from wf.monitor.backlog import Backlog
from wf.protocol import gate, subjects

PERIOD_S = 5.0
VERSION = 1


def key(host: str, name: str) -> str:
    """The entry's key in the bucket: `<host>.<supervisor>`, one token each."""
    return f"{re.sub('[^A-Za-z0-9_-]', '-', host) or 'host'}.{name}"


class Status:
    """Keeps this host's entry up to date; `document` is what the supervisor said last."""

    def __init__(self, port: Port, name: str, backlog: Backlog) -> None:
        self._port = port
        self._subject = f"$KV.{topology.POOL_STATUS_BUCKET}.{key(socket.gethostname(), name)}"
        self._backlog = backlog
        self._failed = False
        self.document: dict[str, Any] = {}

    async def run(self) -> None:
        """For ever."""
        while True:
            if self.document:
                await self._write()
            await asyncio.sleep(PERIOD_S)

    async def _write(self) -> None:
        entry = {
            "v": VERSION,
            "host": socket.gethostname(),
            "written_ms": time.time_ns() // 1_000_000,
            **self.document,
            "backlog": self._backlog.latest,
        }
        message = Outgoing(self._subject, orjson.dumps(entry))
        try:
            (outcome,) = await self._port.publish(topology.POOL_STATUS, [message])
        except BrokerError as error:
            self._not_written(str(error))
            return
        if isinstance(outcome, Accepted):
            self._failed = False
        else:
            self._not_written(str(outcome))

    def _not_written(self, reason: str) -> None:
        if not self._failed:
            self._failed = True
            logger.bind(reason=reason).warning("status.not_written")


async def of_all_hosts(port: Port) -> list[dict[str, Any]]:
    """Every host's entry that is not expired, by key; of what cannot be read, its `key` and why it
    is `unreadable`. Raises BrokerError."""
    prefix = f"$KV.{topology.POOL_STATUS_BUCKET}."
    named = await port.subjects(topology.POOL_STATUS, f"{prefix}>")
    known = [name for name in named if not name.startswith(subjects.worker_status(""))]
    found: dict[str, dict[str, Any]] = {}
    async for page in paging.last_pages(port, topology.POOL_STATUS, known):
        for subject, one in page.items():
            if not one.is_marker:
                found[subject] = _entry(subject.removeprefix(prefix), one.data)
    return [found[subject] for subject in sorted(found)]


def _entry(key: str, data: bytes) -> dict[str, Any]:
    try:
        entry = gate.decode(data, "entry")
    except MessageError as error:
        return {"key": key, "unreadable": gate.text(error, 200)}
    if not isinstance(entry, dict):
        return {"key": key, "unreadable": "it is no object"}
    return entry
