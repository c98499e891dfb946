"""Activities that workers have announced: each gets its durable consumer, made or updated here.

Workers only write ACTIVITY_CATALOG entries; they never make consumers (docs/design.md §4).
"""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
from loguru import logger

from orchestrator.ingest.bucket_watch import Following
from wf.errors import BrokerRefused, MessageError
from wf.jetstream import topology
from wf.jetstream.port import Port, Stored
from wf.protocol import messages, subjects
from wf.protocol.consumer_claims import claims, differ

ALL = "$KV.ACTIVITY_CATALOG.>"
PREFIX = "$KV.ACTIVITY_CATALOG."
LONGEST_ACK_WAIT_S = 7 * 86_400.0


class Catalog:
    def __init__(self, port: Port) -> None:
        self._port = port
        self.entries = Following(
            port, topology.ACTIVITY_CATALOG, ALL, self._take, forget=self._forget
        )
        self.activities: dict[str, dict[str, Any]] = {}
        self._told: dict[str, str] = {}  # activity → how its workers differ, as it was told

    async def ensure(self) -> list[str]:
        """Each announced activity has its consumer, as it was announced; what was refused."""
        known = list(self.activities.items())
        refused = await asyncio.gather(*(self._ensure(name, entry) for name, entry in known))
        return [problem for problem in refused if problem]

    async def _ensure(self, activity: str, entry: dict[str, Any]) -> str:
        try:
            await self._port.ensure_task_consumer(activity, **_consumer(entry))
        except BrokerRefused as error:
            return f"the activity {activity} has no consumer as its workers want it: {error}"
        return ""

    def _forget(self) -> None:
        self.activities = {}

    async def _take(self, stored: Stored) -> None:
        activity = stored.subject.removeprefix(PREFIX)
        if stored.is_marker:
            self.activities.pop(activity, None)
            return
        subjects.check_name("activity", activity)
        entry = messages.decode(stored.data, stored.subject)
        consumer = _consumer(entry)
        try:
            await self._port.ensure_task_consumer(activity, **consumer)
        except BrokerRefused as error:
            raise MessageError(f"the broker makes no consumer of it: {error}") from error
        self.activities[activity] = entry
        logger.bind(activity=activity, **consumer).info("activity.announced")
        self._tell_differences(activity, entry)

    def _tell_differences(self, activity: str, entry: dict[str, Any]) -> None:
        """Workers of several pools want it otherwise: say so, once per difference."""
        found = claims(entry)
        said = "; ".join(f"{one.owner}: {orjson.dumps(one.consumer).decode()}" for one in found)
        if differ(found) and self._told.get(activity) != said:
            logger.bind(
                activity=activity,
                pools=said,
                consumer=entry["consumer"],
                remedy="give all pools of an activity the same ack_wait, max_deliver and "
                "max_ack_pending; until then the largest of each holds",
            ).warning("activity.pools_differ")
        self._told[activity] = said


def _consumer(entry: dict[str, Any]) -> dict[str, Any]:
    """The consumer settings of an entry. Raises MessageError where they are missing or wrong."""
    consumer = entry.get("consumer")
    if not isinstance(consumer, dict):
        raise MessageError(f'"consumer" must be an object, found {orjson.dumps(consumer).decode()}')
    ack_wait_s, max_deliver = consumer.get("ack_wait_s"), consumer.get("max_deliver")
    max_ack_pending = consumer.get("max_ack_pending")
    longest_s = LONGEST_ACK_WAIT_S
    if not isinstance(ack_wait_s, int | float) or not 0 < ack_wait_s <= longest_s:
        raise MessageError(
            f'"consumer.ack_wait_s" must be seconds above 0, at most {longest_s:.0f}, '
            f"found {ack_wait_s!r}"
        )
    if type(max_deliver) is not int or max_deliver < 2:
        raise MessageError(f'"consumer.max_deliver" must be 2 or more, found {max_deliver!r}')
    if type(max_ack_pending) is not int or max_ack_pending < 1:
        raise MessageError(
            f'"consumer.max_ack_pending" must be 1 or more, found {max_ack_pending!r}'
        )
    return {
        "ack_wait_s": float(ack_wait_s),
        "max_deliver": max_deliver,
        "max_ack_pending": max_ack_pending,
    }
