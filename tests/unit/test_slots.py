"""What can be read from a slot, whenever its writer is killed."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wf.process import status_page
from wf.process.status_page import ENTRY_BYTES, HEADER_BYTES, Phase, SlotTask, SlotWriter

CAPACITY = 3
REPLY = "$JS.ACK.ACTIVITY_TASKS.activity-mail.1.{0}.{0}.1732500000000000000.17"


class Killed(BaseException):
    """The writer dies here."""


class Stores:
    """Memory that counts 8-byte stores, and dies before the one that is one too many."""

    def __init__(self, limit: int) -> None:
        self.data = bytearray(status_page.slot_bytes(CAPACITY))
        self.limit = limit

    def store(self, at: int, value: bytes) -> None:
        for begin in range(0, len(value), status_page.WORD):
            if self.limit == 0:
                raise Killed
            self.limit -= 1
            piece = value[begin : begin + status_page.WORD]
            self.data[at + begin : at + begin + len(piece)] = piece


class Recorder:
    """Stands for one of the writer's views of its memory."""

    def __init__(self, stores: Stores, code: str) -> None:
        self._stores = stores
        self._code = code

    def __setitem__(self, key: Any, value: Any) -> None:
        if isinstance(key, slice):
            assert key.start % status_page.WORD == 0
            assert key.stop - key.start == len(value)
            self._stores.store(key.start, bytes(value))
        else:
            self._stores.store(key * status_page.WORD, struct.pack(self._code, value))


def writer_on(stores: Stores) -> SlotWriter:
    writer = SlotWriter(bytearray(status_page.slot_bytes(CAPACITY)), CAPACITY)
    for name, code in (("_bytes", ""), ("_words", "<Q"), ("_floats", "<d")):
        setattr(writer, name, Recorder(stores, code))
    return writer


def read(data: bytes) -> list[SlotTask]:
    header = status_page.parse_header(data[:HEADER_BYTES])
    assert header is not None
    return status_page.parse_tasks(data[HEADER_BYTES : HEADER_BYTES + header.used * ENTRY_BYTES])


def start(
    writer: SlotWriter, sequence: int, reply: str, started_s: float, deadline_s: float
) -> int:
    place = writer.hold(sequence, reply)
    writer.started(place, started_s, deadline_s)
    return place


steps = st.lists(
    st.tuples(st.sampled_from(["start", "end", "store", "tick"]), st.integers(0, 2)), max_size=30
)


@settings(max_examples=60, deadline=None)
@given(steps=steps, data=st.data())
def test_whenever_the_writer_dies_every_started_task_is_read_whole_and_no_other(
    steps: list[tuple[str, int]], data: st.DataObject
) -> None:
    total = 400
    limit = data.draw(st.integers(6, total))
    stores = Stores(limit)
    writer = writer_on(stores)
    running: dict[int, SlotTask] = {}  # place → what must be there
    ended: dict[int, SlotTask] = {}
    between: set[int] = set()  # sequences that the cut leaves open: there or not, but whole
    known: dict[int, SlotTask] = {}
    writer.begin(1, 0, 0.0)
    try:
        for number, (what, choice) in enumerate(steps, start=1):
            between.clear()
            if what == "start" and len(running) + len(ended) < CAPACITY:
                task = SlotTask(number, REPLY.format("7" * choice), number, number + 0.5, False)
                known[number] = task
                between.add(number)
                place = writer.hold(number, task.reply)
                running[place] = task
                between.clear()
                writer.started(place, task.started_s, task.deadline_s)
            elif what == "end" and running:
                place = sorted(running)[choice % len(running)]
                task = running.pop(place)
                ended[place] = task
                between.add(task.sequence)
                writer.ended(place)
            elif what == "store" and ended:
                place = sorted(ended)[choice % len(ended)]
                between.add(ended.pop(place).sequence)
                writer.stored(place, failed=False)
            else:
                writer.tick(float(number))
            between.clear()
    except Killed:
        pass
    found = {task.sequence: task for task in read(bytes(stores.data))}
    for task in [*running.values(), *ended.values()]:
        if task.sequence not in between:
            assert task.sequence in found
            assert task.sequence in between or found[task.sequence].ended == (
                task.sequence in {one.sequence for one in ended.values()}
            )
    assert len(found) <= CAPACITY
    for sequence, task in found.items():
        whole = known[sequence]
        assert task.reply == whole.reply
        assert task.waits or (task.started_s, task.deadline_s) == (
            whole.started_s,
            whole.deadline_s,
        )
        expected = {t.sequence for t in running.values()} | {t.sequence for t in ended.values()}
        assert sequence in expected | between


@pytest.fixture
def fd() -> Iterator[int]:
    descriptor = status_page.create()
    yield descriptor
    os.close(descriptor)


def test_a_slot_that_nobody_has_begun_says_nothing(fd: int) -> None:
    assert status_page.read_header(fd) is None
    assert status_page.read_dump(fd) == ""


def test_what_is_written_can_be_read_through_the_descriptor(fd: int) -> None:
    writer = status_page.open_writer(fd, 10, 4, 1.0)
    writer.enter(Phase.RUNNING)
    writer.tick(2.0, held=3, lag_s=0.25)
    writer.taken(1.5)
    first = start(writer, 11, REPLY.format(11), 1.0, 2.0)
    second = start(writer, 12, REPLY.format(12), 1.1, 2.1)
    start(writer, 13, REPLY.format(13), 1.2, 2.2)
    writer.ended(first)
    writer.stored(first, failed=True)
    writer.ended(second)
    writer.hold(14, REPLY.format(14))
    writer.tick(2.0, held=3, lag_s=0.25)
    header = status_page.read_header(fd)
    assert header is not None
    assert header.pid == os.getpid()
    assert (header.generation, header.capacity, header.used) == (4, 10, 3)
    assert (header.tick_s, header.held, header.lag_s, header.taken_s) == (2.0, 3, 0.25, 1.5)
    assert (header.phase, header.done, header.failed) == (Phase.RUNNING, 1, 1)
    assert header.running == 1
    waiting, *begun = status_page.read_tasks(fd, header)
    assert waiting == SlotTask(14, REPLY.format(14), 0.0, 0.0, False)
    assert (waiting.waits, waiting.runs) == (True, False)
    assert [one.runs for one in begun] == [False, True]
    assert begun == [
        SlotTask(12, REPLY.format(12), 1.1, 2.1, True),
        SlotTask(13, REPLY.format(13), 1.2, 2.2, False),
    ]


def test_a_dump_lies_behind_the_slot_and_disturbs_nothing(fd: int) -> None:
    writer = status_page.open_writer(fd, 100, 0, 1.0)
    start(writer, 11, REPLY.format(11), 1.0, 2.0)
    os.write(fd, b"Current thread:\n  File x.py\n")
    os.write(fd, b"x" * status_page.DUMP_BYTES)
    os.write(fd, b"the end\n")
    dump = status_page.read_dump(fd)
    assert dump.endswith("xthe end")
    assert len(dump) <= status_page.DUMP_BYTES
    header = status_page.read_header(fd)
    assert header is not None
    assert len(status_page.read_tasks(fd, header)) == 1


def test_a_task_without_a_place_is_left_to_the_broker(fd: int) -> None:
    writer = status_page.open_writer(fd, 1, 0, 1.0)
    assert start(writer, 1, "x" * (status_page.REPLY_BYTES + 1), 1.0, 2.0) == status_page.NO_PLACE
    assert start(writer, 2, "reply", 1.0, 2.0) == 0
    assert start(writer, 3, "reply", 1.0, 2.0) == status_page.NO_PLACE
    writer.ended(status_page.NO_PLACE)
    writer.stored(status_page.NO_PLACE, failed=False)
    header = status_page.read_header(fd)
    assert header is not None
    assert [task.sequence for task in status_page.read_tasks(fd, header)] == [2]
