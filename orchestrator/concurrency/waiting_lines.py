"""Who runs and who waits, of the workflows that limit how many run at once: a copy of the bucket
WORKFLOW_PLACES in memory. Pure.

An entry is a place in line: made once, when an instance asks, and taken out when it ends. Those of
one row stand in the order in which the stream holds them, and the first so many have a place. An
entry only ever moves forward, so whoever has a place keeps it, and whoever reads the stream up to
an entry knows all that stand before it: to be behind can make it see more of them, never fewer.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple

from wf.protocol.subjects import is_name

_TURN = re.compile(r"[0-9]{1,18}\Z")  # fits in 64 bits


class Entry(NamedTuple):
    """A key of the bucket, taken apart; see orchestrator/machine/kernel/concurrency_slot.py."""

    namespace: str
    workflow: str
    hash: str
    instance: str
    turn: int

    @classmethod
    def parse(cls, key: str) -> Entry:
        """Raises ValueError for what is no such key."""
        namespace, workflow, hash_, instance, turn = key.split(".")
        if _TURN.match(turn) is None or not is_name(instance):
            raise ValueError(f"not an entry of the line: {key!r}")
        return cls(namespace, workflow, hash_, instance, int(turn))


def row_of(key: str) -> str:
    return key.rsplit(".", 2)[0]


class Row:
    __slots__ = ("line", "untold")

    def __init__(self) -> None:
        self.line: OrderedDict[str, bool] = OrderedDict()  # key → whether it was told of its place
        self.untold = 0


class Places:
    def __init__(self) -> None:
        self._rows: dict[str, Row] = {}

    def __contains__(self, key: object) -> bool:
        row = self._rows.get(row_of(key)) if isinstance(key, str) else None
        return row is not None and key in row.line

    def __len__(self) -> int:
        return sum(len(row.line) for row in self._rows.values())

    def clear(self) -> None:
        """Forget all."""
        self._rows.clear()

    def put(self, key: str) -> None:
        """An entry, behind all that were put before it. Raises ValueError for one that is none."""
        Entry.parse(key)
        row = self._rows.setdefault(row_of(key), Row())
        if key not in row.line:
            row.line[key] = False
            row.untold += 1

    def remove(self, key: str) -> None:
        """Take an entry out, if it is there."""
        name = row_of(key)
        row = self._rows.get(name)
        if row is None or key not in row.line:
            return
        row.untold -= not row.line.pop(key)
        if not row.line:
            del self._rows[name]

    def front(self, name: str, limit: int | None) -> list[str]:
        """Those of a row that have a place; None: there is no limit any more."""
        row = self._rows.get(name)
        return [] if row is None else list(islice(row.line, limit))

    def due(self, name: str, limit: int | None) -> list[str]:
        """Those of them that were not told yet, in order."""
        row = self._rows.get(name)
        if row is None or not row.untold:
            return []
        return [key for key, told in islice(row.line.items(), limit) if not told]

    def told(self, keys: Iterable[str]) -> None:
        """They know of their places. Forgetting it does no harm: they are told once more."""
        for key in keys:
            row = self._rows.get(row_of(key))
            if row is not None and row.line.get(key) is False:
                row.line[key] = True
                row.untold -= 1

    def waiting(self) -> Iterator[str]:
        """The rows in which somebody was not told yet."""
        return iter([name for name, row in self._rows.items() if row.untold])
