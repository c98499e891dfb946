"""Running activities: `async def` ones on the loop, `def` ones in threads, both under timeout.

An asyncio task per call would cost more than a small call itself. So each place (`concurrency` of
them) is one long-lived asyncio task that awaits one call after the other: `current_task()`,
`asyncio.timeout()` and cancellation work in it as usual. A place whose call left a trace in its
context variables, or a cancellation request behind, is replaced by a fresh one.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from collections.abc import Callable
from typing import Any

from loguru import logger

from wf.jetstream.port import Outgoing, Port
from wf.protocol import gate, problem_details
from wf.worker.activity_queue import Lane
from wf.worker.deadlines import Deadlines
from wf.worker.heartbeats import Watcher
from wf.worker.liveness import DETAILS_BYTES
from wf.worker.task import Held, Stop, make_context
from wf.worker.threads import RETRY_S, Threads, frame_of

YIELD_S = 0.005  # calls that never wait let the loop turn this often

Report = Callable[[Lane, Held, Outgoing], None]


class Runner:
    """Runs what waits in one lane. `report` gets each outcome, once.

    `fault` is called with an error that is a bug of the worker itself.
    """

    def __init__(
        self,
        lane: Lane,
        report: Report,
        fault: Callable[[BaseException], None],
        port: Port,
        tell: Callable[[str], None] = lambda trouble: None,
    ) -> None:
        """`tell` hears of a shortage of threads, and of its end as ""."""
        self._lane = lane
        self._report = report
        self._fault = fault
        self._loop = asyncio.get_running_loop()
        self._deadlines = Deadlines(lane, self._loop, self._expired, self._ignored)
        self._watcher = Watcher(lane, port, self._stalled)
        self._idle: list[asyncio.Future[None]] = []  # places that wait for work
        self._waking = False  # a place was called and has not come yet: one at a time is enough
        self._places: set[asyncio.Task[None]] = set()
        self._threads: Threads | None = None
        self._thread_of: dict[Held, int] = {}
        self._tell = tell
        self._retry: asyncio.TimerHandle | None = None  # when threads were lacking
        if not lane.definition.is_async:
            self._threads = Threads(self._loop, lane.name, lane.policy.concurrency)

    def offer(self) -> None:
        """Tasks wait in the lane: start what has a place."""
        if self._threads is not None:
            self._start_threads()
        elif self._lane.waiting and not self._waking:
            while self._idle:
                place = self._idle.pop()
                if not place.done():
                    place.set_result(None)
                    self._waking = True
                    return
            if len(self._places) < self._lane.policy.concurrency:
                self._open_place()
                self._waking = True

    def cancel(self, held: Held, stop: Stop) -> None:
        """Make a running call stop: CancelledError where it waits, the flag everywhere."""
        held.stop = stop
        if held.context is not None:
            held.context.cancelled.set()
        if held.task is not None:
            held.task.cancel()

    async def close(self) -> None:
        """End the places, and the threads that are idle."""
        self._deadlines.close()
        if self._retry is not None:
            self._retry.cancel()
        if self._threads is not None:
            self._threads.close()
        places = list(self._places)
        for place in places:
            place.cancel()
        if places:
            await asyncio.wait(places, timeout=0.5)

    # --- async def -------------------------------------------------------------------------

    def _open_place(self) -> None:
        # A bare context: nothing that this worker set is seen by activities, or the other way.
        task = self._loop.create_task(self._place(), context=contextvars.Context())
        self._places.add(task)
        task.add_done_callback(self._place_ended)

    def _place_ended(self, task: asyncio.Task[None]) -> None:
        self._places.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fault(error)
        if not self._lane.draining:
            self.offer()

    async def _place(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        lane, waiting = self._lane, self._lane.waiting
        yielded_s = time.monotonic()
        while True:
            self._waking = False
            while waiting and lane.solitude.may_start(waiting[0]):
                held = waiting.popleft()
                if waiting and not self._waking:
                    self.offer()  # the next one can run while this one waits for something
                ended_s = await self._call(held, task)
                lane.freed()
                if ended_s is None or task.cancelling() or len(contextvars.copy_context()):
                    return  # it left a trace: the next call gets a fresh place
                if ended_s - yielded_s > YIELD_S:
                    await asyncio.sleep(0)
                    yielded_s = time.monotonic()
            idle = self._loop.create_future()
            self._idle.append(idle)
            await idle
            yielded_s = time.monotonic()

    async def _call(self, held: Held, task: asyncio.Task[None]) -> float | None:
        """Run one call and report it; when it ended, None if its place must not go on."""
        lane = self._lane
        definition = lane.definition
        held.task = task
        held.started_s = started_s = time.monotonic()
        lane.note_start(held)
        self._deadlines.started(held)
        closed = False
        try:
            refusal = None if held.liveness is None else await self._watcher.begin(held)
            if refusal is not None:
                outgoing = refusal
            else:
                arguments = self._arguments(held)
                output = definition.signature.result(await definition.function(**arguments))
                outgoing = lane.results.completed(held, output)
        except BaseException as error:  # noqa: BLE001 - user code; each outcome is reported
            closed = isinstance(error, GeneratorExit)  # raised by it, or our own coroutine's end
            outgoing = self._of_exception(held, error)
        ended_s = time.monotonic()
        held.task = held.context = None  # no cycle is left for the garbage collector
        if held.stop is not None:
            task.uncancel()
        self._ended(held, outgoing, ended_s - started_s)
        return None if closed else ended_s

    # --- def -------------------------------------------------------------------------------

    def _start_threads(self) -> None:
        lane, threads = self._lane, self._threads
        assert threads is not None
        while (
            lane.waiting
            and len(lane.running) + len(lane.stuck) < lane.policy.concurrency
            and lane.solitude.may_start(lane.waiting[0])
            and self._has_thread(threads)
        ):
            held = lane.waiting.popleft()
            held.started_s = time.monotonic()
            lane.note_start(held)
            self._deadlines.started(held)
            threads.submit(
                lambda held=held: self._call_in_thread(held),  # type: ignore[misc]
                lambda outgoing, held=held: self._thread_ended(held, outgoing),  # type: ignore[misc]
            )

    def _has_thread(self, threads: Threads) -> bool:
        """Whether a call can begin; what the host does not give is asked for again later."""
        has_room = threads.has_room()
        lane = self._lane
        if threads.lacking != lane.lacking:
            if bool(threads.lacking) != bool(lane.lacking):
                self._tell_of_threads(threads)
            lane.lacking = threads.lacking
        if not has_room and threads.shortage and self._retry is None:
            self._retry = self._loop.call_later(RETRY_S, self._try_again)
        return has_room

    def _try_again(self) -> None:
        self._retry = None
        if not self._lane.draining:
            self._start_threads()
            self._lane.freed()

    def _tell_of_threads(self, threads: Threads) -> None:
        lane = self._lane
        if not threads.shortage:
            logger.bind(activity=lane.name).info("threads.enough")
            self._tell("")
            return
        has = lane.policy.concurrency - threads.lacking
        logger.bind(activity=lane.name, has=has, error=threads.shortage).warning("threads.lacking")
        self._tell(
            f"{lane.name} has {has} of {lane.policy.concurrency} threads ({threads.shortage}):"
            " raise the limit of the host (TasksMax, pids.max, ulimit -u, memory) or lower"
            " concurrency"
        )

    def _call_in_thread(self, held: Held) -> Outgoing:
        lane = self._lane
        self._thread_of[held] = threading.get_ident()
        try:
            refusal = None if held.liveness is None else self._watcher.begin_in_thread(held)
            if refusal is not None:
                return refusal
            arguments = self._arguments(held)
            output = lane.definition.signature.result(lane.definition.function(**arguments))
            return lane.results.completed(held, output)
        except BaseException as error:  # noqa: BLE001 - user code; each outcome is reported
            return self._of_exception(held, error)
        finally:
            del self._thread_of[held]

    def _thread_ended(self, held: Held, outgoing: Outgoing) -> None:
        self._ended(held, outgoing, time.monotonic() - held.started_s)
        self._start_threads()
        self._lane.freed()

    # --- both ------------------------------------------------------------------------------

    def _arguments(self, held: Held) -> dict[str, Any]:
        lane = self._lane
        signature = lane.definition.signature
        arguments = signature.arguments(held.input)
        if signature.context is not None:
            arguments[signature.context] = make_context(
                held, lane.name, lane.policy.timeout_s, lambda details: self._beat(held, details)
            )
        return arguments

    def _of_exception(self, held: Held, error: BaseException) -> Outgoing:
        held.failed = True
        if held.stop is None:
            self._log(held, "task.failed", error)
        return self._lane.results.raised(held, error)

    def _ended(self, held: Held, outgoing: Outgoing, duration_s: float) -> None:
        self._deadlines.ended(held)
        if held.liveness is not None:
            self._watcher.ended(held)
        self._lane.note_end(held)
        self._lane.prefetch.measured(duration_s)
        if held.settled:
            self._lane.stuck.pop(held, None)  # reported when its time was up; the place is free
            if self._lane.solitude.closed:
                self._lane.solitude.advance()
        else:
            if held.stop is not None:  # whatever it gave after that does not count
                outgoing = self._timed_out(held)
            held.settled = True
            self._report(self._lane, held, outgoing)

    def _expired(self, held: Held) -> None:
        """A running call's time is up."""
        if self._threads is None:
            self.cancel(held, Stop.TIMEOUT)
            return
        where = problem_details.waiting_at(frame_of(self._thread_of.get(held)))
        self.cancel(held, Stop.TIMEOUT)
        self._give_up(held, where)

    def _stalled(self, held: Held) -> None:
        """A running call sent no heartbeat in time."""
        if self._threads is None:
            self.cancel(held, Stop.STALLED)
            self._deadlines.cancelled(held)
            return
        where = problem_details.waiting_at(frame_of(self._thread_of.get(held)))
        self.cancel(held, Stop.STALLED)
        self._give_up(held, where)

    def _ignored(self, held: Held) -> None:
        """An `async def` call that was cancelled for its timeout goes on all the same."""
        self._give_up(held, "")

    def _give_up(self, held: Held, where: str) -> None:
        """Report a call that does not end; its place stays taken until it does."""
        lane = self._lane
        lane.running.pop(held, None)
        lane.stuck[held] = time.monotonic()
        lane.note_end(held)
        held.settled = True
        self._report(lane, held, self._timed_out(held, where))

    def _timed_out(self, held: Held, where: str = "") -> Outgoing:
        held.failed = True
        if held.stop is Stop.STALLED:
            self._log(held, "task.stalled", "no heartbeat in time")
            return self._lane.results.stalled(held, where)
        timeout_s = self._lane.policy.timeout_s
        self._log(held, "task.timed_out", f"not done after {timeout_s:g} s")
        return self._lane.results.timed_out(held, timeout_s, where)

    def _log(self, held: Held, event: str, error: object) -> None:
        logger.bind(
            instance=held.instance,
            run=held.run,
            attempt=held.attempt,
            activity=self._lane.name,
            error=gate.error_text(error, 500) if isinstance(error, BaseException) else error,
        ).warning(event)

    def _beat(self, held: Held, details: Any) -> None:
        held.details = details
        if held.liveness is not None and not held.liveness.beat(details):
            logger.bind(
                instance=held.instance,
                run=held.run,
                activity=self._lane.name,
                limit_bytes=DETAILS_BYTES,
            ).warning("task.heartbeat_details_left_out")
        logger.bind(
            instance=held.instance,
            run=held.run,
            attempt=held.attempt,
            activity=self._lane.name,
            details=gate.text(details, 500),
        ).debug("task.heartbeat")
