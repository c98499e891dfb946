"""`Context`: what an activity may ask about the call it serves."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from loguru import logger

if TYPE_CHECKING:
    from loguru import Logger


def _ignore(details: Any) -> None:
    """Heartbeats of a Context that no worker made."""


@dataclass(slots=True, kw_only=True)
class Context:
    """One call of one activity; asked for by annotating a parameter with `Context`.

    The defaults let a unit test call an activity with a plain `Context()`.
    """

    instance: str = "test"  # id of the workflow instance
    workflow: str = "test"  # its definition, `<namespace>.<name>` outside the default namespace
    task: str = "/do/0/test"  # JSON pointer of the calling task in the definition
    activity: str = "test"
    run: int = 1  # number of this call within the instance
    attempt: int = 1  # 1 for the first; grows with retries and after crashes
    deadline: datetime = field(default_factory=lambda: datetime.now(UTC) + timedelta(minutes=5))
    traceparent: str | None = None  # W3C trace context, as the start of the workflow gave it
    heartbeat_details: Any = None  # of the last heartbeat of the attempt before, if there was one
    cancelled: threading.Event = field(default_factory=threading.Event)
    _heartbeat: Callable[[Any], None] = field(default=_ignore, repr=False)

    @property
    def idempotency_key(self) -> str:
        """`<instance>:<run>`: the same in every attempt of this call, in no other call."""
        return f"{self.instance}:{self.run}"

    @property
    def remaining_s(self) -> float:
        """Seconds until the deadline, never below 0."""
        return max(0.0, (self.deadline - datetime.now(UTC)).total_seconds())

    @property
    def cancel_requested(self) -> bool:
        """True once the call's time is up or its worker stops; the outcome no longer counts.

        An `async def` activity gets CancelledError as well. A `def` activity must look here (or
        wait on `cancelled`, a threading.Event) and return soon: its thread cannot be ended.
        """
        return self.cancelled.is_set()

    @property
    def logger(self) -> Logger:
        """A loguru logger whose records carry the call's fields."""
        return logger.bind(
            instance=self.instance,
            workflow=self.workflow,
            task=self.task,
            activity=self.activity,
            run=self.run,
            attempt=self.attempt,
        )

    def heartbeat(self, details: Any = None) -> None:
        """Say that the call goes on; from any thread, as often as you like.

        It is needed only where the definition says `metadata.wf.heartbeat`: then the call fails
        when none comes in that time, and the next attempt finds the `details` of the last
        one (JSON, up to 4096 bytes) in its `heartbeat_details`. Everywhere they are
        logged, and part of the error if the call times out.
        """
        self._heartbeat(details)
