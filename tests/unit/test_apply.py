"""What one instance's events come to: commit record, KV value, messages."""

from typing import Any

import orjson
import pytest

from orchestrator.definition import Definition
from orchestrator.engine.apply import HISTORY_ENTRIES, Limits, apply, trimmed
from orchestrator.ingest.messages_in import Item
from orchestrator.machine import advance
from orchestrator.machine.calls import results
from orchestrator.machine.control import event_table
from orchestrator.machine.kernel.step import Step
from orchestrator.state.commit import Commit, Record, absent
from tests.support.machine import define
from wf.jetstream.port import Delivery


def test_a_short_history_is_kept_whole() -> None:
    entries = [{"type": str(n)} for n in range(HISTORY_ENTRIES)]
    assert trimmed(entries) == entries


def test_a_long_history_keeps_its_ends_its_facts_and_the_number_left_out() -> None:
    entries: list[dict[str, object]] = [{"type": str(n)} for n in range(50_000)]
    entries[25_000] = {"type": "expression.faulted", "fact": {"evaluation": 3}}
    kept = trimmed(entries)
    assert kept[0] == entries[0]
    assert kept[-1] == entries[-1]
    assert entries[25_000] in kept
    (note,) = [entry for entry in kept if entry["type"] == "entries.omitted"]
    assert note["count"] == 50_000 - HISTORY_ENTRIES - 1
    assert len(kept) == HISTORY_ENTRIES + 2


def result(attempt: int, size: int) -> Item:
    event = {"kind": "result", "activity": "a", "run": 1, "attempt": attempt, "outcome": "failed"}
    delivery = Delivery("EVENTS", "c", "s", b"x" * size, None, 9, 1, 1_000, 0, "")
    return Item(delivery, "i", event)


def running() -> tuple[Record, Definition]:
    """An instance whose run 1 is at attempt 2."""
    definition = define({"a": {"call": "a"}})
    begun = advance(definition, None, {"kind": "start", "id": "i", "input": None}, 0)
    failure = {"kind": "result", "activity": "a", "run": 1, "attempt": 1, "outcome": "crashed"}
    tried = advance(definition, begun.snapshot, failure, 0)
    return Record(tried.snapshot, Commit(1, "t"), 1, flushed=True), definition


def test_an_oversize_result_fails_its_run_only_at_its_current_attempt() -> None:
    record, definition = running()
    limits = Limits(snapshot=100_000, message=1_000)
    old = apply(record, [result(1, 2_000)], lambda *_: definition, limits, "t")
    assert old.commit is None
    assert [reason for _, reason in old.ignored] == ["kind"]
    now = apply(record, [result(2, 2_000)], lambda *_: definition, limits, "t")
    assert now.snapshot is not None
    assert now.snapshot["status"] == "faulted"
    assert "2000 bytes" in now.snapshot["error"]["detail"]


def test_an_event_that_crashes_the_machine_takes_nothing_of_the_others_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its snapshot, given up to it for reuse, may be half changed: the fault is applied to the one
    before, so that the history gives what was stored."""
    names = "abc"
    definition = define({"f": {"fork": {"branches": [{n: {"call": n}} for n in names]}}})
    begun = advance(definition, None, {"kind": "start", "id": "i", "input": None}, 0).snapshot
    record = Record(begun, Commit(1, "t"), 1, flushed=True)

    def broken(step: Step, event: dict[str, Any]) -> None:
        if event["run"] == 3:
            step.count("last_frame")
            step.runs.clear()
            raise RuntimeError("a bug")
        results.apply_result(step, event)

    monkeypatch.setitem(
        event_table.INPUTS, "result", event_table.INPUTS["result"]._replace(apply=broken)
    )
    items = [
        Item(
            Delivery("EVENTS", "c", "s", b"{}", None, n, 1, 1_000, 0, ""),
            "i",
            {"kind": "result", "activity": names[n - 1], "run": n, "attempt": 1}
            | {"outcome": "completed", "output": n},
        )
        for n in (1, 2, 3)
    ]
    before = orjson.dumps(begun)
    limits = Limits(snapshot=100_000, message=10_000)
    applied = apply(record, items, lambda *_: definition, limits, "t")
    assert orjson.dumps(begun) == before
    assert applied.snapshot is not None
    assert applied.snapshot["status"] == "faulted"
    assert applied.snapshot["last_frame"] == begun["last_frame"]
    messages = [orjson.loads(one.data) for one in applied.outbox.streams["WORKFLOW_HISTORY"]]
    folded = begun
    for message in messages:
        folded = advance(definition, folded, message["event"], 1_000).snapshot
    assert folded == applied.snapshot


@pytest.mark.parametrize(
    "branch",
    [{"call": "a"}, {"set": "${ . }"}, {"call": "a", "with": {"x": "${ .x }"}}],
    ids=["inputs", "outputs", "arguments"],
)
def test_one_large_value_in_very_many_places_is_never_encoded(
    branch: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    definition = define({"f": {"fork": {"branches": [{f"b{n}": branch} for n in range(1000)]}}})
    event = {
        "kind": "start",
        "id": "i",
        "workflow": definition.name,
        "namespace": "default",
        "input": {"x": "x" * 3_000_000},
    }
    item = Item(Delivery("E", "c", "s", b"", None, 9, 1, 1_000, 0, ""), "i", event)
    encoded = 0
    dumps = orjson.dumps

    def counting(*given: Any, **options: Any) -> bytes:
        nonlocal encoded
        data = dumps(*given, **options)
        encoded = max(encoded, len(data))
        return data

    monkeypatch.setattr(orjson, "dumps", counting)
    limits = Limits(snapshot=4_000_000, message=8_000_000)
    applied = apply(absent(), [item], lambda *_: definition, limits, "t")
    assert applied.snapshot is not None
    assert applied.snapshot["error"]["title"] == "State too large"
    assert encoded < 10_000_000
