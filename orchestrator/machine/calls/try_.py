"""try: catch what matches, try again by the policy, then run the handler."""

from __future__ import annotations

from typing import Any

from orchestrator.definition.compiler.nodes import Retry, Try
from orchestrator.expressions.jq import Expression
from orchestrator.machine.calls import run_identity
from orchestrator.machine.calls.backoff import backoff_ms, draw, put_off_ms
from orchestrator.machine.flow import blocks, tasks
from orchestrator.machine.kernel.errors import Fault, brief, matches
from orchestrator.machine.kernel.handler import Handler
from orchestrator.machine.kernel.scope import Scope
from orchestrator.machine.kernel.step import Child, Step

JsonObject = dict[str, Any]


class TryHandler(Handler):
    """Frame: `data` (the input, for the next attempt), `attempt`, `first_ms` (when the first one
    began), `child`, `timer` during a backoff, `calls` and `again` (see
    orchestrator/machine/calls/run_identity.py); once the
    handler runs, `caught` and `variables`."""

    def enter(self, step: Step, frame: str, input: Any) -> None:
        step.edit(frame).update(data=input, attempt=1, first_ms=step.now_ms)
        _begin(step, frame)

    def child_completed(self, step: Step, frame: str, child: Child, output: Any, then: str) -> None:
        caught = step.frames[frame].get("caught", False)
        _complete(step, frame, output, caught)

    def child_faulted(self, step: Step, frame: str, child: Child, fault: Fault) -> None:
        step.edit(frame).pop("child", None)
        if step.frames[frame].get("caught"):
            raise fault  # from the handler itself
        attempt = _Attempt(step, frame, fault)
        if not attempt.is_caught():
            raise fault
        delay_ms = attempt.retry_delay_ms()
        if delay_ms is None:
            _handle(step, frame, fault)
        else:
            _again(step, frame, fault, delay_ms)

    def timer_fired(self, step: Step, frame: str) -> None:
        _begin(step, frame)


def _begin(step: Step, frame: str) -> None:
    """Begin an attempt, whose block has the deadline of `limit.attempt.duration`."""
    task = step.task(frame)
    body: Try = task.body
    data = step.frames[frame]["data"]
    block = blocks.open_block(step, frame, body.block, data)
    if body.retry is not None and body.retry.attempt_duration is not None:
        scope = tasks.scope_inside(step, frame, data)
        limit_ms = step.duration_ms(body.retry.attempt_duration, data, scope, task.pointer)
        step.set_timer(block, limit_ms, "deadline")


def _again(step: Step, frame: str, fault: Fault, delay_ms: int) -> None:
    state = step.edit(frame)
    state["attempt"] += 1
    run_identity.begin_again(step, frame)
    step.note(
        "task.retried",
        step.task(frame),
        attempt=state["attempt"],
        delay_ms=delay_ms,
        error=brief(fault.error),
    )
    if delay_ms == 0:
        _begin(step, frame)
    else:
        step.set_timer(frame, delay_ms)


def _handle(step: Step, frame: str, fault: Fault) -> None:
    """Run `catch.do`. Without one the error is done with, and the input passes on; but where a
    `retry` was all that the catch had to say, an error that it did not mend goes on."""
    body: Try = step.task(frame).body
    if body.catch is None and body.retry is not None and body.then is None:
        raise fault
    state = step.edit(frame)
    data = state.pop("data")
    state.pop("calls", None)
    state.pop("again", None)
    if body.catch is None:
        _complete(step, frame, data, caught=True)
        return
    state["caught"] = True
    state["variables"] = {body.variable: fault.error}
    blocks.open_block(step, frame, body.catch, data)


def _complete(step: Step, frame: str, output: Any, caught: bool) -> None:
    body: Try = step.task(frame).body
    tasks.complete(step, frame, output, body.then if caught else None)


class _Attempt:
    """The decision about one error of the tasks tried."""

    def __init__(self, step: Step, frame: str, fault: Fault) -> None:
        self.step = step
        self.frame = frame
        self.fault = fault
        self.task = step.task(frame)
        self.body: Try = self.task.body
        self.state = step.frames[frame]
        self.data = self.state["data"]
        self.scope: Scope = tasks.scope_inside(
            step, frame, self.data, variables={self.body.variable: fault.error}
        )

    def is_caught(self) -> bool:
        body = self.body
        if body.errors is not None:
            wanted = self.step.build(body.errors, self.data, self.scope, self.task.pointer)
            if not matches(wanted, self.fault.error):
                return False
        return self._allows(body.when, body.except_when)

    def _allows(self, when: Expression | None, except_when: Expression | None) -> bool:
        if when is not None and not self._met(when):
            return False
        return except_when is None or not self._met(except_when)

    def _met(self, condition: Expression) -> bool:
        found = self.step.evaluate(condition, self.data, self.scope, self.task.pointer)
        return found is not None and found is not False

    def retry_delay_ms(self) -> int | None:
        """How long to wait before the next attempt; None when there is none."""
        retry, attempt = self.body.retry, self.state["attempt"]
        if retry is None or not self.fault.retryable:
            return None
        if retry.attempts is not None and attempt >= retry.attempts:
            return None
        if not self._allows(retry.when, retry.except_when):
            return None
        delay_ms = self._delay_ms(retry, attempt)
        if retry.duration is not None:
            spent_ms = self.step.now_ms - self.state["first_ms"]
            if spent_ms + delay_ms > self._duration_ms(retry.duration):
                return None
        return delay_ms

    def _delay_ms(self, retry: Retry, attempt: int) -> int:
        limit = self.step.limits.max_retry_delay_ms
        delay = backoff_ms(retry.backoff, self._duration_ms(retry.delay), attempt, limit)
        if retry.jitter is not None:
            first, last = (self._duration_ms(part) for part in retry.jitter)
            chance = draw(self.step.snapshot["id"], "frame", self.frame, attempt)
            delay += first + max(last - first, 0) * chance
        return put_off_ms(self.fault.error, round(min(delay, limit)), limit)

    def _duration_ms(self, duration: Any) -> int:
        return self.step.duration_ms(duration, self.data, self.scope, self.task.pointer)
