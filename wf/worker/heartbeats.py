"""Calls that the definition wants to be told of: `scheduleToStart` and `heartbeat`.

Such a call runs only after the engine was told so. With `heartbeat` this watches that the activity
itself calls `Context.heartbeat` often enough, and tells the engine three times in that time that
the worker is alive, with the details that are the latest.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from loguru import logger

from wf.errors import BrokerError
from wf.jetstream import topology
from wf.jetstream.port import Accepted, Outgoing, Port
from wf.jetstream.publish_until_stored import store_one
from wf.protocol import messages
from wf.protocol.messages import JsonObject
from wf.worker.activity_queue import Lane
from wf.worker.task import Held

SIGNS_IN_TIME = 3  # how often the engine hears of a call within its `heartbeat`
_TRY_S = 1.0
_RETRY_S = 0.1


class Watcher:
    """Tells the engine of one lane's calls. `stalled` gets a call without heartbeats, once."""

    def __init__(self, lane: Lane, port: Port, stalled: Callable[[Held], None]) -> None:
        self._lane = lane
        self._port = port
        self._stalled = stalled
        self._loop = asyncio.get_running_loop()

    def begin_in_thread(self, held: Held) -> Outgoing | None:
        """`begin`, for the thread that is to run the call."""
        return asyncio.run_coroutine_threadsafe(self.begin(held), self._loop).result()

    async def begin(self, held: Held) -> Outgoing | None:
        """Tell the engine that the call begins now; or why it must not: the engine decides then."""
        liveness, results = held.liveness, self._lane.results
        assert liveness is not None
        if self._is_late(held, 0):
            return self._refuse(held, messages.EXPIRED)
        if liveness.heartbeat_s is not None and held.delivery.delivered > 1:
            # The engine may have given this attempt up, and have another one at work.
            return self._refuse(held, messages.REDELIVERED)
        started = results.sign(held, messages.STARTED, retry=results.retry)
        while held.stop is None:
            stored = await self._store(started, held)
            if self._is_late(held, messages.START_GRACE_MS):
                return self._refuse(held, messages.EXPIRED)
            if stored:
                break
            await asyncio.sleep(_RETRY_S)
        if held.stop is not None:  # its end is reported already: this is not sent
            return results.sign(held, messages.EXPIRED)
        if liveness.heartbeat_s is not None:
            liveness.beat_s = time.monotonic()
            self._next(held, liveness.heartbeat_s / SIGNS_IN_TIME)
        return None

    def ended(self, held: Held) -> None:
        """The call has ended, or is given up."""
        liveness = held.liveness
        if liveness is not None and liveness.timer is not None:
            liveness.timer.cancel()
            liveness.timer = None

    def _is_late(self, held: Held, grace_ms: int) -> bool:
        assert held.liveness is not None
        start_by_ms = held.liveness.start_by_ms
        return start_by_ms is not None and time.time() * 1000 > start_by_ms + grace_ms

    def _refuse(self, held: Held, outcome: str) -> Outgoing:
        held.failed = True
        log = logger.bind(
            instance=held.instance,
            run=held.run,
            attempt=held.attempt,
            activity=self._lane.name,
            deliveries=held.delivery.delivered,
        )
        if outcome == messages.EXPIRED:
            log.warning("task.expired")
        else:
            log.warning("task.redelivered")
        return self._lane.results.sign(held, outcome)

    def _next(self, held: Held, delay_s: float) -> None:
        assert held.liveness is not None
        held.liveness.timer = self._loop.call_later(max(delay_s, 0.001), self._look, held)

    def _look(self, held: Held) -> None:
        """Is the activity alive? Then say so."""
        liveness = held.liveness
        assert liveness is not None
        assert liveness.heartbeat_s is not None
        liveness.timer = None
        if held.stop is not None or held.settled:
            return
        left_s = liveness.beat_s + liveness.heartbeat_s - time.monotonic()
        if left_s <= 0:
            self._stalled(held)
            return
        if liveness.telling is None or liveness.telling.done():
            more: JsonObject = {}
            if liveness.details is not None:
                more["details"] = liveness.details
            sign = self._lane.results.sign(held, messages.HEARTBEAT, **more)
            liveness.telling = self._loop.create_task(self._tell(sign, held))
        self._next(held, min(left_s, liveness.heartbeat_s / SIGNS_IN_TIME))

    async def _tell(self, sign: Outgoing, held: Held) -> None:
        await self._store(sign, held)  # else the next one will do

    async def _store(self, sign: Outgoing, held: Held) -> bool:
        try:
            outcome = await store_one(self._port, topology.WORKFLOW_EVENTS, sign, budget_s=_TRY_S)
            reason = None if isinstance(outcome, Accepted) else outcome.description
        except BrokerError as error:
            reason = str(error)
        if reason is not None:
            logger.bind(
                instance=held.instance,
                run=held.run,
                attempt=held.attempt,
                activity=self._lane.name,
                reason=reason,
            ).warning("task.sign_not_stored")
        return reason is None
