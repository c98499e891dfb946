"""What bounds an instance. Settings may change them; the defaults suit most."""

from __future__ import annotations

from typing import NamedTuple

from orchestrator.expressions.jq import ExpressionLimits

DAY_MS = 86_400_000


class Limits(NamedTuple):
    max_jumps: int = 100_000  # backward jumps in the life of an instance
    max_steps: int = 100_000  # work items of one event; a loop without any wait ends here
    max_retry_delay_ms: int = 30 * DAY_MS
    max_timers: int = 10_000  # pending at once in one instance
    max_depth: int = 50  # workflows that run each other, so that no recursion is endless
    default_crash_limit: int = 3
    event_buffer_ms: int = 300_000  # how far back a new listener looks, and signals are kept
    max_listened: int = 10_000  # events that one listen may hold: outputs, and those waiting
    expressions: ExpressionLimits = ExpressionLimits()


DEFAULT_LIMITS = Limits()
