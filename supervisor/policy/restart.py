"""Restart policy: pure functions of exit history, cause and time.

Two questions are answered apart. *When may this place be filled again?* (`after_exit`: backoff per
place.) *May this pool start anything at all?* (`Breaker`: intensity per pool.) Time and randomness
come in as arguments, so the same history always gives the same decision.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum


class Cause(StrEnum):
    """Why a process ended."""

    CONFIG = "config"  # settings or a module are wrong: restarting alone will not help
    BROKER = "broker"  # the broker cannot be reached: not the process's own fault
    BOOT = "boot"  # ended, or was ended, before it was ready
    CRASH = "crash"
    HANG = "hang"
    MEMORY = "memory"
    RECYCLE = "recycle"  # asked to be started afresh
    OPERATOR = "operator"  # stopped by us, because somebody wanted it
    TASK = "task"  # in a breaker only: a crash while tasks ran, which answer for it themselves


# Ends that nobody is to blame for: no backoff, no entry in the breaker's window.
_BLAMELESS = frozenset({Cause.RECYCLE, Cause.OPERATOR, Cause.BROKER})

# These take long to come about: counted with the others they would never be too many.
_SLOW = frozenset({Cause.HANG, Cause.MEMORY})


@dataclass(frozen=True, slots=True)
class Exit:
    """One end of one process. Times are seconds of the monotonic clock."""

    at: float
    cause: Cause
    was_ready: bool
    made_progress: bool  # finished at least one task
    ready_for_s: float = 0.0  # how long it had been ready
    by_task: bool = False  # it crashed while tasks ran: each may kill `crash_limit` workers


@dataclass(frozen=True, slots=True)
class Policy:
    """The figures of the policy. Defaults are those of a pool of workers."""

    first_delay_s: float = 0.25  # ceiling of the first delay; doubles with each failure
    max_delay_s: float = 30.0
    broker_max_delay_s: float = 5.0  # while the broker is away, look again soon
    shortest_life_s: float = 1.0  # who asks to be started afresh sooner, idle, is in a loop
    stable_s: float = 60.0  # so long ready is as good as progress
    boots: int = 8  # an engine process that fails so often in a row before it is ready is given up
    intensity: int = 10  # more crashes and failed boots than this within the window are too many
    task_intensity: int = 60  # the same for crashes while tasks ran: twenty poison tasks at once
    task_max_delay_s: float = 0.5  # after such a crash: the tasks that are well must not wait long
    window_s: float = 60.0
    slow_intensity: int = 5  # the same for hangs and for ends by lack of memory
    slow_window_s: float = 600.0
    open_s: float = 15.0  # how long the breaker stays open at first; doubles each time
    config_open_s: float = 5.0  # the same after a config failure
    max_open_s: float = 300.0
    proof_s: float = 5.0  # so long ready proves a half-open pool


@dataclass(frozen=True, slots=True)
class RestartDecision:
    """When to fill the place again, and the new count of failures in a row."""

    delay_s: float
    failures: int
    reason: str


def after_exit(failures: int, exit_: Exit, policy: Policy, draw: float) -> RestartDecision:
    """When to start again after `exit_`, with `failures` in a row before it; 0 ≤ `draw` < 1.

    The first failure of a process that had been ready is answered at once. After that the delay is
    drawn from the whole of [0, ceiling), so that places that fell together do not rise together.
    """
    lived = exit_.made_progress or exit_.ready_for_s >= policy.shortest_life_s
    if exit_.cause is Cause.OPERATOR or (exit_.cause is Cause.RECYCLE and lived):
        return RestartDecision(0.0, 0, exit_.cause.value)
    recovered = exit_.made_progress or exit_.ready_for_s >= policy.stable_s
    count = 1 if recovered else failures + 1
    if count == 1 and exit_.was_ready:
        return RestartDecision(0.0, count, "first failure after ready")
    longest = policy.broker_max_delay_s if exit_.cause is Cause.BROKER else policy.max_delay_s
    if exit_.by_task:
        longest = policy.task_max_delay_s
    ceiling = min(longest, policy.first_delay_s * 2.0 ** min(count - 1, 30))
    return RestartDecision(draw * ceiling, count, f"failure {count} in a row")


@dataclass(frozen=True, slots=True)
class Breaker:
    """Restart intensity of one pool: closed, open until a time, or half-open after that."""

    failures: tuple[tuple[float, Cause], ...] = ()  # when and why, within the longest window
    openings: int = 0  # openings in a row without proof in between
    open_until: float | None = None  # None: closed
    cause: Cause | None = None  # what opened it

    def state(self, now: float) -> str:
        """`closed`, `open` or `half-open`."""
        if self.open_until is None:
            return "closed"
        return "open" if now < self.open_until else "half-open"

    def places(self, now: float, unproved: int) -> int | None:
        """How many more processes the pool may start now; None: no limit.

        `unproved`: processes running that were started while half-open and have not proved
        themselves yet.
        """
        match self.state(now):
            case "closed":
                return None
            case "open":
                return 0
            case _:
                return max(0, 1 - unproved)


def too_many(breaker: Breaker, now: float, size: int, policy: Policy) -> Cause | None:
    """The cause that has used up its budget in a pool of `size` places; None while all are within.

    config: none is allowed, for every place would fail alike. boot, crash: `intensity`, or three
    for each place, within the window; task: the same with `task_intensity`. hang, memory:
    `slow_intensity`, or one for each place, within the slow window. broker, recycle, operator: no
    limit, nobody is to blame.
    """
    quick = slow = tasks = 0
    for at, cause in breaker.failures:
        if cause is Cause.CONFIG and at == now:
            return cause
        if cause in _SLOW:
            slow += at > now - policy.slow_window_s
        elif cause is Cause.TASK:
            tasks += at > now - policy.window_s
        else:
            quick += at > now - policy.window_s
    latest = breaker.failures[-1][1] if breaker.failures else None
    if quick > max(policy.intensity, 3 * size) or slow > max(policy.slow_intensity, size):
        return latest
    if tasks > max(policy.task_intensity, 3 * size):
        return latest
    return None


def after_failure(breaker: Breaker, exit_: Exit, size: int, policy: Policy) -> Breaker:
    """The breaker of a pool of `size` places after one of its processes ended."""
    if exit_.cause in _BLAMELESS:
        return breaker
    since = exit_.at - max(policy.window_s, policy.slow_window_s)
    recent = tuple(failure for failure in breaker.failures if failure[0] > since)
    cause = Cause.TASK if exit_.by_task else exit_.cause
    breaker = replace(breaker, failures=(*recent, (exit_.at, cause)))
    if breaker.state(exit_.at) == "open":
        return breaker
    probe_failed = breaker.open_until is not None
    if not probe_failed and too_many(breaker, exit_.at, size, policy) is None:
        return breaker
    first = policy.config_open_s if exit_.cause is Cause.CONFIG else policy.open_s
    length = min(policy.max_open_s, first * 2.0 ** min(breaker.openings, 30))
    return replace(
        breaker,
        openings=breaker.openings + 1,
        open_until=exit_.at + length,
        cause=exit_.cause,
    )


def is_proof(ready_for_s: float, done: int, policy: Policy) -> bool:
    """Whether a process started while half-open shows that its pool works again."""
    return done > 0 or ready_for_s >= policy.proof_s


def exceeds_budget(failures: int, exit_: Exit, breaker: Breaker, policy: Policy) -> bool:
    """Whether an engine process has failed so often that the supervisor has to end.

    Past the budget of a cause, or `policy.boots` times in a row when it does not even get ready.
    `breaker` is the one after `exit_`. An engine with wrong settings may be mended while it waits.
    """
    if exit_.cause is not Cause.CONFIG and too_many(breaker, exit_.at, 0, policy) is not None:
        return True
    return not exit_.was_ready and failures >= policy.boots
