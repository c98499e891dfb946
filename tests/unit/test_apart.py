"""What is set apart from a snapshot: a large value that stays, once; and all of it comes back."""

from __future__ import annotations

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.definition import parse
from orchestrator.machine import advance
from orchestrator.state import commit as records
from orchestrator.state.commit import Commit, Record
from orchestrator.state.large_values import Rules
from wf.jetstream.port import Stored

RULES = Rules(snapshot=100, value=10, rent=50)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=40),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=20,
)


class Shelf:
    """The KV for one instance: stores as the engine does, and reads as a successor does."""

    def __init__(self, rules: Rules = RULES) -> None:
        self.rules = rules
        self.values: dict[str, bytes] = {}
        self.value = b""
        self.bytes = 0
        self.messages = 0
        self.record = records.absent()

    def store(self, snapshot: dict) -> None:
        number = self.record.commit_number + 1
        commit = Commit(number, f"t{number}")
        sealed = records.seal(snapshot, commit, self.record.watch, self.rules)
        for key, data in sealed.beside:
            assert key not in self.values
            self.values[key] = data
            self._count(data)
        self.value = sealed.value
        self._count(sealed.value)
        for key in commit.dropped:
            del self.values[key]
        self.record = records.built(snapshot, commit, sealed, number)

    def _count(self, data: bytes) -> None:
        self.bytes += len(data)
        self.messages += 1

    def read(self) -> Record:
        record = records.decode(Stored("$KV.WORKFLOW_STATES.i", self.value, None, 1, 0))
        assert record.commit is not None
        beside = {key: self.values[key] for key in record.commit.apart}
        assert records.complete(record, beside) == []
        assert beside.keys() == self.values.keys(), "nothing is left that nobody names"
        return record


def running(**more: object) -> dict:
    names = {"workflow": "w", "namespace": "default", "version": "1"}
    tables: dict = {"frames": {}, "runs": {}, "timers": {}}
    return {"id": "i", "status": "running", **names, **tables, **more}


def test_a_small_snapshot_is_stored_whole_for_ever():
    shelf = Shelf(Rules(snapshot=300, value=10, rent=50))
    for at in range(50):
        shelf.store(running(input="x" * 20, at=at))
    assert shelf.messages == 50
    assert not shelf.values


def test_a_large_value_that_stays_is_stored_once_beside_the_snapshot():
    shelf, large = Shelf(), "x" * 1000
    for at in range(100):
        shelf.store(running(input=large, frames={"1": {"input": large, "at": at}}))
    assert len(shelf.values) == 1
    assert shelf.bytes < 100 * 250 + 3 * 1000
    assert shelf.read().snapshot == running(input=large, frames={"1": {"input": large, "at": 99}})


def test_a_large_value_that_changes_every_time_is_never_set_apart():
    shelf = Shelf()
    for at in range(50):
        shelf.store(running(context=[at] * 1000))
    assert shelf.messages == 50


def test_what_nothing_names_any_more_is_dropped():
    shelf, one, other = Shelf(), ["x" * 500], ["y" * 500]
    for _ in range(3):
        shelf.store(running(input=one, context=other))
    assert len(shelf.values) == 2
    shelf.store(running(input=one))
    assert len(shelf.values) == 1
    assert shelf.read().snapshot == running(input=one)


def test_an_instance_that_has_ended_is_stored_whole_and_leaves_nothing_beside():
    shelf, large = Shelf(), "x" * 1000
    for _ in range(3):
        shelf.store(running(input=large))
    assert shelf.values
    shelf.store({**running(input=large), "status": "completed"})
    assert not shelf.values
    assert orjson.loads(shelf.value)["input"] == large


def test_a_successor_goes_on_with_what_is_beside():
    shelf, large = Shelf(), ["x" * 1000]
    for _ in range(3):
        shelf.store(running(input=large))
    (key,) = shelf.values
    shelf.record = shelf.read()
    snapshot = shelf.record.snapshot
    assert snapshot is not None
    shelf.store({**snapshot, "at": 1})
    assert list(shelf.values) == [key]
    assert shelf.read().snapshot == running(input=large, at=1)


def test_a_value_that_is_gone_is_null_and_told():
    shelf = Shelf()
    for _ in range(3):
        shelf.store(running(input="x" * 1000, frames={"1": {"items": ["y" * 1000]}}))
    record = records.decode(Stored("$KV.WORKFLOW_STATES.i", shelf.value, None, 1, 0))
    (gone, *_) = shelf.values
    del shelf.values[gone]
    assert records.complete(record, shelf.values) == [gone]
    assert record.snapshot is not None
    assert None in (record.snapshot["input"], record.snapshot["frames"]["1"]["items"])


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.dictionaries(st.sampled_from("abcdef"), JSON), st.booleans())))
def test_whatever_is_stored_is_read(steps):
    """Frames and top-level values come, stay and go, over crashes: each read gives what was."""
    shelf, snapshot = Shelf(Rules(snapshot=0, value=8, rent=20)), running()
    for changed, crash in steps:
        frames = {**snapshot["frames"]}
        for name, value in changed.items():
            if value is None:
                frames.pop(name, None)
                snapshot.pop(f"v{name}", None)
            else:
                frames[name] = {**frames.get(name, {}), "last": value, "same": value}
                snapshot = {**snapshot, f"v{name}": value}
        snapshot = {**snapshot, "frames": frames}
        shelf.store(snapshot)
        record = shelf.read()
        assert record.snapshot == snapshot
        if crash:
            shelf.record, snapshot = record, record.snapshot


def iterations(items: list, *, concurrency: int | None = None) -> tuple[int, int]:
    """Bytes that are stored while a `for` runs over the items, and how many messages."""
    loop: dict = {"for": {"in": "."}, "do": [{"c": {"call": "w", "with": {"n": "${ $item }"}}}]}
    if concurrency is not None:
        loop["metadata"] = {"wf": {"concurrency": concurrency}}
    document = {"dsl": "1.0.0", "namespace": "default", "name": "f", "version": "1.0.0"}
    definition = parse({"document": document, "do": [{"l": loop}]})
    shelf = Shelf(Rules())
    start = {
        "kind": "start",
        "id": "i",
        "workflow": "f",
        "namespace": "default",
        "version": "1.0.0",
    }
    state = advance(definition, None, {**start, "input": items}, 1).snapshot
    for run in range(1, len(items) + 1):
        shelf.store(state)
        done = {"kind": "result", "activity": "w", "run": run, "attempt": 1, "output": f"{run:09}"}
        state = advance(definition, state, {**done, "outcome": "completed"}, 1).snapshot
    shelf.store(state)
    assert state["status"] == "completed"
    assert shelf.values == {}
    return shelf.bytes, shelf.messages


def test_the_bytes_of_a_loop_grow_with_its_items_and_not_with_their_square():
    small, few = iterations([f"parcel-{n:08}" for n in range(1000)])
    large, many = iterations([f"parcel-{n:08}" for n in range(8000)])
    assert large < 9 * small
    assert many < 8.1 * few


def test_the_bytes_of_a_loop_side_by_side_too():
    small, _ = iterations([f"parcel-{n:08}" for n in range(1000)], concurrency=20)
    large, _ = iterations([f"parcel-{n:08}" for n in range(4000)], concurrency=20)
    assert large < 6 * small


def test_a_place_in_line_stays_in_the_snapshot_whatever_waits_with_it():
    """Whoever looks whether an instance wants its place reads the snapshot as it is stored."""
    shelf = Shelf()
    slot = {"turn": 1, "state": "held", "retry": {"event": {"input": "x" * 500}}}
    other = {"data": "y" * 500}
    for number in range(5):
        shelf.store(running(n=number, slot=slot, other=other))
    stored = orjson.loads(shelf.value)
    assert stored["slot"] == slot
    assert "other" not in stored
    assert shelf.read().snapshot["slot"] == slot
