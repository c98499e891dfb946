"""Tasks that used up max_deliver without an outcome: the net below the net (DESIGN §8).

A worker that gets a task's last delivery reports it. When even that worker is lost, the server's
advisory is what remains: the stream ADVISORIES keeps them, and here each becomes an outcome.
"""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
from loguru import logger

from wf import messages, subjects
from wf.errors import MessageError
from wf.jetstream import topology
from wf.jetstream.port import Accepted, Delivery, Outgoing, Port, Stored

RUNTIME = "https://open-workflow-specification.org/spec/1.0.0/errors/runtime"
WINDOW = 50
RETRY_S = 2.0


class Advisories:
    def __init__(self, port: Port) -> None:
        self._port = port

    async def run(self) -> None:
        """For ever: advisory → outcome of its run → ack."""
        pull = await self._port.pull(topology.ADVISORIES, topology.ADVISORY_READER, window=WINDOW)
        while True:
            for delivery in await pull.next(WINDOW):
                if await self._handle(delivery):
                    self._port.ack(delivery)
                else:
                    self._port.nak(delivery, RETRY_S)
            await asyncio.sleep(0)

    async def _handle(self, delivery: Delivery) -> bool:
        """True when there is nothing left to do for this advisory."""
        advisory = orjson.loads(delivery.data)
        if advisory.get("stream") != topology.ACTIVITY_TASKS:
            return True
        sequence = int(advisory["stream_seq"])
        task = await self._port.at(topology.ACTIVITY_TASKS, sequence)
        log = logger.bind(consumer=advisory.get("consumer"), sequence=sequence)
        if task is None:
            log.info("task.undeliverable.gone")  # swept: it had an outcome
            return True
        message = outcome(task, advisory)
        stream = message_stream(message)
        (stored,) = await self._port.publish(stream, [message])
        if not isinstance(stored, Accepted):
            log.bind(outcome=str(stored)).warning("task.undeliverable.not.stored")
            return False
        log.bind(subject=task.subject).error("task.undeliverable")
        return True


def message_stream(message: Outgoing) -> str:
    """The stream that holds the message's subject."""
    is_letter = message.subject.startswith("dead.")
    return topology.DEAD_LETTERS if is_letter else topology.WORKFLOW_EVENTS


def outcome(task: Stored, advisory: dict[str, Any]) -> Outgoing:
    """The undeliverable result of a task, or a dead letter when the task itself is unreadable."""
    activity = task.subject.rpartition(".")[2]
    evidence = {
        "reason": "max_deliver was used up and no worker reported an outcome",
        "sequence": task.sequence,
        "deliveries": advisory.get("deliveries"),
        "consumer": advisory.get("consumer"),
    }
    try:
        body = messages.decode(task.data, task.subject)
        instance, run, attempt = str(body["instance"]), int(body["run"]), int(body["attempt"])
    except (MessageError, KeyError, TypeError, ValueError) as error:
        letter = {**evidence, "payload": task.data[:65536].decode("utf-8", "backslashreplace")}
        return Outgoing(
            subjects.dead_letter("message", activity),
            orjson.dumps({"v": messages.VERSION, "evidence": {**letter, "error": str(error)}}),
            message_id=f"{topology.ACTIVITY_TASKS}:{task.sequence}:undeliverable",
        )
    detail = f"delivered {advisory.get('deliveries')} times and never finished"
    error_object = {"type": RUNTIME, "status": 500, "title": "Undeliverable", "detail": detail}
    result = messages.failed_body(
        run=run,
        attempt=attempt,
        outcome=messages.UNDELIVERABLE,
        error=error_object,
        retryable=False,
        evidence=evidence,
    )
    return Outgoing(
        subjects.completed(instance, activity),
        messages.encode(result),
        message_id=messages.result_message_id(instance, run, attempt, messages.UNDELIVERABLE),
    )
