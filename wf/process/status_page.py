"""Slots: what a child is doing, in shared memory that can be read after a SIGKILL.

The supervisor makes one in-memory file per child before the fork. The child is its only writer:
no locks, and what has to be whole is made so by the order of single 8-byte stores. Layout, in
words of 8 bytes, little endian:

    header   MAGIC pid generation capacity used tick phase done failed running taken held lag
    entry    sequence checksum | sequence length reply… | start deadline ended

An entry is valid only when its first word, written last, is a sequence whose checksum is right. A
task is noted when it comes, and has started once its start, written after the deadline, is not 0.
Behind the slot, the same file takes the stack dumps of faulthandler. Times are seconds of the
monotonic clock, which is one for the whole host.
"""

from __future__ import annotations

import mmap
import os
import struct
import zlib
from dataclasses import dataclass
from enum import IntEnum

WORD = 8
HEADER_WORDS = 16
ENTRY_WORDS = 40
HEADER_BYTES = HEADER_WORDS * WORD
ENTRY_BYTES = ENTRY_WORDS * WORD
DUMP_BYTES = 32 * 1024  # the end of a stack dump that is kept

_MAGIC = 0x0231_746F_6C53_4657  # "WFSlot1", layout 2
(_AT_MAGIC, _PID, _GENERATION, _CAPACITY, _USED, _TICK, _PHASE, _DONE, _FAILED) = range(9)
(_RUNNING, _TAKEN, _HELD, _LAG) = range(9, 13)
_HEADER = struct.Struct("<QQQQQdQQQQdQd")

# Of an entry; its sequence is the first word.
_CHECKSUM, _BODY_AT = 1, 2
_BODY_OFFSET = _BODY_AT * WORD
_START, _DEADLINE, _ENDED = range(ENTRY_WORDS - 3, ENTRY_WORDS)
_BODY = struct.Struct("<QQ")
_TIMES = struct.Struct("<ddQ")
_pack, _checksum = _BODY.pack, zlib.crc32
REPLY_BYTES = (_START - _BODY_AT) * WORD - _BODY.size
NO_PLACE = -1


class Phase(IntEnum):
    """How far a child has come; `NONE`: it has not begun to write its slot."""

    NONE = 0
    BOOTING = 1
    RUNNING = 2
    DRAINING = 3
    LEAVING = 4  # no loop turns any more


@dataclass(frozen=True, slots=True)
class Header:
    """What a child says of itself."""

    pid: int
    generation: int
    capacity: int  # tasks that it has room to note
    used: int  # places that were ever in use, from the first on
    tick_s: float  # when its event loop last turned
    phase: Phase
    done: int  # tasks whose results are stored
    failed: int  # of these, the ones that did not succeed
    running: int
    taken_s: float  # when it last took tasks from the broker; 0.0: never
    held: int  # tasks in hand at the last tick, the waiting ones too
    lag_s: float  # how late the last tick was


@dataclass(frozen=True, slots=True)
class SlotTask:
    """One task that a worker holds."""

    sequence: int  # in ACTIVITY_TASKS
    reply: str  # where its ack goes
    started_s: float  # 0.0: it waits for its turn
    deadline_s: float  # 0.0 until it has started
    ended: bool  # its outcome is known, and may or may not be stored

    @property
    def waits(self) -> bool:
        return self.started_s == 0.0

    @property
    def runs(self) -> bool:
        return self.started_s != 0.0 and not self.ended


def create() -> int:
    """A new slot, empty: its descriptor, for the parent and the child. Raises OSError."""
    return os.memfd_create("wf-slot", os.MFD_CLOEXEC)


class SlotWriter:
    """The child's side. Costs about a microsecond for the start and the end of a task."""

    __slots__ = (
        "_bytes", "_capacity", "_done", "_failed", "_floats", "_free", "_running", "_used", "_words"
    )  # fmt: skip

    def __init__(self, buffer: mmap.mmap | bytearray, capacity: int) -> None:
        self._bytes = memoryview(buffer)
        self._words = self._bytes.cast("Q")
        self._floats = self._bytes.cast("d")
        self._free: list[int] = []  # places that were in use before
        self._used = self._running = self._done = self._failed = 0
        self._capacity = capacity

    def begin(self, pid: int, generation: int, now_s: float) -> None:
        """Make the header valid."""
        words = self._words
        words[_PID], words[_GENERATION], words[_CAPACITY] = pid, generation, self._capacity
        self._floats[_TICK] = now_s
        words[_PHASE] = Phase.BOOTING
        words[_AT_MAGIC] = _MAGIC

    def tick(self, now_s: float, held: int = 0, lag_s: float = 0.0) -> None:
        """The event loop turns."""
        words = self._words
        self._floats[_LAG] = lag_s
        words[_HELD], words[_DONE], words[_FAILED] = held, self._done, self._failed
        self._floats[_TICK] = now_s

    def enter(self, phase: Phase) -> None:
        self._words[_PHASE] = phase

    def taken(self, now_s: float) -> None:
        """Tasks came from the broker."""
        self._floats[_TAKEN] = now_s

    def hold(self, sequence: int, reply: str) -> int:
        """A task has come; its place, for the calls below."""
        text = reply.encode()
        if len(text) > REPLY_BYTES:
            return NO_PLACE  # not noted: after a crash it waits for ack_wait
        if self._free:
            place = self._free.pop()
        elif self._used < self._capacity:
            place = self._used
            self._used += 1
            self._words[_USED] = self._used
        else:
            return NO_PLACE
        first = HEADER_WORDS + place * ENTRY_WORDS
        words = self._words
        body = _pack(sequence, len(text)) + text
        at = first * WORD + _BODY_OFFSET
        self._bytes[at : at + len(body)] = body
        words[first + _START] = words[first + _DEADLINE] = words[first + _ENDED] = 0
        words[first + _CHECKSUM] = _checksum(body)
        words[first] = sequence  # last: now it is valid
        return place

    def started(self, place: int, started_s: float, deadline_s: float) -> None:
        """It is about to run; to be called once per `hold`."""
        if place == NO_PLACE:
            return
        first = HEADER_WORDS + place * ENTRY_WORDS
        self._floats[first + _DEADLINE] = deadline_s
        self._floats[first + _START] = started_s
        self._running += 1
        self._words[_RUNNING] = self._running

    def ended(self, place: int) -> None:
        """Its outcome is known; to be called once per `started`."""
        if place == NO_PLACE:
            return
        self._words[HEADER_WORDS + place * ENTRY_WORDS + _ENDED] = 1
        self._running -= 1
        self._words[_RUNNING] = self._running

    def stored(self, place: int, failed: bool) -> None:
        """Its result is stored and its task acknowledged. The counts are shown at the next tick."""
        self._done += 1
        if failed:
            self._failed += 1
        self.forget(place)

    def forget(self, place: int) -> None:
        """The task is no longer ours to report."""
        if place != NO_PLACE:
            self._words[HEADER_WORDS + place * ENTRY_WORDS] = 0
            self._free.append(place)


def slot_bytes(capacity: int) -> int:
    """Size of a slot for so many tasks, in whole pages."""
    pages = -(-(HEADER_BYTES + capacity * ENTRY_BYTES) // mmap.PAGESIZE)
    return pages * mmap.PAGESIZE


def unseen(capacity: int = 64) -> SlotWriter:
    """A slot that nobody looks at."""
    return SlotWriter(bytearray(slot_bytes(capacity)), capacity)


def open_writer(fd: int | None, capacity: int, generation: int, now_s: float) -> SlotWriter:
    """The slot behind `fd`, made large enough; without one, memory that nobody looks at."""
    size = slot_bytes(capacity)
    if fd is None:
        return unseen(capacity)
    os.ftruncate(fd, size)
    os.lseek(fd, 0, os.SEEK_END)  # dumps go behind it
    writer = SlotWriter(mmap.mmap(fd, size), capacity)
    writer.begin(os.getpid(), generation, now_s)
    return writer


# The other side: of a child that runs, or has ended.


def read_header(fd: int) -> Header | None:
    """None while the child has not begun its slot."""
    return parse_header(os.pread(fd, HEADER_BYTES, 0))


def read_tasks(fd: int, header: Header) -> list[SlotTask]:
    """The valid entries: those that wait, then those that have started, the oldest first."""
    return parse_tasks(os.pread(fd, min(header.used, header.capacity) * ENTRY_BYTES, HEADER_BYTES))


def read_dump(fd: int) -> str:
    """The end of what faulthandler wrote; "" if nothing."""
    header = read_header(fd)
    begin = 0 if header is None else slot_bytes(header.capacity)
    end = os.fstat(fd).st_size
    begin = max(begin, end - DUMP_BYTES)
    return os.pread(fd, max(0, end - begin), begin).decode(errors="replace").strip("\0\n ")


def parse_header(data: bytes) -> Header | None:
    if len(data) < HEADER_BYTES:
        return None
    magic, pid, generation, capacity, used, tick_s, phase, done, failed, *rest = (
        _HEADER.unpack_from(data)
    )
    if magic != _MAGIC:
        return None
    running, taken_s, held, lag_s = rest
    known = Phase(phase) if phase <= max(Phase) else Phase.NONE
    return Header(
        pid, generation, capacity, used, tick_s, known, done, failed, running, taken_s, held, lag_s
    )


def parse_tasks(data: bytes) -> list[SlotTask]:
    """The valid ones of these entries."""
    tasks = []
    for start in range(0, len(data) - ENTRY_BYTES + 1, ENTRY_BYTES):
        task = _parse_entry(data[start : start + ENTRY_BYTES])
        if task is not None:
            tasks.append(task)
    return sorted(tasks, key=lambda task: task.started_s)


def _parse_entry(entry: bytes) -> SlotTask | None:
    sequence, checksum = struct.unpack_from("<QQ", entry)
    if sequence == 0:
        return None
    again, length = _BODY.unpack_from(entry, _BODY_OFFSET)
    if again != sequence or length > REPLY_BYTES:
        return None
    body = entry[_BODY_OFFSET : _BODY_OFFSET + _BODY.size + length]
    if _checksum(body) != checksum:
        return None
    started_s, deadline_s, ended = _TIMES.unpack_from(entry, _START * WORD)
    return SlotTask(sequence, body[_BODY.size :].decode(), started_s, deadline_s, ended != 0)
