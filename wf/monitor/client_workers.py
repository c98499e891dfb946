"""Workers without a supervisor, as they tell of themselves in the bucket POOL_STATUS."""

from __future__ import annotations

import asyncio
from typing import Any

from loguru import logger

from wf.errors import BrokerError, MessageError
from wf.jetstream import topology
from wf.jetstream.port import Port
from wf.protocol import gate, subjects

PERIOD_S = 5.0
SHOWN = 200  # so many at most, by name

Entry = dict[str, Any]


class ClientWorkers:
    """Reads their entries, again and again."""

    def __init__(self, port: Port) -> None:
        self._port = port
        self._said = ""
        self.latest: list[Entry] = []

    @property
    def activities(self) -> list[str]:
        """All that they serve."""
        return sorted({name for one in self.latest for name in one["activities"]})

    async def run(self) -> None:
        """For ever. While the broker does not answer nothing is known: old entries mislead."""
        while True:
            try:
                self.latest = await client_workers(self._port)
            except BrokerError as error:
                self.latest = []
                if str(error) != self._said:
                    self._said = str(error)
                    logger.bind(error=str(error)).warning("client_workers.unreadable")
            else:
                self._said = ""
            await asyncio.sleep(PERIOD_S)


async def client_workers(port: Port) -> list[Entry]:
    """The entries that are not expired, by name; what is none is left out. Raises BrokerError."""
    known = await port.subjects(topology.POOL_STATUS, subjects.worker_status("*"))
    stored = await port.last_many(topology.POOL_STATUS, sorted(known)[:SHOWN])
    found = [read(one.data) for _, one in sorted(stored.items()) if not one.is_marker]
    return [entry for entry in found if entry is not None]


def read(data: bytes) -> Entry | None:
    """An entry (docs/protocol.md), or None for what is not one: anybody may have written it."""
    try:
        entry = gate.decode(data)
        activities = {
            str(name): {key: int(figures[key]) for key in ("running", "concurrency")}
            for name, figures in entry["activities"].items()
            if subjects.is_name(name)
        }
        return {
            "name": str(entry["name"]),
            "host": str(entry["host"]),
            "pid": entry.get("pid"),
            "started_ms": int(entry["started_ms"]),
            "written_ms": int(entry["written_ms"]),
            "activities": activities,
        }
    except (MessageError, KeyError, TypeError, ValueError, AttributeError):
        return None
