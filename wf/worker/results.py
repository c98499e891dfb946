"""The result messages of tasks. Pure: what happened goes in, the message to store comes out."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import Any

import orjson

from wf.authoring.json_data import to_json_data
from wf.authoring.signature import InvalidOutput
from wf.errors import MessageError, NonRetryable, NotRetriedByPolicy
from wf.jetstream.port import Delivery, Outgoing
from wf.protocol import gate, messages, problem_details, subjects
from wf.protocol.messages import JsonObject
from wf.worker.liveness import DETAILS_BYTES
from wf.worker.task import Held

REASON_LIMIT = 2_000  # characters
HEADER_LIMIT = 1_000
MOST_HEADERS = 50
TRACEPARENT_LIMIT = 256
HEADROOM = 65536  # bytes of max_payload kept: the history repeats a result with what it led to


@dataclass(frozen=True, slots=True)
class Results:
    """Builds the results of one activity."""

    activity: str
    retry: JsonObject  # the policy that failures carry
    limit: int  # bytes of one message body
    module: str  # path whose frames a traceback begins with
    worker: str  # name of this worker, for evidence

    def completed(self, held: Held, output: Any) -> Outgoing:
        """The activity returned `output`: JSON data, or what can be turned into it.

        Raises what user code inside `output` raises when it is turned into JSON.
        """
        try:
            data = self._completed(held, output)
        except MessageError:
            try:
                output = to_json_data(output, "return value")
                gate.check_value(output, "return value")
                data = self._completed(held, output)
            except MessageError as error:
                return self.raised(held, InvalidOutput(str(error)))
        if len(data) > self.limit:
            return self._oversize(held, len(data))
        return self._outgoing(held, data, messages.COMPLETED)

    def _completed(self, held: Held, output: Any) -> bytes:
        body = messages.completed_body(run=held.run, attempt=held.attempt, output=output)
        return gate.encode(body, "message", depth=gate.VALUE_DEPTH + 1)

    def raised(self, held: Held, error: BaseException) -> Outgoing:
        """The activity (or the check of its input or output) raised. Never raises itself."""
        return self._failed(
            held,
            messages.FAILED,
            problem_details.of_exception(error, inside=self.module),
            retryable=not isinstance(error, NonRetryable),
            once=isinstance(error, NotRetriedByPolicy),
        )

    def timed_out(self, held: Held, timeout_s: float, where: str = "") -> Outgoing:
        """The activity was not done in time; `where`: what it was doing, as a stack."""
        error = problem_details.problem(
            type=problem_details.TIMEOUT,
            status=408,
            title="Activity timed out",
            detail=f"{self.activity} was not done after {timeout_s:g} s",
        )
        if where:
            error["traceback"] = where
        evidence = self._evidence(held)
        if held.details is not None:
            evidence["heartbeat"] = _as_told(held.details)
        return self._failed(held, messages.TIMED_OUT, error, evidence=evidence)

    def stalled(self, held: Held, where: str = "") -> Outgoing:
        """The activity sent no heartbeat in time; `where`: what it was doing, as a stack."""
        assert held.liveness is not None
        error = problem_details.problem(
            type=problem_details.TIMEOUT,
            status=408,
            title="Heartbeat missed",
            detail=(
                f"{self.activity} did not call Context.heartbeat for"
                f" {held.liveness.heartbeat_s:g} s (metadata.wf.heartbeat)"
            ),
        )
        if where:
            error["traceback"] = where
        evidence = self._evidence(held)
        if held.details is not None:
            evidence["heartbeat"] = _as_told(held.details)
        return self._failed(held, messages.TIMED_OUT, error, evidence=evidence)

    def sign(self, held: Held, outcome: str, **more: Any) -> Outgoing:
        """What is said of an attempt besides its result."""
        body = messages.sign_body(run=held.run, attempt=held.attempt, outcome=outcome, **more)
        outgoing = self._outgoing(held, messages.encode(body), outcome)
        if outcome == messages.HEARTBEAT:  # there are many
            outgoing.message_id = None
        return outgoing

    def undeliverable(self, held: Held) -> Outgoing:
        """The last delivery that max_deliver allows: reported, not run."""
        error = problem_details.problem(
            type=problem_details.COMMUNICATION,
            status=500,
            title="Task undeliverable",
            detail=(
                f"the task was delivered {held.delivery.delivered} times and no worker brought it"
                " to an end: see what happened to the workers that held it, or raise max_deliver"
            ),
        )
        return self._failed(
            held, messages.UNDELIVERABLE, error, retryable=False, evidence=self._evidence(held)
        )

    def refused(self, held: Held, reason: str) -> Outgoing:
        """The stream refuses the result itself, whatever is done: the run fails with that."""
        error = problem_details.problem(
            type=problem_details.RUNTIME, status=500, title="Result refused", detail=reason
        )
        return self._failed(held, messages.FAILED, error, retryable=False)

    def _oversize(self, held: Held, size: int) -> Outgoing:
        error = problem_details.problem(
            type=problem_details.RUNTIME,
            status=413,
            title="Output too large",
            detail=(
                f"the output of {self.activity} takes {size:,} bytes, and the broker allows"
                f" {self.limit:,}: store it elsewhere and return a reference"
            ),
        )
        return self._failed(held, messages.FAILED, error, retryable=False)

    def _failed(
        self,
        held: Held,
        outcome: str,
        error: JsonObject,
        *,
        retryable: bool = True,
        once: bool = False,
        evidence: JsonObject | None = None,
    ) -> Outgoing:
        body = messages.failed_body(
            run=held.run,
            attempt=held.attempt,
            outcome=outcome,
            error=error,
            retryable=retryable,
            retry={**self.retry, "max_attempts": 1} if once else self.retry,
            evidence=evidence,
            heartbeat_details=None if held.liveness is None else held.liveness.details,
        )
        return self._outgoing(held, messages.encode(body), outcome)

    def _evidence(self, held: Held) -> JsonObject:
        delivery = held.delivery
        return {
            "deliveries": delivery.delivered,
            "stream": delivery.stream,
            "sequence": delivery.sequence,
            "subject": delivery.subject,
            "worker": self.worker,
        }

    def _outgoing(self, held: Held, data: bytes, outcome: str) -> Outgoing:
        traceparent = held.traceparent
        return Outgoing(
            subject=subjects.completed(held.instance, self.activity),
            data=data,
            message_id=messages.result_message_id(held.instance, held.run, held.attempt, outcome),
            headers={"traceparent": traceparent} if traceparent and _is_sane(traceparent) else None,
        )


def _is_sane(traceparent: str) -> bool:
    """Whether it may be passed on: one that fills a message would have its result refused."""
    return len(traceparent) <= TRACEPARENT_LIMIT


def dead_message(delivery: Delivery, activity: str, reason: str, limit: int) -> Outgoing:
    """A task message that cannot be read, for DEAD_LETTERS, with all that is known of it.

    A payload that would not fit into `limit` bytes again is cut; its size says so.
    """
    payload = delivery.data.decode("utf-8", "backslashreplace")
    body = {
        "v": messages.VERSION,
        "kind": "message",
        "name": activity,
        "reason": gate.text(reason, REASON_LIMIT),
        "evidence": {
            "stream": delivery.stream,
            "sequence": delivery.sequence,
            "subject": gate.text(delivery.subject),
            "deliveries": delivery.delivered,
            "timestamp_ms": delivery.timestamp_ms,
            "headers": {
                gate.text(key, HEADER_LIMIT): gate.text(value, HEADER_LIMIT)
                for key, value in islice((delivery.headers or {}).items(), MOST_HEADERS)
            },
            "payload_bytes": len(delivery.data),
        },
        "payload": payload,
    }
    data = messages.encode(body)
    if len(data) > limit:
        body["payload"] = payload[: limit // 8]
        data = messages.encode(body)
    return Outgoing(
        subject=subjects.dead_letter("message", activity),
        data=data,
        message_id=f"dead:{delivery.stream}:{delivery.sequence}",
    )


def _as_told(details: Any) -> Any:
    """The details of a heartbeat, for evidence: as they are, or their text."""
    try:
        return orjson.loads(gate.check_value(to_json_data(details)))
    except Exception:  # noqa: BLE001 - objects of user code, which may still change them
        return gate.text(details, DETAILS_BYTES)
