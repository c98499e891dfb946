"""The copy of WORKFLOW_PLACES: never too many, in order, nobody forgotten."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from orchestrator.concurrency.waiting_lines import Entry, Places, row_of

ROW = "default.flow.all"


def key(instance: str, turn: int = 1) -> str:
    return f"{ROW}.{instance}.{turn}"


def test_the_first_so_many_have_a_place() -> None:
    places = Places()
    for instance in "abc":
        places.put(key(instance))
    assert places.due(ROW, 2) == [key("a"), key("b")]
    places.told([key("a"), key("b")])
    assert places.due(ROW, 2) == []
    places.remove(key("a"))
    assert places.due(ROW, 2) == [key("c")]
    assert places.front(ROW, 2) == [key("b"), key("c")]
    assert places.due(ROW, None) == [key("c")]
    assert list(places.waiting()) == [ROW]
    places.told([key("c"), key("gone")])
    assert list(places.waiting()) == []


def test_one_that_is_put_again_keeps_its_place_and_knows_of_it() -> None:
    places = Places()
    for instance in "ab":
        places.put(key(instance))
    places.told([key("a")])
    places.put(key("a"))
    assert places.due(ROW, 1) == []
    assert places.front(ROW, 1) == [key("a")]
    assert len(places) == 2


def test_who_is_gone_leaves_nothing() -> None:
    places = Places()
    places.put(key("a"))
    places.remove(key("b"))
    places.remove(key("a"))
    places.remove(key("a"))
    assert not places
    assert key("a") not in places
    assert places.due(ROW, 1) == places.front(ROW, 1) == []


@pytest.mark.parametrize("odd", ["a", "a.b.c.d", "a.b.c.d.e", "a.b.c.d.1.2", ""])
def test_what_is_no_entry_is_refused(odd: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Places().put(odd)


def test_an_entry_taken_apart() -> None:
    assert Entry.parse(key("i", 3)) == ("default", "flow", "all", "i", 3)
    assert row_of(key("i", 3)) == ROW


class Reader:
    """One orchestrator: what it has read, up to where."""

    def __init__(self) -> None:
        self.places = Places()
        self.known = 0


class Line:
    """The bucket, its consumer, and the instances; whoever acts may die between any two steps."""

    def __init__(self, limit: int, readers: int) -> None:
        self.limit = limit
        self.stream: list[tuple[str, bool]] = []  # (key, whether it came) by sequence
        self.pending: set[int] = set()  # of the consumer: delivered in any order, perhaps twice
        self.readers = [Reader() for _ in range(readers)]
        self.running: list[str] = []
        self.served: list[str] = []  # in the order of their grants
        self.asked: list[str] = []
        self.ended: set[str] = set()
        self.told: dict[str, int] = {}

    def ask(self, name: str) -> None:
        """Stored once: it expects to be the first message of its subject."""
        if any(other == key(name) for other, _ in self.stream):
            return
        self._store(key(name), True)
        self.asked.append(name)

    def leave(self, name: str) -> None:
        """The instance has ended; sent again, that changes nothing."""
        self.ended.add(name)
        if name in self.running:
            self.running.remove(name)
        self._store(key(name), False)

    def _store(self, text: str, came: bool) -> None:
        self.stream.append((text, came))
        self.pending.add(len(self.stream))

    def read(self, reader: Reader, up_to: int) -> None:
        """As the bucket is read: of each key only the last message is left."""
        last = {text: n for n, (text, _) in enumerate(self.stream, 1)}
        for n in range(reader.known + 1, up_to + 1):
            text, came = self.stream[n - 1]
            if last[text] == n:
                (reader.places.put if came else reader.places.remove)(text)
        reader.known = max(reader.known, up_to)

    def handle(self, reader: Reader, sequence: int, dies: str) -> None:
        """One message of the consumer, taken by one orchestrator."""
        if sequence not in self.pending:
            return
        self.read(reader, len(self.stream))
        if dies != "before":
            due = reader.places.due(ROW, self.limit)
            for text in due:
                self._grant(Entry.parse(text).instance)
            if dies == "":
                reader.places.told(due)
                self.pending.discard(sequence)
                return
        reader.places.clear()
        reader.known = 0

    def _grant(self, name: str) -> None:
        """The instance takes what is its own, once."""
        self.told[name] = self.told.get(name, 0) + 1
        if name in self.ended or name in self.running:
            return
        self.running.append(name)
        self.served.append(name)
        assert len(self.running) <= self.limit, "too many run"
        before = self.asked[: self.asked.index(name)]
        left = [other for other in before if other not in self.ended]
        assert len(left) < self.limit, "it has overtaken somebody"


MOVES = st.lists(
    st.tuples(
        st.sampled_from(["ask", "ask", "leave", "handle", "handle", "read", "quit"]),
        st.integers(0, 30),
        st.integers(0, 2),
        st.sampled_from(["", "", "", "before", "after"]),
    ),
    max_size=60,
)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(MOVES, st.integers(1, 3))
def test_whatever_happens_never_too_many_in_order_and_nobody_is_lost(
    moves: list[tuple[Any, ...]], limit: int
) -> None:
    line = Line(limit, 3)
    for what, number, who, dies in moves:
        reader = line.readers[who]
        if what == "ask":
            line.ask(f"i{number}")
        elif what == "leave" and line.running:
            line.leave(line.running[number % len(line.running)])
        elif what == "quit" and line.asked:  # cancelled, perhaps while it waits; or said again
            line.leave(line.asked[number % len(line.asked)])
        elif what == "read" and line.stream:
            line.read(reader, max(reader.known, number % (len(line.stream) + 1)))
        elif what == "handle" and line.pending:
            line.handle(reader, sorted(line.pending)[number % len(line.pending)], dies)
    assume(line.asked)
    for turn in range(len(line.asked) + len(line.stream) + 1):
        for sequence in sorted(line.pending):
            line.handle(line.readers[turn % 3], sequence, "")
        expected = [name for name in line.asked if name not in line.ended][:limit]
        assert sorted(line.running) == sorted(expected), "somebody waits although there is room"
        if not line.running:
            break
        line.leave(line.running[0])
    assert set(line.asked) == line.ended
