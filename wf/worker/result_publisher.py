"""Storing results, and only then acknowledging their tasks.

Natural batching: what is ready is sent at once, and what becomes ready while the broker is busy
with it makes the next batch. A batch costs about 2 ms however small, so a few results go as
pipelined single publishes.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from loguru import logger

from wf.errors import BrokerError
from wf.jetstream import topology
from wf.jetstream.port import (
    Accepted,
    Outcome,
    Outgoing,
    Port,
    Rejected,
    Unknown,
    total_bytes,
)
from wf.worker.activity_queue import Lane
from wf.worker.task import Held

BATCH_FROM = 32  # fewer than this go as singles
BATCH_LIMIT = 500  # messages of one batch
BATCH_BYTES = 6 * 1024 * 1024
OPEN_BATCHES = 3  # of one worker, at most
ALL_OPEN_BATCHES = 32  # of all workers of a host; the server allows 50 per stream
OPEN_SINGLES = 64
FIRST_DELAY_S = 0.05
MAX_DELAY_S = 5.0
TOO_LARGE = 10054  # the stream's own limit on a message's size


@dataclass(slots=True, eq=False)
class Ready:
    """A result that waits to be stored."""

    lane: Lane
    held: Held
    outgoing: Outgoing
    refusals: int = 0  # failed sends so far; after one, it goes as a single


def share_of_batches(workers: int) -> int:
    """How many batches each of `workers` may have open."""
    return max(1, min(OPEN_BATCHES, ALL_OPEN_BATCHES // max(1, workers)))


def plan(
    ready: int, open_batches: int, open_singles: int, batches: int = OPEN_BATCHES
) -> tuple[bool, int]:
    """(as a batch?, how many) to send now of `ready` results; (…, 0): wait for an answer.

    `batches`: how many may be open.
    """
    if ready >= BATCH_FROM:
        return (True, min(ready, BATCH_LIMIT)) if open_batches < batches else (True, 0)
    if open_batches:
        return (False, 0)  # they gather for the next batch while this one is stored
    return (False, min(ready, max(0, OPEN_SINGLES - open_singles)))


class Publisher:
    """`report` takes results from the runners; `stored` is called for each that is safe.

    `fault` is called with an error that is a bug of the worker itself.
    """

    def __init__(
        self,
        port: Port,
        stored: Callable[[Lane, Held], None],
        fault: Callable[[BaseException], None],
        batches: int = OPEN_BATCHES,
    ) -> None:
        self._port = port
        self._stored = stored
        self._fault = fault
        self._batches = batches
        self._ready: deque[Ready] = deque()
        self._wake: asyncio.Event = asyncio.Event()
        self._sends: set[asyncio.Task[None]] = set()
        self._open_batches = 0
        self._open_singles = 0
        self.unstored = 0  # results reported and not yet known to be stored

    def report(self, lane: Lane, held: Held, outgoing: Outgoing) -> None:
        """Store `outgoing`, then acknowledge the task. Goes on until it is stored."""
        self.unstored += 1
        self._ready.append(Ready(lane, held, outgoing))
        if len(self._ready) == 1:
            self._wake.set()

    async def run(self) -> None:
        """Send what is ready, as long as the worker lives."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            self._send_what_may_go()

    def _send_what_may_go(self) -> None:
        while self._ready:
            as_batch, count = plan(
                len(self._ready), self._open_batches, self._open_singles, self._batches
            )
            if count == 0:
                return  # an answer will wake us
            chunk = self._take(count)
            send = self._send_batch(chunk) if as_batch else self._send_singles(chunk)
            task = asyncio.get_running_loop().create_task(send)
            self._sends.add(task)
            task.add_done_callback(self._send_ended)

    def _take(self, count: int) -> list[Ready]:
        """At most `count` results, and no more bytes than a batch may hold."""
        chunk: list[Ready] = []
        size = 0
        while self._ready and len(chunk) < count:
            size += total_bytes((self._ready[0].outgoing,))
            if chunk and size > BATCH_BYTES:
                break
            chunk.append(self._ready.popleft())
        return chunk

    def _send_ended(self, task: asyncio.Task[None]) -> None:
        self._sends.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fault(error)
        self._wake.set()

    async def _send_batch(self, chunk: list[Ready]) -> None:
        if len(chunk) < BATCH_FROM or any(ready.refusals for ready in chunk):
            await self._send_singles(chunk)
            return
        self._open_batches += 1
        try:
            outcome = await self._attempt_batch(chunk)
        finally:
            self._open_batches -= 1
        if isinstance(outcome, Accepted):
            for ready in chunk:
                self._settle(ready)
            return
        # One refused message refuses the whole batch, without being named: singles will tell.
        logger.bind(results=len(chunk), reason=_reason(outcome)).debug("results.batch_refused")
        await self._send_singles(chunk)

    async def _send_singles(self, chunk: list[Ready]) -> None:
        self._open_singles += len(chunk)
        try:
            outcomes = await self._attempt_singles(chunk)
        finally:
            self._open_singles -= len(chunk)
        again: list[Ready] = []
        for ready, outcome in zip(chunk, outcomes, strict=True):
            if isinstance(outcome, Accepted):
                self._settle(ready)
            else:
                again.append(self._refused(ready, outcome))
        if again:
            await self._later(again, outcomes)

    async def _later(self, again: list[Ready], outcomes: list[Outcome]) -> None:
        """Wait a little longer each time, and queue what was not stored again."""
        tries = max(ready.refusals for ready in again)
        delay_s = min(MAX_DELAY_S, FIRST_DELAY_S * 2 ** min(tries - 1, 10))
        reason = next(_reason(o) for o in outcomes if not isinstance(o, Accepted))
        log = logger.bind(results=len(again), reason=reason, tries=tries, delay_s=delay_s)
        log.log("WARNING" if tries > 1 else "DEBUG", "results.not_stored")
        await asyncio.sleep(delay_s * random.uniform(0.5, 1.0))
        self._ready.extend(again)

    def _refused(self, ready: Ready, outcome: Outcome) -> Ready:
        ready.refusals += 1
        if isinstance(outcome, Rejected) and outcome.code == TOO_LARGE:
            ready.outgoing = ready.lane.results.refused(ready.held, outcome.description)
        return ready

    def _settle(self, ready: Ready) -> None:
        self.unstored -= 1
        self._port.ack(ready.held.delivery)
        self._stored(ready.lane, ready.held)

    async def _attempt_batch(self, chunk: list[Ready]) -> Outcome:
        try:
            return await self._port.publish_batch(
                topology.WORKFLOW_EVENTS, [ready.outgoing for ready in chunk]
            )
        except BrokerError as error:
            return _unknown(error)

    async def _attempt_singles(self, chunk: list[Ready]) -> list[Outcome]:
        try:
            return await self._port.publish(
                topology.WORKFLOW_EVENTS, [ready.outgoing for ready in chunk]
            )
        except BrokerError as error:
            return [_unknown(error)] * len(chunk)

    async def close(self, timeout_s: float) -> int:
        """Give what is under way `timeout_s` to be stored; how many results were not."""
        limit_s = asyncio.get_running_loop().time() + timeout_s
        while self.unstored and (left_s := limit_s - asyncio.get_running_loop().time()) > 0:
            self._wake.set()
            await asyncio.sleep(0)
            if self._sends:
                await asyncio.wait(self._sends, timeout=left_s, return_when="FIRST_COMPLETED")
        for task in list(self._sends):
            task.cancel()
        return self.unstored


def _unknown(error: BrokerError) -> Outcome:
    return Unknown(str(error))


def _reason(outcome: Outcome) -> str:
    if isinstance(outcome, Rejected):
        return f"{outcome.code} {outcome.description}"
    return getattr(outcome, "reason", "")
