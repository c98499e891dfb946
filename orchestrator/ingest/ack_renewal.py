"""Events that are held: the server is told that they are in progress, so that it waits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from orchestrator.ingest.messages_in import Item
from wf.jetstream.port import Port

Key = tuple[str, int]  # stream, sequence


class Leases:
    """Held deliveries with the time of their last sign of life.

    Some are set aside: their instance waits for room in a queue. They are kept alive like the
    others but do not count as work in hand, so that one full queue does not stop everything.
    """

    def __init__(self, port: Port, renew_after_s: float) -> None:
        self._port = port
        self._renew_after_s = renew_after_s
        self._held: dict[Key, tuple[Item, float]] = {}
        self._aside: set[Key] = set()
        self._active: Counter[str] = Counter()
        self._active_bytes: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._held)

    def active(self, stream: str) -> int:
        """How many of a stream are in hand, without those set aside."""
        return self._active[stream]

    def active_bytes(self, stream: str) -> int:
        """How much those are together."""
        return self._active_bytes[stream]

    def _count(self, item: Item, change: int) -> None:
        stream = item.delivery.stream
        self._active[stream] += change
        self._active_bytes[stream] += change * item.weight

    def take(self, item: Item, now_s: float, *, aside: bool = False) -> None:
        key = _key(item)
        if key not in self._held:
            if aside:
                self._aside.add(key)
            else:
                self._count(item, 1)
        self._held[key] = (item, now_s)

    def drop(self, item: Item) -> None:
        key = _key(item)
        if self._held.pop(key, None) is None:
            return
        if key in self._aside:
            self._aside.discard(key)
        else:
            self._count(item, -1)

    def set_aside(self, items: Iterable[Item]) -> None:
        for item in items:
            key = _key(item)
            if key in self._held and key not in self._aside:
                self._aside.add(key)
                self._count(item, -1)

    def bring_back(self, items: Iterable[Item]) -> None:
        for item in items:
            key = _key(item)
            if key in self._aside:
                self._aside.discard(key)
                self._count(item, 1)

    def renew(self, now_s: float) -> int:
        """Send a sign of life for what was silent for `renew_after_s`; how many."""
        late = [
            (key, item)
            for key, (item, since_s) in self._held.items()
            if now_s - since_s >= self._renew_after_s
        ]
        for key, item in late:
            self._port.in_progress(item.delivery)
            self._held[key] = (item, now_s)
        return len(late)


def _key(item: Item) -> Key:
    return item.delivery.stream, item.delivery.sequence
