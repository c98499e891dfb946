"""Announcing activities, and waiting until the engine has made their consumers.

Workers never make consumers: the engine does, when the catalogue announces an activity.
"""

from __future__ import annotations

import asyncio
import random

import orjson
from loguru import logger

from wf import subjects
from wf.errors import BrokerError, NotFound
from wf.jetstream import topology
from wf.jetstream.port import WRONG_LAST_SEQUENCE, Outgoing, Port, Rejected
from wf.messages import JsonObject
from wf.storing import refused, store_one

FIRST_DELAY_S = 0.02
MAX_DELAY_S = 1.0
SAY_EVERY_S = 5.0  # how often a wait is logged, and the entry checked again


async def announce(port: Port, activity: str, entry: JsonObject) -> None:
    """Put the activity's entry into the catalogue if it differs, and wait for its consumer."""
    loop = asyncio.get_running_loop()
    started_s = said_s = loop.time()
    delay_s = FIRST_DELAY_S
    written = False
    while True:
        try:
            written = written or await _is_put(port, activity, entry)
            await _ask_for_consumer(port, activity)
        except (BrokerError, NotFound) as error:  # the catalogue itself may not be made yet
            reason = str(error)
        else:
            return
        await asyncio.sleep(delay_s * random.uniform(0.5, 1.0))
        delay_s = min(delay_s * 1.5, MAX_DELAY_S)
        now_s = loop.time()
        if now_s - said_s >= SAY_EVERY_S:
            said_s = now_s
            written = False  # put it again if somebody removed it
            logger.bind(
                activity=activity,
                waited_s=round(now_s - started_s, 1),
                reason=reason,
                remedy="is an orchestrator running?",
            ).warning("worker.waits_for_engine")


async def _is_put(port: Port, activity: str, entry: JsonObject) -> bool:
    await put(port, activity, entry)
    return True


async def put(port: Port, activity: str, entry: JsonObject) -> bool:
    """Write the entry unless it is there already; whether it was written. Raises BrokerError."""
    subject = subjects.catalog(activity)
    data = orjson.dumps(entry, option=orjson.OPT_SORT_KEYS)
    while True:
        stored = await port.last(topology.ACTIVITY_CATALOG, subject)
        if stored is not None and stored.data == data:
            return False
        expected = stored.sequence if stored is not None else 0
        outcome = await store_one(
            port, topology.ACTIVITY_CATALOG, Outgoing(subject, data, expected=expected)
        )
        if isinstance(outcome, Rejected):
            if outcome.code != WRONG_LAST_SEQUENCE:
                raise refused(topology.ACTIVITY_CATALOG, outcome)
            continue  # a worker beside us was faster: see what it wrote
        logger.bind(activity=activity, owner=entry.get("owner")).info("catalog.announced")
        return True


async def _ask_for_consumer(port: Port, activity: str) -> None:
    """Raise BrokerError unless the engine has made the activity's consumer."""
    await port.ack_floor(topology.ACTIVITY_TASKS, topology.consumer_name(activity))
