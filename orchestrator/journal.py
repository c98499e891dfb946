"""Which events were being applied when the process died: a memory-mapped file of sequences.

The group's events are written before they are applied and cleared after. A mapped file survives
SIGKILL (the page cache keeps it); a power cut may lose it, and then only costs the suspicion.

After a crash the successor reads its `suspects`: it applies these one at a time, each marked as
being alone, so that an event that kills the process is convicted and the rest goes on.
"""

from __future__ import annotations

import mmap
import os
import struct
from pathlib import Path

import orjson

Event = tuple[str, int]  # stream, sequence

CONVICTED_AFTER = 2  # deaths alone
CAPACITY = 4096
_HEADER = struct.Struct("<QQ")  # number of entries, 1 when the entry is alone
_ENTRY = struct.Struct("<QQ")  # stream index, sequence


class Journal:
    """The slot of one orchestrator process. `streams` gives the order of the stream indexes."""

    def __init__(self, path: Path, streams: tuple[str, ...]) -> None:
        self._streams = streams
        self._index = {name: n for n, name in enumerate(streams)}
        self._deaths_path = path.with_suffix(".deaths.json")
        size = _HEADER.size + CAPACITY * _ENTRY.size
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(descriptor, size)
            self._map = mmap.mmap(descriptor, size)
        finally:
            os.close(descriptor)
        self.suspects: set[Event] = set()
        self._deaths: dict[Event, int] = self._read_deaths()
        self._recover()

    def _recover(self) -> None:
        """Turn what the predecessor left into suspects, and count a death alone."""
        left, alone = self._entries()
        if alone:
            for event in left:
                self._deaths[event] = self._deaths.get(event, 0) + 1
        self.suspects = set(left) | set(self._deaths)
        if left:
            self._write_deaths()
            self.clear()

    def _entries(self) -> tuple[list[Event], bool]:
        count, alone = _HEADER.unpack_from(self._map, 0)
        events: list[Event] = []
        for n in range(min(count, CAPACITY)):
            index, sequence = _ENTRY.unpack_from(self._map, _HEADER.size + n * _ENTRY.size)
            if index < len(self._streams):
                events.append((self._streams[index], sequence))
        return events, bool(alone)

    def mark(self, events: list[Event], *, alone: bool = False) -> None:
        """About to apply these. Entries first, then their number: a torn write names fewer."""
        flat: list[int] = []
        for stream, sequence in events[:CAPACITY]:
            flat += (self._index[stream], sequence)
        struct.pack_into(f"<{len(flat)}Q", self._map, _HEADER.size, *flat)
        _HEADER.pack_into(self._map, 0, len(flat) // 2, int(alone))

    def clear(self) -> None:
        """Nothing is being applied."""
        _HEADER.pack_into(self._map, 0, 0, 0)

    def is_convicted(self, event: Event) -> bool:
        """True when the event killed the process often enough while it was alone."""
        return self._deaths.get(event, 0) >= CONVICTED_AFTER

    def deaths(self, event: Event) -> int:
        return self._deaths.get(event, 0)

    def acquit(self, event: Event) -> None:
        """The event was applied, or set aside: it is no suspect any more."""
        self.suspects.discard(event)
        if self._deaths.pop(event, None) is not None:
            self._write_deaths()

    def _read_deaths(self) -> dict[Event, int]:
        try:
            rows = orjson.loads(self._deaths_path.read_bytes())
        except FileNotFoundError:
            return {}
        except orjson.JSONDecodeError:
            return {}  # torn by a power cut: suspicion starts anew
        return {(stream, sequence): deaths for stream, sequence, deaths in rows}

    def _write_deaths(self) -> None:
        rows = [[*event, deaths] for event, deaths in self._deaths.items()]
        temporary = self._deaths_path.with_suffix(".new")
        temporary.write_bytes(orjson.dumps(rows))
        temporary.replace(self._deaths_path)

    def close(self) -> None:
        self._map.close()
