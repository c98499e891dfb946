"""What the settings allow one instance."""

from __future__ import annotations

from orchestrator.expressions.jq import ExpressionLimits
from orchestrator.machine import Limits
from wf.settings import Settings


def machine_limits(settings: Settings) -> Limits:
    """The machine's limits; a replay must use the same ones as the engine."""
    limits = settings.orchestrator.limits
    return Limits(
        max_jumps=limits.jumps,
        max_depth=limits.depth,
        max_retry_delay_ms=int(limits.retry_delay * 1000),
        event_buffer_ms=int(settings.orchestrator.event_buffer * 1000),
        expressions=ExpressionLimits(limits.expression_time, limits.expression_result),
    )
