"""What waits for the activities, as the monitor last said."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

FRESH_S = 10.0

Figures = dict[str, Any]


class Backlog:
    """Figures by activity; none when they are old: an unreadable backlog is unknown, not empty."""

    def __init__(self) -> None:
        self._figures: dict[str, Figures] = {}
        self._read_at: float | None = None

    def take(self, figures: object, now: float) -> None:
        """A new reading."""
        if isinstance(figures, dict):
            self._figures = figures
            self._read_at = now

    def of(self, activity: str, now: float) -> Figures | None:
        """pending, in_flight, redelivered, pulls, max_in_flight, oldest_waiting_s, oldest_open_s;
        None when they are not known."""
        if self._read_at is None or now - self._read_at > FRESH_S:
            return None
        return self._figures.get(activity)

    def waits(self, activities: Iterable[str], now: float) -> bool:
        """Whether tasks of one of them wait that the broker would give to whoever asks."""
        for activity in activities:
            figures = self.of(activity, now)
            if figures and figures["pending"] and figures["in_flight"] < figures["max_in_flight"]:
                return True
        return False
