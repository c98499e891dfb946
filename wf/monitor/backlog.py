"""How much waits for each activity, and for how long: read from the broker every two seconds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Any

from loguru import logger

from wf.errors import BrokerError
from wf.jetstream import topology
from wf.jetstream.client import JetStream
from wf.protocol import subjects

PERIOD_S = 2.0
ANSWER_S = 5.0

Figures = dict[str, Any]


class Backlog:
    """Reads the figures of the activities that `watched` names. `tell` gets each reading, and the
    activities that have no queue; `failed` why there is none."""

    def __init__(
        self,
        js: JetStream,
        watched: Callable[[], Iterable[str]],
        tell: Callable[[dict[str, Figures], list[str]], None],
        failed: Callable[[str], None],
    ) -> None:
        self._js = js
        self._watched = watched
        self._tell = tell
        self._failed = failed
        self._said = ""
        self.latest: dict[str, Figures] = {}  # none when the last reading did not come through

    async def run(self) -> None:
        """For ever. Nothing is told while the broker does not answer: old figures mislead."""
        while True:
            try:
                activities = list(self._watched())
                async with asyncio.timeout(ANSWER_S):
                    self.latest = await self.read(activities)
            except (BrokerError, TimeoutError) as error:
                self._unread(str(error) or f"no answer within {ANSWER_S:g} s")
            else:
                self._said = ""
                self._tell(self.latest, [one for one in activities if one not in self.latest])
            await asyncio.sleep(PERIOD_S)

    async def read(self, activities: list[str]) -> dict[str, Figures]:
        """The figures of each activity that has a consumer."""
        figures = await asyncio.gather(*(self._of(activity) for activity in activities))
        return {name: one for name, one in zip(activities, figures, strict=True) if one is not None}

    async def _of(self, activity: str) -> Figures | None:
        consumer = topology.consumer_name(activity)
        try:
            info = await self._js.api(f"CONSUMER.INFO.{topology.ACTIVITY_TASKS}.{consumer}")
        except BrokerError as error:
            if getattr(error, "code", None) is None:
                raise
            return None  # not made yet
        pending, in_flight = int(info["num_pending"]), int(info["num_ack_pending"])
        waiting_from = int(info["delivered"]["stream_seq"]) + 1
        open_from = int(info["ack_floor"]["stream_seq"]) + 1
        return {
            "pending": pending,
            "in_flight": in_flight,
            "redelivered": int(info["num_redelivered"]),
            "pulls": int(info["num_waiting"]),
            "max_in_flight": int(info["config"]["max_ack_pending"]),
            "oldest_waiting_s": await self._age_s(activity, waiting_from) if pending else 0.0,
            "oldest_open_s": await self._age_s(activity, open_from) if in_flight else 0.0,
        }

    async def _age_s(self, activity: str, from_sequence: int) -> float:
        """How old the activity's first task from this sequence on is; 0.0 without one."""
        found = await self._js.scan(
            topology.ACTIVITY_TASKS, subjects.task(activity), from_sequence=from_sequence, limit=1
        )
        if not found:
            return 0.0
        return max(0.0, round(time.time() - found[0].timestamp_ms / 1000, 3))

    def _unread(self, reason: str) -> None:
        self.latest = {}
        self._failed(reason)
        if reason != self._said:
            self._said = reason
            logger.bind(error=reason).warning("backlog.unreadable")
