"""One instance is never in two uncommitted groups: who may go now, and who waits. Pure."""

from __future__ import annotations

from collections import deque

from orchestrator.ingest.messages_in import Item


class Lanes:
    """Instances that are in a group, and the events that wait for them, in stream order."""

    def __init__(self) -> None:
        self._waiting: dict[str, deque[Item]] = {}  # a key is a busy instance
        self._ready: deque[Item] = deque()

    @property
    def busy(self) -> int:
        return len(self._waiting)

    @property
    def has_ready(self) -> bool:
        return bool(self._ready)

    def offer(self, item: Item) -> None:
        """Take in a new event: behind its instance when that is busy, else ready."""
        queue = self._waiting.get(item.instance)
        if queue is None:
            self._ready.append(item)
        else:
            queue.append(item)

    def take(self, limit: int, limit_bytes: int) -> dict[str, list[Item]]:
        """Up to `limit` ready events by instance, or as many as go into `limit_bytes`, but one at
        least; these instances are busy from here on."""
        group: dict[str, list[Item]] = {}
        count = size = 0
        while self._ready and count < limit:
            item = self._ready[0]
            size += item.weight
            if size > limit_bytes and count:
                break
            self._ready.popleft()
            members = group.get(item.instance)
            if members is not None:
                members.append(item)
            elif item.instance in self._waiting:
                self._waiting[item.instance].append(item)
                size -= item.weight
                continue
            else:
                group[item.instance] = [item]
                self._waiting[item.instance] = deque()
            count += 1
        return group

    def waiting(self, instance: str) -> list[Item]:
        """What waits for a busy instance."""
        return list(self._waiting.get(instance, ()))

    def release(self, instance: str, again: list[Item]) -> list[Item]:
        """The instance's group is through: `again`, then what waited for it, is ready."""
        ready = [*again, *self._waiting.pop(instance)]
        self._ready.extend(ready)
        return ready

    def drain(self) -> list[Item]:
        """Take out everything that is in no group."""
        left = list(self._ready)
        self._ready.clear()
        for queue in self._waiting.values():
            left += queue
            queue.clear()
        return left
