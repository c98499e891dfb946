"""How many processes a pool should have: a pure decision from its backlog and the host's state.

Growth is quick and may be vetoed by the host; shrinking is slow and goes one process at a time.
What cannot be read changes nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from supervisor.policy.backlog import Waiting


@dataclass(frozen=True, slots=True)
class ScalingPolicy:
    """The figures of the decision; times in seconds, pressures in percent of time."""

    grow_after_s: float = 2.0  # the oldest task has waited so long: it is no mere burst
    grow_again_s: float = 5.0  # after a change, before growing
    shrink_after_s: float = 60.0  # so long fewer would have been enough
    shrink_again_s: float = 15.0  # after a change, before shrinking
    cpu_pressure: float = 50.0  # tasks of the host wait for a CPU in more of the last 10 s
    memory_pressure: float = 10.0  # the same for memory
    reserve_bytes: int = 256 * 1024 * 1024  # to stay available on the host


@dataclass(frozen=True, slots=True)
class Bounds:
    """What pool.toml allows."""

    fewest: int
    most: int


@dataclass(frozen=True, slots=True)
class Host:
    """What the host has left. None: it cannot be read, so it vetoes nothing."""

    cpu_pressure: float | None = None
    memory_pressure: float | None = None
    available_bytes: int | None = None
    worker_bytes: int | None = None  # one more worker of this pool is taken to need so much


@dataclass(frozen=True, slots=True)
class Scaling:
    """Where a pool stands. Times are seconds of the monotonic clock."""

    target: int
    changed_at: float = -math.inf
    low_since: float | None = None  # since when fewer processes would be enough
    reason: str = ""  # why the target is what it is, or why it was not changed
    vetoed: bool = False


def decide(
    state: Scaling,
    waiting: Waiting | None,
    ready: int,
    concurrency: int,
    bounds: Bounds,
    host: Host,
    now: float,
    policy: ScalingPolicy,
) -> Scaling:
    """The next state. `ready`: processes that work; `concurrency`: tasks that each can run."""
    if not bounds.fewest <= state.target <= bounds.most:
        target = min(bounds.most, max(bounds.fewest, state.target))
        return Scaling(target, now, None, f"pool.toml allows {bounds.fewest} to {bounds.most}")
    if waiting is None:
        return replace(state, low_since=None, vetoed=False, reason="the backlog is not known")
    backlog = waiting.pending + waiting.in_flight
    needed = math.ceil(backlog / concurrency)
    if needed > state.target and waiting.pending:
        return _grow(
            replace(state, low_since=None), waiting, needed, ready, bounds, host, now, policy
        )
    return _shrink(state, needed, bounds, now, policy)


def _grow(
    state: Scaling,
    waiting: Waiting,
    needed: int,
    ready: int,
    bounds: Bounds,
    host: Host,
    now: float,
    policy: ScalingPolicy,
) -> Scaling:
    why = f"{waiting.pending} tasks wait, the oldest for {waiting.waiting_s:.1f} s"
    held = replace(state, vetoed=False)
    if state.target >= bounds.most:
        return replace(held, reason=f"{why}; {bounds.most} processes are the most allowed")
    if state.target and waiting.waiting_s < policy.grow_after_s:
        return replace(held, reason=f"{why}: not long enough to grow")
    if ready < state.target:
        return replace(held, reason=f"{why}; {state.target - ready} processes are not ready yet")
    if now - state.changed_at < policy.grow_again_s:
        return replace(held, reason=f"{why}; the count was changed a moment ago")
    # At most twice as many at a time: the next figures show whether that was enough.
    wished = min(needed, bounds.most, max(1, 2 * state.target))
    veto, fitting = _veto(host, wished - state.target, policy)
    if fitting <= 0:
        return replace(state, vetoed=True, reason=f"{why}; vetoed: {veto}")
    return Scaling(state.target + fitting, now, None, why)


def _veto(host: Host, more: int, policy: ScalingPolicy) -> tuple[str, int]:
    """(why not all of them, how many more the host can take)."""
    if host.cpu_pressure is not None and host.cpu_pressure > policy.cpu_pressure:
        return f"CPU pressure is {host.cpu_pressure:.0f} %", 0
    if host.memory_pressure is not None and host.memory_pressure > policy.memory_pressure:
        return f"memory pressure is {host.memory_pressure:.0f} %", 0
    if host.available_bytes is None or not host.worker_bytes:
        return "", more
    room = (host.available_bytes - policy.reserve_bytes) // host.worker_bytes
    return f"{host.available_bytes // 2**20} MiB of memory are left", max(0, min(more, room))


def _shrink(
    state: Scaling, needed: int, bounds: Bounds, now: float, policy: ScalingPolicy
) -> Scaling:
    if max(needed, bounds.fewest) >= state.target:
        return replace(state, low_since=None, vetoed=False, reason="as many as the backlog needs")
    since = now if state.low_since is None else state.low_since
    held = replace(state, low_since=since, vetoed=False)
    enough = f"{max(needed, bounds.fewest)} processes would be enough"
    if now - since < policy.shrink_after_s:
        left_s = policy.shrink_after_s - (now - since)
        return replace(held, reason=f"{enough}; in {left_s:.0f} s, if it stays so, one leaves")
    if now - state.changed_at < policy.shrink_again_s:
        return replace(held, reason=f"{enough}; one after the other leaves")
    return Scaling(state.target - 1, now, since, f"{enough} for {now - since:.0f} s")
