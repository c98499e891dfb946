"""Keeps the schedules in the timer stream as the latest definitions want them.

As a rule each start stores the next one itself (orchestrator/machine/kernel/next_start.py). Here
the first is stored,
and what is missing, of a definition that is gone, or of an earlier version, is mended.
"""

from __future__ import annotations

from collections.abc import Callable

from loguru import logger

from orchestrator.definition.compiler.nodes import Schedule
from orchestrator.machine.kernel.next_start import next_due_ms
from orchestrator.registry.definitions import Definitions
from wf.client import schedules
from wf.client.schedules import Pending
from wf.jetstream import topology
from wf.jetstream.port import Accepted, Port
from wf.protocol import subjects

CHECK_MS = 5000  # when no definition has changed

Key = tuple[str, str]  # namespace, name


class Schedules:
    def __init__(self, port: Port, definitions: Definitions, now_ms: Callable[[], int]) -> None:
        self._port = port
        self._definitions = definitions
        self._now_ms = now_ms
        self._seen = -1  # generation of the definitions that the stream agrees with
        self._checked_ms = 0

    async def refresh(self) -> None:
        """Compare and mend, when there may be something to mend. Raises BrokerError."""
        now_ms, generation = self._now_ms(), self._definitions.generation
        wanted = self._definitions.schedules()
        if generation == self._seen and (not wanted or now_ms - self._checked_ms < CHECK_MS):
            return
        found = await schedules.pending(self._port)
        for key, schedule in wanted.items():
            await self._mend(key, schedule, found.pop(key, None), now_ms)
        for one in found.values():
            await self._remove(one)
        self._seen, self._checked_ms = generation, now_ms

    async def _mend(
        self, key: Key, schedule: Schedule, current: Pending | None, now_ms: int
    ) -> None:
        if current is not None and current.schedule == schedule.text:
            return
        due_ms = next_due_ms(schedule, now_ms)
        if due_ms is None:  # `after`: the end of an instance stores it
            if current is not None:
                await self._remove(current)
            return
        # Somebody may have stored one since we looked: then theirs stays.
        expected = 0 if current is None else current.sequence
        message = schedules.message(*key, schedule.text, due_ms, expected=expected)
        (outcome,) = await self._port.publish(topology.WORKFLOW_TIMERS, [message])
        if isinstance(outcome, Accepted):
            log = logger.bind(workflow=subjects.qualified(*key), schedule=schedule.text)
            log.bind(due_ms=due_ms).info("schedule.set")

    async def _remove(self, one: Pending) -> None:
        subject = subjects.start_scheduled(one.namespace, one.name)
        await self._port.purge(topology.WORKFLOW_TIMERS, subject=subject, up_to=one.sequence)
        logger.bind(workflow=one.workflow, schedule=one.schedule).info("schedule.removed")
