"""`Retry`: the retry policy that an activity asks for when no `try` governs its call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from wf.protocol.durations import parse_duration
from wf.protocol.messages import JsonObject

Backoff = Literal["constant", "linear", "exponential"]
Duration = float | int | str


def seconds(value: Duration, what: str) -> float:
    """`value` in seconds. Raises ValueError that names `what` and says which forms are allowed."""
    try:
        return parse_duration(value)
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from None


@dataclass(frozen=True, slots=True)
class Retry:
    """How often and when a failed activity is tried again.

    `max_attempts` counts the first attempt. `delay` and `max_delay` are seconds or texts such as
    "30s". The n-th delay is `delay` (constant), n × `delay` (linear) or `delay` × 2ⁿ⁻¹
    (exponential), at most `max_delay`, spread by ± `jitter` (a share, 0 to 1).
    """

    max_attempts: int = 3
    delay: Duration = 1.0
    backoff: Backoff = "exponential"
    max_delay: Duration = 60.0
    jitter: float = 0.1

    def __post_init__(self) -> None:
        attempts = self.max_attempts
        if isinstance(attempts, bool) or not isinstance(attempts, int) or attempts < 1:
            raise ValueError(
                f"Retry.max_attempts: {attempts!r} is not an integer of 1 or more"
                " (1 means: never again)"
            )
        if self.backoff not in get_args(Backoff):
            raise ValueError(
                f"Retry.backoff: {self.backoff!r} is not one of {', '.join(get_args(Backoff))}"
            )
        if not 0 <= self.jitter <= 1:
            raise ValueError(f"Retry.jitter: {self.jitter!r} is not a share between 0 and 1")
        seconds(self.delay, "Retry.delay")
        seconds(self.max_delay, "Retry.max_delay")

    def policy(self) -> JsonObject:
        """The wire form (see wf.messages.failed_body)."""
        return policy(
            max_attempts=self.max_attempts,
            delay_s=seconds(self.delay, "Retry.delay"),
            backoff=self.backoff,
            max_delay_s=seconds(self.max_delay, "Retry.max_delay"),
            jitter=self.jitter,
        )


def policy(
    *, max_attempts: int, delay_s: float, backoff: str, max_delay_s: float, jitter: float
) -> JsonObject:
    """A retry policy as results and the catalogue carry it."""
    return {
        "max_attempts": max_attempts,
        "delay_s": delay_s,
        "backoff": backoff,
        "max_delay_s": max_delay_s,
        "jitter": jitter,
    }
