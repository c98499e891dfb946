"""The stored record: what is written is what is read, and when its outbox counts as published."""

from orchestrator import record as records
from orchestrator.record import Commit
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


def stored(data: bytes, headers: dict[str, str] | None = None) -> Stored:
    return Stored("$KV.WORKFLOW_STATES.i", data, headers, 12, 0)


def test_what_is_written_is_what_is_read() -> None:
    record = records.decode(stored(records.encode({"id": "i", "status": "running"}, COMMIT)))
    assert record.snapshot == {"id": "i", "status": "running"}
    assert record.commit == COMMIT
    assert record.revision == 12
    assert not record.flushed


def test_a_marker_means_absent_at_its_own_revision() -> None:
    for headers in ({"KV-Operation": "DEL"}, {"Nats-Marker-Reason": "MaxAge"}):
        record = records.decode(stored(b"", headers))
        assert record.snapshot is None
        assert record.revision == 12


def test_an_outbox_is_published_when_every_event_of_its_commit_is_acked() -> None:
    assert records.is_published(COMMIT, {"EVENTS": 9, "TIMERS": 3})
    assert not records.is_published(COMMIT, {"EVENTS": 8, "TIMERS": 3})
    assert not records.is_published(COMMIT, {"EVENTS": 9})
