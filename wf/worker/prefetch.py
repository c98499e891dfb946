"""How many tasks to hold beyond those that run. Pure.

None for long tasks, since a task that waits here could be run by another worker; enough for short
ones that none of them waits for a round trip to the broker.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

ROUND_TRIP_S = 0.005  # a pull request and its messages, on a busy host
LONG_TASK_S = 0.1  # from here on a round trip does not matter
LIMIT = 400
_WEIGHT = 0.1  # of the newest duration in the average


@dataclass(slots=True)
class Prefetch:
    """Follows the duration of an activity's tasks, and says how many more to hold."""

    concurrency: int
    fixed: int | None = None  # stated in settings: no tuning
    duration_s: float | None = None  # None: nothing measured yet

    def measured(self, duration_s: float) -> None:
        """One task took `duration_s`. A longer one counts at once, shorter ones gradually."""
        known = self.duration_s
        if known is None or duration_s > known * 10:
            self.duration_s = duration_s
        else:
            self.duration_s = known + (duration_s - known) * _WEIGHT

    def at_least(self, duration_s: float) -> None:
        """A task that still runs has taken `duration_s` so far."""
        if duration_s > (self.duration_s or 0.0) * 10:
            self.duration_s = duration_s

    @property
    def most(self) -> int:
        """What `target` never exceeds."""
        return LIMIT if self.fixed is None else self.fixed

    @property
    def target(self) -> int:
        """Tasks to hold beyond the running ones."""
        if self.fixed is not None:
            return self.fixed
        if self.duration_s is None or self.duration_s >= LONG_TASK_S:
            return 0
        needed = math.ceil(self.concurrency * ROUND_TRIP_S / max(self.duration_s, 1e-6))
        return min(LIMIT, needed)
