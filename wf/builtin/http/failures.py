"""The errors of HTTP calls, by what went wrong and whether another attempt may mend it."""

from __future__ import annotations

from wf.errors import ActivityError, NonRetryable, NotRetriedByPolicy
from wf.protocol import problem_details

# Answers that a later attempt may well not get. A `try` may repeat the others too, and must say so.
TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504, 507, 509, 520, 521, 522, 523, 524, 529})
NO_ANSWER = 503  # there is no status to carry


def of_status(
    status: int, title: str, detail: str, retry_after_s: float | None = None
) -> ActivityError:
    """The service answered, and not as it should. `retry_after_s`: when it may be asked again."""
    kind = ActivityError if status in TRANSIENT else NotRetriedByPolicy
    error = kind(
        detail, type=problem_details.COMMUNICATION, title=title or f"Status {status}", status=status
    )
    error.retry_after_s = retry_after_s
    return error


def unreachable(detail: str) -> ActivityError:
    """No answer, or half of one: the request may have been carried out."""
    return ActivityError(
        detail, type=problem_details.COMMUNICATION, title="No answer", status=NO_ANSWER
    )


def unusable_answer(detail: str) -> ActivityError:
    """An answer that is not what it says it is."""
    return NotRetriedByPolicy(
        detail, type=problem_details.COMMUNICATION, title="Answer unusable", status=502
    )


def too_large(what: str, limit: int, key: str = "max_response") -> NonRetryable:
    """`key`: of [builtin.http], the setting that limits it."""
    return NonRetryable(
        f"{what} is larger than {limit:,} bytes: ask for less, or raise"
        f" [builtin.http] {key} in pool.toml",
        type=problem_details.COMMUNICATION,
        title="Answer too large",
        status=413,
    )


def misconfigured(detail: str) -> NonRetryable:
    """The definition or the settings ask for what cannot be."""
    return NonRetryable(
        detail, type=problem_details.CONFIGURATION, title="Call not possible", status=400
    )


def invalid(detail: str) -> NonRetryable:
    """What the definition gives is not what the service says that it takes."""
    return NonRetryable(
        detail, type=problem_details.VALIDATION, title="Parameters invalid", status=400
    )


def wrong_value(detail: str) -> NonRetryable:
    """An expression gave something that its place has no use for."""
    return NonRetryable(detail, type=problem_details.EXPRESSION, title="Value unusable", status=400)


def not_authenticated(detail: str) -> ActivityError:
    return NotRetriedByPolicy(
        detail, type=problem_details.AUTHENTICATION, title="Authentication failed", status=401
    )
