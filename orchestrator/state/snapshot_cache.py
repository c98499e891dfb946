"""Records of recently active instances, bounded by bytes; the oldest used leave first."""

from __future__ import annotations

from collections import OrderedDict

from orchestrator.state.commit import Record

OVERHEAD_BYTES = 2048  # Python objects of a small snapshot, on top of its JSON times FACTOR
FACTOR = 4


class Cache:
    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._bytes = 0
        self._records: OrderedDict[str, Record] = OrderedDict()

    def get(self, instance: str) -> Record | None:
        record = self._records.get(instance)
        if record is not None:
            self._records.move_to_end(instance)
        return record

    def put(self, instance: str, record: Record) -> None:
        self.drop(instance)
        record.doubtful = True
        self._records[instance] = record
        self._bytes += _cost(record)
        while self._bytes > self._limit and len(self._records) > 1:
            _, oldest = self._records.popitem(last=False)
            self._bytes -= _cost(oldest)

    def drop(self, instance: str) -> None:
        record = self._records.pop(instance, None)
        if record is not None:
            self._bytes -= _cost(record)

    def clear(self) -> None:
        self._records.clear()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._records)


def _cost(record: Record) -> int:
    return record.size * FACTOR + OVERHEAD_BYTES
