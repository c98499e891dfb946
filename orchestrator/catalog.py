"""Activities that workers have announced: each gets its durable consumer, made or updated here.

Workers only write ACTIVITY_CATALOG entries; they never make consumers (DESIGN §4).
"""

from __future__ import annotations

from typing import Any

import orjson
from loguru import logger

from orchestrator.following import Following
from wf import messages, subjects
from wf.errors import BrokerRefused, MessageError
from wf.jetstream import topology
from wf.jetstream.port import Port, Stored

ALL = "$KV.ACTIVITY_CATALOG.>"
PREFIX = "$KV.ACTIVITY_CATALOG."
LONGEST_ACK_WAIT_S = 7 * 86_400.0


class Catalog:
    def __init__(self, port: Port) -> None:
        self._port = port
        self.entries = Following(port, topology.ACTIVITY_CATALOG, ALL, self._take)
        self.activities: dict[str, dict[str, Any]] = {}

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
    if not isinstance(max_deliver, int) or max_deliver < 2:
        raise MessageError(f'"consumer.max_deliver" must be 2 or more, found {max_deliver!r}')
    if not isinstance(max_ack_pending, int) or max_ack_pending < 1:
        raise MessageError(
            f'"consumer.max_ack_pending" must be 1 or more, found {max_ack_pending!r}'
        )
    return {
        "ack_wait_s": float(ack_wait_s),
        "max_deliver": max_deliver,
        "max_ack_pending": max_ack_pending,
    }
