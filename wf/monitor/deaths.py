"""Reporting the tasks of dead workers: the outcome is stored, then the delivery is acked."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable

from loguru import logger

from wf.errors import BrokerError, MessageError
from wf.jetstream import topology
from wf.jetstream.port import HAND_BACK_S, Accepted, Delivery, Outgoing, Port
from wf.monitor.outcome import HANDED_BACK, is_lost, is_stale, result, verdict
from wf.protocol import messages, subjects
from wf.protocol.messages import JsonObject

FIRST_DELAY_S = 0.05
LONGEST_DELAY_S = 2.0
ATTEMPT_S = 2.0


class Reporter:
    """`settled(death)` is called once all tasks of a death are reported."""

    def __init__(self, port: Port, settled: Callable[[int], None]) -> None:
        self._port = port
        self._settled = settled
        self._open: set[asyncio.Task[None]] = set()

    def take(self, death: JsonObject) -> None:
        """Report it; several at once."""
        task = asyncio.get_running_loop().create_task(self._report(death))
        self._open.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._open.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.opt(exception=error).error("death.report.failed")

    async def close(self, limit_s: float) -> None:
        """Finish what is under way; what is not done by then is the successor's."""
        if self._open:
            await asyncio.wait(self._open, timeout=limit_s)
        for task in self._open:
            task.cancel()

    async def _report(self, death: JsonObject) -> None:
        told = [task for task in death["tasks"] if verdict(death, task) != HANDED_BACK]
        back = [task for task in death["tasks"] if verdict(death, task) == HANDED_BACK]
        if await self._tell(death, told) and not is_stale(death, time.monotonic()):
            if is_lost(death):
                back = []
            await self._hand_back(back)
            logger.bind(
                child=death["child"],
                child_pid=death["pid"],
                cause=death["cause"],
                how=death["how"],
                reported=len(told),
                handed_back=len(back),
                after_ms=round(1000 * (time.monotonic() - death["died_s"]), 1),
            ).info("death.reported")
        else:
            logger.bind(
                child=death["child"], child_pid=death["pid"], tasks=len(told) + len(back)
            ).warning("death.left.to.redelivery")
        self._settled(int(death["death"]))

    async def _tell(self, death: JsonObject, tasks: list[JsonObject]) -> bool:
        """Store the outcomes of these tasks; False when it took so long that nobody needs them."""
        delay_s = FIRST_DELAY_S
        while tasks:
            if is_stale(death, time.monotonic()):
                return False
            try:
                tasks = await self._try(death, tasks)
            except BrokerError as error:
                logger.bind(error=str(error)).warning("death.report.again")
            if tasks:
                await asyncio.sleep(delay_s)
                delay_s = min(2 * delay_s, LONGEST_DELAY_S)
        return True

    async def _try(self, death: JsonObject, tasks: list[JsonObject]) -> list[JsonObject]:
        """Report these tasks; the ones that are left. Raises BrokerError without an answer."""
        found = await asyncio.gather(*(self._result(death, task) for task in tasks))
        sent = [(task, out) for task, out in zip(tasks, found, strict=True) if out is not None]
        outcomes = await self._port.publish(
            topology.WORKFLOW_EVENTS, [out for _, out in sent], timeout_s=ATTEMPT_S
        )
        left = []
        for (task, _), outcome in zip(sent, outcomes, strict=True):
            if isinstance(outcome, Accepted):
                self._port.ack(_delivery(task))
            else:
                left.append(task)
        return left

    async def _hand_back(self, tasks: list[JsonObject]) -> None:
        """Once, whatever the broker answers: a second one would make a second copy."""
        for task in tasks:
            self._port.nak(_delivery(task), HAND_BACK_S)
        try:
            await self._port.flush()
        except BrokerError as error:
            logger.bind(error=str(error)).warning("death.hand_back.unconfirmed")

    async def _result(self, death: JsonObject, task: JsonObject) -> Outgoing | None:
        """None when there is nothing to report: the task is gone, or was never readable."""
        stored = await self._port.at(topology.ACTIVITY_TASKS, int(task["sequence"]))
        if stored is None:
            return None  # swept: it was acknowledged
        retry = None
        if verdict(death, task) == messages.TIMED_OUT:
            retry = await self._retry(stored.subject.rpartition(".")[2])
        worker = f"{socket.gethostname()}/{death['child']}"
        try:
            return result(death, task, stored, worker=worker, retry=retry)
        except MessageError as error:
            logger.bind(sequence=stored.sequence, error=str(error)).warning("task.unreadable")
            return None

    async def _retry(self, activity: str) -> JsonObject | None:
        """The activity's own retry policy, which its worker would have sent along."""
        entry = await self._port.last(topology.ACTIVITY_CATALOG, subjects.catalog(activity))
        if entry is None or entry.is_marker:
            return None
        try:
            policy = messages.decode(entry.data, entry.subject).get("retry")
        except MessageError as error:  # somebody else wrote there
            logger.bind(subject=entry.subject, error=str(error)).warning("task.policy_unreadable")
            return None
        return policy if isinstance(policy, dict) else None


def _delivery(task: JsonObject) -> Delivery:
    """As much of the dead worker's delivery as an ack needs."""
    return Delivery(
        stream=topology.ACTIVITY_TASKS,
        consumer="",
        subject="",
        data=b"",
        headers=None,
        sequence=int(task["sequence"]),
        delivered=1,
        timestamp_ms=0,
        pending=0,
        reply=str(task["reply"]),
    )
