"""What waits for the activities, as the monitor last said."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

FRESH_S = 10.0
_COUNTS = ("pending", "in_flight", "redelivered")

Figures = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Waiting:
    """The queues of a pool's activities together."""

    pending: int  # no worker has them
    in_flight: int  # with a worker
    redelivered: int  # of these, not for the first time
    oldest_s: float  # age of the oldest of both; 0.0: there is none
    waiting_s: float = 0.0  # age of the oldest that no worker has

    @property
    def is_idle(self) -> bool:
        return self.pending == 0 and self.in_flight == 0


class Backlog:
    """Figures by activity; none when they are old: an unreadable backlog is unknown, not empty."""

    def __init__(self) -> None:
        self._figures: dict[str, Figures] = {}
        self._missing: frozenset[str] = frozenset()
        self._workers: list[dict[str, Any]] = []
        self._read_at: float | None = None
        self._error = ""

    def take(self, figures: object, now: float, missing: object = (), workers: object = ()) -> None:
        """A new reading. `missing`: activities without a queue; `workers`: those that have no
        supervisor (wf/monitor/client_workers.py)."""
        if isinstance(figures, dict):
            self._figures = figures
            self._read_at = now
            self._error = ""
            self._missing = frozenset(missing if isinstance(missing, list) else ())
            self._workers = workers if isinstance(workers, list) else []

    def unread(self, error: str) -> None:
        """It could not be read. The figures before it hold until they are old."""
        self._error = error

    def trouble(self, monitored_s: float, now: float) -> str:
        """Why it is not known, "" while it is. `monitored_s`: how long there has been a monitor to
        read it."""
        age_s = None if self._read_at is None else now - self._read_at
        if monitored_s <= FRESH_S or (age_s is not None and age_s <= FRESH_S):
            return ""
        since = "never" if age_s is None else f"not for {age_s:.0f} s"
        return (
            f"the backlog is not known, it was read {since} ({self._error or 'no answer came'}): "
            "nothing is scaled down meanwhile; look at the broker"
        )

    def missing(self, activities: Iterable[str], now: float) -> list[str]:
        """Those of `activities` that have no queue at the broker."""
        if self._read_at is None or now - self._read_at > FRESH_S:
            return []
        return [name for name in activities if name in self._missing]

    def client_workers(self, now: float) -> list[dict[str, Any]]:
        """name, host, pid, written_ms, activities (name → running, concurrency) of each."""
        fresh = self._read_at is not None and now - self._read_at <= FRESH_S
        return self._workers if fresh else []

    def of(self, activity: str, now: float) -> Figures | None:
        """pending, in_flight, redelivered, pulls, max_in_flight, oldest_waiting_s, oldest_open_s;
        None when they are not known."""
        if self._read_at is None or now - self._read_at > FRESH_S:
            return None
        return self._figures.get(activity)

    def of_pool(self, activities: Iterable[str], now: float) -> Waiting | None:
        """All of `activities` together; None unless each is known."""
        found = [self.of(name, now) for name in activities]
        known = [one for one in found if one is not None]
        if not known or len(known) != len(found):
            return None
        ages = [float(one[key]) for one in known for key in ("oldest_waiting_s", "oldest_open_s")]
        pending, in_flight, redelivered = (sum(int(one[k]) for one in known) for k in _COUNTS)
        waiting_s = max(float(one["oldest_waiting_s"]) for one in known)
        return Waiting(pending, in_flight, redelivered, max(ages), waiting_s)

    def waits(self, activities: Iterable[str], now: float) -> bool:
        """Whether tasks of one of them wait that the broker would give to whoever asks."""
        for activity in activities:
            figures = self.of(activity, now)
            if figures and figures["pending"] and figures["in_flight"] < figures["max_in_flight"]:
                return True
        return False
