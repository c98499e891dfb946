"""The stored record: what is written is what is read, and when its outbox counts as published."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.state import commit as records
from orchestrator.state.commit import Commit
from wf.jetstream.port import Stored

COMMIT = Commit(
    number=4,
    token="t",
    events=[("EVENTS", 9), ("TIMERS", 3)],
    history=[(1, "EVENTS", 9, [{"type": "run.completed"}], {})],
    tasks=[2],
    timers=[3],
    cancelled=[1],
    dead=[("crashed", "pay", {"signal": 9})],
    trace="00-a-b-01",
)

SNAPSHOT = {
    "id": "i",
    "status": "running",
    "workflow": "w",
    "namespace": "default",
    "version": "1",
    "frames": {},
    "runs": {},
    "timers": {},
}


def stored(data: bytes, headers: dict[str, str] | None = None) -> Stored:
    return Stored("$KV.WORKFLOW_STATES.i", data, headers, 12, 0)


def test_what_is_written_is_what_is_read() -> None:
    record = records.decode(stored(records.encode(SNAPSHOT, COMMIT)))
    assert record.snapshot == SNAPSHOT
    assert record.commit == COMMIT
    assert record.revision == 12
    assert not record.flushed


@pytest.mark.parametrize("key", [*sorted(SNAPSHOT.keys() - {"id"}), "commit"])
@pytest.mark.parametrize("value", [None, 5, "x", [], {"a": 1}, {"number": 1}])
def test_what_is_no_state_is_told_with_its_place(key: str, value: object) -> None:
    state = orjson.loads(records.encode(SNAPSHOT, COMMIT))
    if isinstance(value, str) and isinstance(state[key], str) and key != "status":
        return  # any name will do
    for changed in ({**state, key: value}, {k: v for k, v in state.items() if k != key}):
        record = records.decode(stored(orjson.dumps(changed)))
        assert record.snapshot is None
        assert f"/{key}" in record.unusable, record.unusable
        assert record.revision == 12


def test_the_state_of_another_instance_is_none() -> None:
    other = records.encode({**SNAPSHOT, "id": "j"}, COMMIT)
    assert records.decode(stored(other)).unusable


@given(st.binary())
def test_whatever_bytes_are_stored_are_a_state_or_told_to_be_none(data: bytes) -> None:
    assert records.decode(stored(data)).unusable or not data


def test_a_marker_means_absent_at_its_own_revision() -> None:
    for headers in ({"KV-Operation": "DEL"}, {"Nats-Marker-Reason": "MaxAge"}):
        record = records.decode(stored(b"", headers))
        assert record.snapshot is None
        assert record.revision == 12


def test_an_outbox_is_published_when_every_event_of_its_commit_is_acked() -> None:
    assert records.is_published(COMMIT, {"EVENTS": 9, "TIMERS": 3})
    assert not records.is_published(COMMIT, {"EVENTS": 8, "TIMERS": 3})
    assert not records.is_published(COMMIT, {"EVENTS": 9})


@pytest.mark.parametrize("key", ["id", "workflow", "version", "frames", "runs", "status"])
def test_what_a_state_has_set_apart_is_not_missing_from_it(key: str) -> None:
    snapshot: dict[str, Any] = {"id": "i", "workflow": "w", "namespace": "n", "version": "1"}
    snapshot |= {"status": "running", "frames": {}, "runs": {}, "timers": {}}
    value = snapshot.pop(key)
    commit = Commit(1, "t", apart={"t-0": [[key]]})
    data = records.encode(snapshot, commit)
    record = records.decode(
        Stored("$KV.WORKFLOW_STATES.i", data, headers=None, sequence=1, timestamp_ms=0)
    )
    assert not record.unusable
    assert records.complete(record, {"t-0": orjson.dumps(value)}) == []
    assert record.snapshot == {**snapshot, key: value}
    commit.apart = {}
    assert records.decode(
        Stored("$KV.WORKFLOW_STATES.i", records.encode(snapshot, commit), None, 1, 0)
    ).unusable
