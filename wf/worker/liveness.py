"""What a task says of being watched (`liveness`), and what was heard of its call."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any

import orjson

from wf.authoring.json_data import to_json_data
from wf.errors import MessageError
from wf.protocol import messages

DETAILS_BYTES = 4096  # of a heartbeat: they are part of the instance's state


@dataclass(slots=True, eq=False)
class Liveness:
    """What one task says of it, and what was heard of its call."""

    start_by_ms: int | None = None
    heartbeat_s: float | None = None
    details_before: Any = None  # of the attempt before
    beat_s: float = 0.0  # monotonic: the last heartbeat, or the start
    details: Any = None  # of the last heartbeat, when they can be told
    timer: asyncio.TimerHandle | None = None
    telling: asyncio.Task[None] | None = None

    @classmethod
    def parse(cls, value: Any) -> Liveness | None:
        """`liveness` of a task; None without. Raises MessageError."""
        if value is None:
            return None
        if type(value) is not dict:
            raise MessageError("task: liveness must be an object")
        start_by_ms, heartbeat_ms = value.get("start_by_ms"), value.get("heartbeat_ms")
        for found in (start_by_ms, heartbeat_ms):
            if found is not None and (type(found) is not int or found <= 0):
                raise MessageError(f"task: liveness has the time {found!r}, no positive integer")
        heartbeat_s = None if heartbeat_ms is None else heartbeat_ms / 1000
        return cls(start_by_ms, heartbeat_s, value.get("details"))

    def beat(self, details: Any) -> bool:
        """The activity is alive, in any thread; False when its details cannot be told."""
        self.beat_s = time.monotonic()
        if details is None or self.heartbeat_s is None:
            return True
        try:
            data = messages.encode({"details": to_json_data(details)})
        except Exception:  # noqa: BLE001 - objects of user code; a heartbeat is no reason to fail
            return False
        if len(data) > DETAILS_BYTES:
            return False
        self.details = orjson.loads(data)["details"]  # a copy: the activity may change its own
        return True
