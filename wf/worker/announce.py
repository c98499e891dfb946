"""Announcing activities, waiting until the engine has made their consumers, and staying announced.

Workers never make consumers: the engine does, when the catalogue announces an activity.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping

import orjson
from loguru import logger

from wf.errors import BrokerError, NotFound
from wf.jetstream import topology
from wf.jetstream.port import WRONG_LAST_SEQUENCE, Outgoing, Port, Rejected, Stored
from wf.jetstream.publish_until_stored import refused, store_one
from wf.protocol import subjects
from wf.protocol.consumer_claims import Announcement
from wf.protocol.messages import JsonObject

FIRST_DELAY_S = 0.02
MAX_DELAY_S = 1.0
SAY_EVERY_S = 5.0  # how often a wait is logged, and the entry checked again
LOOK_S = 5.0  # how often an entry is checked while the worker works
RETRY_S = 0.5

Decide = Callable[[JsonObject | None, float], JsonObject | None]


async def announce(port: Port, activity: str, announcement: Announcement) -> None:
    """Put the activity's entry into the catalogue if it differs, and wait for its consumer."""
    loop = asyncio.get_running_loop()
    started_s = said_s = loop.time()
    delay_s = FIRST_DELAY_S
    written = False
    while True:
        try:
            if not written:
                await put(port, activity, announcement.first)
                written = True
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


class Presence:
    """Keeps the entries of a worker's activities in the catalogue, whatever happens to it there."""

    def __init__(self, port: Port, announcements: Mapping[str, Announcement]) -> None:
        self._port = port
        self._announcements = announcements
        self._wanted = asyncio.Event()
        self._problem = ""

    def problems(self) -> list[str]:
        """Why an entry cannot be kept; none while all is well."""
        return [self._problem] if self._problem else []

    async def run(self) -> None:
        """For ever: look every few seconds, and at once after a reconnect."""
        self._port.on_reconnect(self._wanted.set)
        while True:
            try:
                async with asyncio.timeout(LOOK_S * random.uniform(0.75, 1.25)):
                    await self._wanted.wait()
            except TimeoutError:
                self._wanted.clear()
            try:
                for activity, announcement in self._announcements.items():
                    await put(self._port, activity, announcement.next)
            except (BrokerError, NotFound) as error:  # after a loss the bucket comes a bit later
                self._problem = f"its activities cannot be announced: {error}"
                await asyncio.sleep(RETRY_S)
            else:
                self._problem = ""
                self._wanted.clear()


async def put(port: Port, activity: str, decide: Decide) -> bool:
    """Write what `decide` makes of the stored entry and the time; whether it was written.

    Raises BrokerError.
    """
    subject = subjects.catalog(activity)
    loop = asyncio.get_running_loop()
    while True:
        stored = await port.last(topology.ACTIVITY_CATALOG, subject)
        entry = decide(_read(stored), loop.time())
        if entry is None:
            return False
        message = Outgoing(
            subject,
            orjson.dumps(entry, option=orjson.OPT_SORT_KEYS),
            expected=stored.sequence if stored is not None else 0,
        )
        outcome = await store_one(port, topology.ACTIVITY_CATALOG, message)
        if isinstance(outcome, Rejected):
            if outcome.code != WRONG_LAST_SEQUENCE:
                raise refused(topology.ACTIVITY_CATALOG, outcome)
            continue  # a worker beside us was faster: see what it wrote
        logger.bind(activity=activity, owner=entry.get("owner")).info("catalog.announced")
        return True


def _read(stored: Stored | None) -> JsonObject | None:
    """The stored entry; None when there is none, or when it is not one."""
    if stored is None or stored.is_marker:
        return None
    try:
        found = orjson.loads(stored.data)
    except orjson.JSONDecodeError:
        return None
    return found if isinstance(found, dict) else None


async def _ask_for_consumer(port: Port, activity: str) -> None:
    """Raise NotFound unless the engine has made the activity's consumer."""
    name = topology.consumer_name(activity)
    if not await port.has_consumer(topology.ACTIVITY_TASKS, name):
        raise NotFound(f"the consumer {name} is not made yet")
