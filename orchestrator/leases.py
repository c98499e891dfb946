"""Events that are held: the server is told that they are in progress, so that it waits."""

from __future__ import annotations

from orchestrator.inbound import Item
from wf.jetstream.port import Port


class Leases:
    """Held deliveries by (stream, sequence), with the time of their last sign of life."""

    def __init__(self, port: Port, renew_after_s: float) -> None:
        self._port = port
        self._renew_after_s = renew_after_s
        self._held: dict[tuple[str, int], tuple[Item, float]] = {}

    def __len__(self) -> int:
        return len(self._held)

    def take(self, item: Item, now_s: float) -> None:
        self._held[item.delivery.stream, item.delivery.sequence] = (item, now_s)

    def drop(self, item: Item) -> None:
        self._held.pop((item.delivery.stream, item.delivery.sequence), None)

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
