"""Tasks that used up max_deliver without an outcome: the net below the net (docs/design.md §8).

A worker that gets a task's last delivery reports it. When even that worker is lost, the server's
advisory is what remains: the stream ADVISORIES keeps them, and here each becomes an outcome. So
does a task whose delivery somebody ended with +TERM: it is dispatched again, as after a crash, so
that one that is refused again and again is set aside at the crash limit.
"""

from __future__ import annotations

import asyncio

import orjson
from loguru import logger

from wf.errors import BrokerError, MessageError
from wf.jetstream import topology
from wf.jetstream.advisories import Advisory, AdvisoryReader
from wf.jetstream.port import Accepted, Outgoing, Port, Stored
from wf.protocol import messages, subjects

RUNTIME = "https://open-workflow-specification.org/spec/1.0.0/errors/runtime"
RETRY_S = 1.0


class Advisories:
    def __init__(self, port: Port) -> None:
        self._port = port
        self._reader = AdvisoryReader(port)

    async def run(self) -> None:
        """Until cancelled: advisory → outcome of its run → handled."""
        while True:
            for advisory, delivery in await self._reader.next():
                while not await self._try(advisory):
                    self._port.in_progress(delivery)
                    await asyncio.sleep(RETRY_S)
                self._reader.handled(delivery)

    async def _try(self, advisory: Advisory) -> bool:
        try:
            return await self._handle(advisory)
        except BrokerError as error:  # no answer: the advisory stays until there is one
            logger.bind(error=str(error)).warning("task.undeliverable.again")
            return False
        except Exception as error:  # noqa: BLE001 — one advisory must not end the reading of others
            sequence = advisory.stream_seq
            logger.bind(sequence=sequence).opt(exception=error).error("task.undeliverable.broken")
            return True

    async def _handle(self, advisory: Advisory) -> bool:
        """True when there is nothing left to do for this advisory."""
        if advisory.stream != topology.ACTIVITY_TASKS:
            return True
        task = await self._port.at(advisory.stream, advisory.stream_seq)
        log = logger.bind(consumer=advisory.consumer, sequence=advisory.stream_seq)
        if task is None:
            log.info("task.undeliverable.gone")  # an operator purged it
            return True
        message = outcome(task, advisory)
        if advisory.terminated and is_letter(message):
            log.info("task.terminated.unreadable")  # its worker has stored the evidence before
            return True
        (stored,) = await self._port.publish(message_stream(message), [message])
        if not isinstance(stored, Accepted):
            log.bind(outcome=str(stored)).warning("task.undeliverable.not.stored")
            return False
        log.bind(subject=task.subject).error(
            "task.terminated" if advisory.terminated else "task.undeliverable"
        )
        return True


def message_stream(message: Outgoing) -> str:
    """The stream that holds the message's subject."""
    return topology.DEAD_LETTERS if is_letter(message) else topology.WORKFLOW_EVENTS


def is_letter(message: Outgoing) -> bool:
    """Whether it is for the dead letters, as the task says of no run."""
    return message.subject.startswith("dead.")


def outcome(task: Stored, advisory: Advisory) -> Outgoing:
    """The result of a task that is delivered no more, or a dead letter when it is unreadable."""
    activity = task.subject.rpartition(".")[2]
    evidence = {
        "reason": "its delivery was ended with +TERM, and no outcome reported"
        if advisory.terminated
        else "max_deliver was used up and no worker reported an outcome",
        "sequence": task.sequence,
        "deliveries": advisory.deliveries,
        "consumer": advisory.consumer,
    }
    try:
        body = messages.decode(task.data, task.subject)
        instance = subjects.check_name("instance", str(body["instance"]))
        run, attempt = int(body["run"]), int(body["attempt"])
    except (MessageError, KeyError, TypeError, ValueError) as error:
        letter = {
            **evidence,
            "stream": topology.ACTIVITY_TASKS,
            "subject": task.subject,
            "payload_bytes": len(task.data),
            "payload": task.data[:65536].decode("utf-8", "backslashreplace"),
        }
        return Outgoing(
            subjects.dead_letter("message", activity),
            orjson.dumps({"v": messages.VERSION, "evidence": {**letter, "error": str(error)}}),
            message_id=f"{topology.ACTIVITY_TASKS}:{task.sequence}:undeliverable",
        )
    title, detail = "Undeliverable", f"delivered {advisory.deliveries} times and never finished"
    if advisory.terminated:
        title, detail = "Terminated", "somebody ended the delivery of its task with +TERM"
    result = messages.failed_body(
        run=run,
        attempt=attempt,
        outcome=messages.CRASHED if advisory.terminated else messages.UNDELIVERABLE,
        error={"type": RUNTIME, "status": 500, "title": title, "detail": detail},
        retryable=False,
        suspects=1 if advisory.terminated else None,
        evidence=evidence,
    )
    return Outgoing(
        subjects.completed(instance, activity),
        messages.encode(result),
        message_id=messages.result_message_id(instance, run, attempt, messages.UNDELIVERABLE),
    )
