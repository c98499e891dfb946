"""call: a run of an activity, dispatched as often as its retry policy allows."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from orchestrator.definition.compiler.nodes import Call, Deferred
from orchestrator.machine.calls import heartbeat, run_identity
from orchestrator.machine.calls.backoff import backoff_ms, draw, put_off_ms
from orchestrator.machine.flow import tasks
from orchestrator.machine.kernel.commands import DeadLetter
from orchestrator.machine.kernel.errors import RUNTIME, TIMEOUT, Fault, brief, mended
from orchestrator.machine.kernel.handler import Handler, handler_of
from orchestrator.machine.kernel.step import Step
from wf.protocol.messages import SIGNS

JsonObject = dict[str, Any]


class CallHandler(Handler):
    """Frame: `run`, and `timer` while the next attempt is put off.

    Run: `activity`, `attempt`, `pointer`, `input`, `frame`; `first` is the attempt that it began
    with, when that is not 1 (a `try` around is at it again, or a `retry`); once they are not 0,
    `failures` (that count for the policy) and `crashes` (that do not); `alone` after a worker died
    with it; `lost`, how often its worker was gone without a word; and what liveness.py says.
    """

    def enter(self, step: Step, frame: str, input: Any) -> None:
        task = step.task(frame)
        body: Call = task.body
        for template in body.inputs:
            input = tasks.build_inside(step, frame, template, input)
        given = input
        if body.arguments is not None:
            input = tasks.build_inside(step, frame, body.arguments, input)
        if body.deferred is not None:
            input = {**input, "deferred": _carried(step, frame, body.deferred, given)}
        known = run_identity.again(step, frame, task.pointer) if task.governed else None
        number, attempt, details = known or (step.count("last_run"), 1, None)
        run = str(number)
        step.runs[run] = {
            "activity": body.activity,
            "attempt": attempt,
            "pointer": task.pointer,
            "input": input,
            "frame": frame,
        }
        if attempt > 1:
            step.runs[run]["first"] = attempt
        if details is not None:
            step.runs[run]["details"] = details
        step.edit(frame)["run"] = number
        dispatch(step, run)

    def timer_fired(self, step: Step, frame: str) -> None:
        dispatch(step, str(step.frames[frame]["run"]))

    def run_succeeded(self, step: Step, frame: str, output: Any) -> None:
        tasks.complete(step, frame, output)

    def run_abandoned(self, step: Step, frame: str) -> None:
        """It may have done its work: a `try` that begins again does not do it as another run."""
        if step.task(frame).governed:
            number: int = step.frames[frame]["run"]
            run = step.runs[str(number)]
            run_identity.remember(step, frame, number, run)

    def reopen(self, step: Step, frame: str, left_ms: int | None) -> None:
        """The same run, so that its idempotency key stays; attempts before do not count for it."""
        state = step.edit(frame)
        state.pop("timer", None)
        spent = state.pop("spent", None)
        if spent is not None:
            number = spent["run"]
            state["run"] = number
            step.runs[str(number)] = {key: spent[key] for key in spent if key != "run"}
        run = str(state["run"])
        run_identity.forget(step, frame, step.runs[run]["pointer"], state["run"])
        attempt = step.runs[run]["attempt"] + 1
        kept = {key: value for key, value in step.runs[run].items() if key not in _COUNTS}
        step.runs[run] = {**kept, "attempt": attempt, "first": attempt}
        dispatch(step, run)


_COUNTS = ("failures", "crashes", "lost")
LOST_LIMIT = 20  # attempts of a run whose workers were gone without a word


def dispatch(step: Step, run: str, start_by_ms: int | None = None) -> None:
    """Have the current attempt done."""
    heartbeat.begin(step, run, start_by_ms)
    step.dispatch(run)


def _carried(step: Step, frame: str, deferred: Deferred, input: Any) -> JsonObject:
    """What the worker needs to evaluate the expressions that the engine must not."""
    scope = tasks.scope_inside(step, frame, input)
    carried: JsonObject = {"secrets": list(deferred.secrets)}
    if deferred.expressions:
        carried["expressions"] = {place: found.source for place, found in deferred.expressions}
        carried["variables"] = {name: scope.resolve(name) for name in sorted(deferred.variables)}
    if deferred.uses_input:
        carried["input"] = input
    return carried


class Policy(NamedTuple):
    """An activity's default retry policy, mended: what is missing or odd means no delay."""

    max_attempts: int
    delay_ms: float
    backoff: str
    max_delay_ms: float
    jitter: float

    @classmethod
    def of(cls, value: JsonObject, max_delay_ms: int) -> Policy:
        attempts = value.get("max_attempts")
        limit = _number(value.get("max_delay_s"), max_delay_ms / 1000)
        return cls(
            max_attempts=attempts if type(attempts) is int else 1,
            delay_ms=_number(value.get("delay_s"), 0.0) * 1000,
            backoff=str(value.get("backoff")),
            max_delay_ms=min(limit * 1000, max_delay_ms),
            jitter=min(_number(value.get("jitter"), 0.0), 1.0),
        )


def _number(value: Any, otherwise: float) -> float:
    if type(value) in (int, float) and math.isfinite(value) and value >= 0:
        return float(value)
    return otherwise


def succeed(step: Step, run: str, attempt: int, output: Any) -> None:
    """A success of any attempt completes the run."""
    state = step.runs[run]
    step.history.append(
        {
            "type": "run.completed",
            "pointer": state["pointer"],
            "run": int(run),
            "attempt": attempt,
            "activity": state["activity"],
        }
    )
    frame = _release(step, run)
    step.later(frame, handler_of(step, step.node(frame)).run_succeeded, output)


def fail(step: Step, run: str, event: JsonObject) -> None:
    """The current attempt did not succeed: again, later, or not any more."""
    outcome = event["outcome"]
    state = step.runs[run]
    if outcome in SIGNS:
        error = heartbeat.error_of(step, state, outcome)
    else:
        error = _error(outcome, event.get("error"), state["pointer"])
        heartbeat.note_details(step, run, event)
    step.history.append(
        {
            "type": "run.failed",
            "pointer": state["pointer"],
            "run": int(run),
            "attempt": state["attempt"],
            "activity": state["activity"],
            "outcome": outcome,
        }
    )
    if outcome in ("crashed", "out-of-memory"):
        _crashed(step, run, event, error)
    elif heartbeat.is_lost(state, outcome):
        _lost(step, run, error)
    elif outcome in SIGNS:  # another attempt of somebody who was there is the activity's to allow
        _failed(step, run, {"retry": state.get("retry")}, error)
    elif outcome == "undeliverable":
        give_up(step, run, error, "undeliverable", event.get("evidence"))
    else:
        _failed(step, run, event, error)


def _error(outcome: str, given: Any, place: str) -> JsonObject:
    if outcome == "timed-out":
        error = mended(given, place, type=TIMEOUT, status=408, title="Timed out")
        return {**error, "detail": error.get("detail") or "it ran longer than its timeout"}
    if outcome in ("crashed", "out-of-memory"):
        return mended(given, place, type=RUNTIME, status=500, title="Worker crashed")
    return mended(given, place)


def _failed(step: Step, run: str, event: JsonObject, error: JsonObject) -> None:
    state = step.runs[run]
    retryable = event.get("retryable") is not False
    retry = event.get("retry")
    if retryable and type(retry) is dict and not step.task(state["frame"]).governed:
        policy = Policy.of(retry, step.limits.max_retry_delay_ms)
        failures = state.get("failures", 0) + 1
        if failures < policy.max_attempts:
            next_attempt(step, run, failures=failures)
            delay_ms = _delay_ms(step, run, policy, failures)
            limit_ms = step.limits.max_retry_delay_ms
            _after(step, run, put_off_ms(error, delay_ms, limit_ms), error)
            return
    end(step, run, Fault(error, retryable))


def _delay_ms(step: Step, run: str, policy: Policy, failures: int) -> int:
    delay = backoff_ms(policy.backoff, policy.delay_ms, failures, policy.max_delay_ms)
    chance = draw(step.snapshot["id"], "run", run, failures) if policy.jitter else 0.0
    return round(delay * (1 - policy.jitter * chance))


def _after(
    step: Step, run: str, delay_ms: int, error: JsonObject, start_by_ms: int | None = None
) -> None:
    """Dispatch the next attempt, at once or by a durable timer."""
    state = step.runs[run]
    heartbeat.end(step, state["frame"])
    step.note(
        "task.retried",
        step.task(state["frame"]),
        run=int(run),
        attempt=state["attempt"],
        delay_ms=delay_ms,
        error=brief(error),
    )
    try:
        if delay_ms <= 0:
            dispatch(step, run, start_by_ms)
        else:
            step.set_timer(state["frame"], delay_ms)
    except Fault as fault:
        end(step, run, fault)


def _crashed(step: Step, run: str, event: JsonObject, error: JsonObject) -> None:
    """Dispatch again at once, without counting it as a failure, up to the crash limit.

    From now on it runs alone: so the next death, if there is one, tells who is to blame, and
    nothing else is lost with it. A death in company convicts nobody and does not count.
    """
    limit = event.get("crash_limit")
    if type(limit) is not int:
        limit = step.limits.default_crash_limit
    state = step.runs[run]
    suspects = event.get("suspects", 1)
    if suspects == 0:  # it only happened to be there
        next_attempt(step, run)
        _after(step, run, 0, error)
        return
    crashes = state.get("crashes", 0) + (suspects == 1 or "alone" in state)
    if crashes < limit:
        next_attempt(step, run, crashes=crashes, alone=1)
        _after(step, run, 0, error)
        return
    give_up(step, run, error, event["outcome"], event.get("evidence"))


def _lost(step: Step, run: str, error: JsonObject) -> None:
    """Somebody had the task and is gone, as with its host: at once another, which is no failure of
    the activity. One that nobody has begun is still to be begun in the same time."""
    state = step.runs[run]
    if "heard_ms" not in state:
        next_attempt(step, run)
        _after(step, run, 0, error, state["liveness"].get("start_by_ms"))
        return
    lost = state.get("lost", 0) + 1
    if lost >= LOST_LIMIT:
        give_up(step, run, error, "undeliverable", {"lost": lost})
        return
    next_attempt(step, run, lost=lost)
    _after(step, run, 0, error)


def next_attempt(step: Step, run: str, **counts: int) -> None:
    state = step.runs[run]
    step.runs[run] = {**state, **counts, "attempt": state["attempt"] + 1}


def give_up(step: Step, run: str, error: JsonObject, kind: str, evidence: Any) -> None:
    """Fail the run and set it aside with the evidence."""
    state = step.runs[run]
    letter = dict(evidence) if type(evidence) is dict else {}
    letter.update(
        instance=step.snapshot["id"],
        workflow=step.snapshot["workflow"],
        run=int(run),
        attempt=state["attempt"],
        pointer=state["pointer"],
        input=state["input"],
        error=error,
    )
    step.commands.append(DeadLetter(kind, state["activity"], letter))
    end(step, run, Fault(error, retryable=False))


def end(step: Step, run: str, fault: Fault) -> None:
    """The run has failed for good."""
    frame = _release(step, run)
    step.later(frame, handler_of(step, step.node(frame)).run_failed, fault)


def _release(step: Step, run: str) -> str:
    """Close the run, and the timer that its next attempt may be waiting for; its frame."""
    ended = step.runs.pop(run)
    frame: str = ended["frame"]
    if step.task(frame).governed:
        run_identity.remember(step, frame, int(run), ended)
    state = step.edit(frame)
    state.pop("run", None)
    state["spent"] = {**ended, "run": int(run)}  # until the frame closes, still in this step
    if "timer" in state:
        step.cancel_timer(state.pop("timer"))
    heartbeat.end(step, frame)
    return frame
