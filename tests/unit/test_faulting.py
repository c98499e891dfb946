"""Whatever an event comes to in one instance is stored and sent, or is a fault of that instance."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from orchestrator.dispatch import effects, outbox
from orchestrator.engine import apply as applying
from orchestrator.engine.apply import Limits, apply
from orchestrator.ingest.messages_in import Item
from orchestrator.machine.flow import basic
from orchestrator.state import commit as record
from orchestrator.state.commit import Commit, Record, StateUnusable, absent
from tests.support.machine import define
from wf.jetstream.port import Delivery

LIMITS = Limits(snapshot=1_000_000, message=900_000)
HALF = "\ud83d"


def nested(levels: int, core: Any = 1) -> Any:
    for _ in range(levels):
        core = [core]
    return core


def item(number: int, **event: Any) -> Item:
    delivery = Delivery("WORKFLOW_EVENTS", "c", "s", b"{}", None, number, 1, 1_000 + number, 0, "")
    return Item(delivery, "i", event)


def start(number: int = 1, **more: Any) -> Item:
    more = {"input": None, "workflow": "flow", "namespace": "default", **more}
    return item(number, kind="start", id="i", **more)


def result(number: int, run: int, output: Any) -> Item:
    facts = {"activity": "a", "run": run, "attempt": 1, "outcome": "completed"}
    return item(number, kind="result", output=output, **facts)


def applied(record: Record, items: list[Item], definition: Any) -> applying.Applied:
    """What is to be stored and sent can be."""
    found = apply(record, items, lambda *_: definition, LIMITS, "t")
    assert found.sealed is not None
    assert orjson.loads(found.sealed.value)["status"] == found.snapshot["status"]
    for messages in found.outbox.streams.values():
        for message in messages:
            assert orjson.loads(message.data)
    return found


def wrap(times: int, core: str) -> Any:
    return nested(times, core)


JQ = {
    "half an emoji in an error": r'"{\"n\": \"A \\ud83d\"}" | fromjson | error("bad \(.n)")',
    "an object as error": r'"{\"n\": \"A \\ud83d\"}" | fromjson | error(.)',
    "half an emoji": r'"\"A \\ud83d\"" | fromjson',
    "half an emoji as key": r'"{\"\\ud83d\": 1}" | fromjson',
    "an index by half an emoji": r'"\"\\ud83d\"" | fromjson | 1 | .[("\"\\udc00\"" | fromjson)]',
    "a large integer": "18446744073709551615 + 1 | tostring | tonumber | [., .]",
    "deep": "reduce range(230) as $i (1; [.])",
    "too deep to write": "reduce range(400) as $i (1; {a: .})",
    "a long message": '"x" * 100000 | error',
}


@pytest.mark.parametrize("source", JQ.values(), ids=list(JQ))
@pytest.mark.parametrize("place", ["set", "if", "switch", "export", "with", "catch", "emit"])
def test_what_jq_says_never_ends_more_than_its_instance(source: str, place: str) -> None:
    expression = f"${{ {source} }}"
    task: dict[str, Any] = {
        "set": {"set": {"x": expression}},
        "if": {"if": expression, "set": {"x": 1}},
        "switch": {"switch": [{"one": {"when": expression, "then": "end"}}]},
        "export": {"set": {"x": 1}, "export": {"as": expression}},
        "with": {"call": "a", "with": {"x": expression}},
        "catch": {"try": [{"b": {"set": {"x": expression}}}], "catch": {"as": "e"}},
        "emit": {"emit": {"event": {"with": {"type": "t", "data": expression}}}},
    }[place]
    found = applied(absent(), [start()], define({"a": task}))
    assert found.snapshot is not None
    assert found.snapshot["status"] in ("faulted", "completed", "waiting", "running")


@pytest.mark.parametrize("levels", [150, 190, 199, 200, 203, 207])
@pytest.mark.parametrize(
    "tasks",
    [
        [{"a": {"set": {"x": "${ . }"}}}],
        [{"a": {"set": {"x": wrap(60, "${ . }")}}}],
        [{"a": {"call": "a", "with": {"x": wrap(60, "${ . }")}}}],
        [{"a": {"emit": {"event": {"with": {"type": "t", "data": "${ . }"}}}}}],
        [{"a": {"set": {"x": 1}, "export": {"as": {"y": wrap(30, "${ $workflow.input }")}}}}],
        [{"a": {"raise": {"error": {"type": "x", "status": 500, "detail": "${ tojson }"}}}}],
        [{"a": {"fork": {"branches": [{"b": {"set": "${ . }"}}, {"c": {"set": "${ . }"}}]}}}],
        [{"a": {"for": {"each": "x", "in": "${ [.] }"}, "do": [{"b": {"set": {"x": "${ $x }"}}}]}}],
        [{"a": {"run": {"workflow": {"namespace": "d", "name": "n", "version": "1.0.0"}}}}],
    ],
)
def test_a_deep_value_is_kept_sent_on_or_faults_its_instance(tasks: list[Any], levels: int) -> None:
    found = applied(absent(), [start(input=nested(levels))], define(*tasks))
    assert found.snapshot is not None


def running(**more: Any) -> tuple[Record, Any]:
    definition = define({"f": {"fork": {"branches": [{n: {"call": "a"}} for n in "bcd"]}}}, **more)
    begun = applied(absent(), [start()], definition)
    assert begun.snapshot is not None
    return Record(begun.snapshot, begun.commit, 7, flushed=True), definition


def unencodable(monkeypatch: pytest.MonkeyPatch) -> None:
    enter = basic.SetHandler.enter

    def with_a_bug(self: Any, step: Any, frame: str, input: Any) -> None:
        step.snapshot["context"] = {"x": HALF}
        enter(self, step, frame, input)

    monkeypatch.setattr(basic.SetHandler, "enter", with_a_bug)


def unsendable(monkeypatch: pytest.MonkeyPatch) -> None:
    build = effects.build

    def with_a_bug(kind: str, *rest: Any) -> Any:
        if kind == "emit":
            raise ValueError(f"no {HALF}")
        return build(kind, *rest)

    monkeypatch.setattr(outbox.effects, "build", with_a_bug)


def unsealable(monkeypatch: pytest.MonkeyPatch) -> None:
    encode = record.encode

    def with_a_bug(snapshot: Any, commit: Commit) -> bytes:
        if commit.sends:
            raise MemoryError
        return encode(snapshot, commit)

    monkeypatch.setattr(record, "encode", with_a_bug)


@pytest.mark.parametrize("break_it", [unencodable, unsendable, unsealable])
def test_what_cannot_be_stored_or_sent_faults_the_instance_and_keeps_what_came_before(
    monkeypatch: pytest.MonkeyPatch, break_it: Any
) -> None:
    definition = define(
        {"a": {"call": "a"}},
        {"b": {"call": "a"}},
        {"c": {"set": {"x": 1}}},
        {"d": {"emit": {"event": {"with": {"type": "t"}}}}},
    )
    begun = applied(absent(), [start()], definition)
    stored = Record(begun.snapshot, begun.commit, 7, flushed=True)
    break_it(monkeypatch)
    items = [result(2, 1, "kept"), result(3, 2, {"poison": 1}), result(4, 9, 1)]
    found = applied(stored, items, definition)
    assert found.snapshot is not None
    assert found.snapshot["status"] == "faulted"
    assert found.snapshot["error"]["title"] == "Engine error"
    assert [one.delivery.sequence for one in found.applied] == [2, 3]
    assert [one.delivery.sequence for one, _ in found.ignored] == [4]
    (letter,) = found.outbox.streams["DEAD_LETTERS"]
    evidence = orjson.loads(letter.data)["evidence"]
    assert evidence["event"]["output"] == {"poison": 1}
    assert evidence["sequence"] == 3
    assert "Traceback" in evidence["traceback"]


@pytest.mark.parametrize(
    "snapshot",
    [
        {},
        {"status": "running"},
        {"status": "running", "workflow": "flow", "namespace": "default", "version": "1"},
    ],
)
def test_a_state_that_is_none_is_told_apart_from_the_event(snapshot: Any) -> None:
    stored = Record(snapshot, Commit(1, "t"), 1, flushed=True)
    with pytest.raises(StateUnusable):
        apply(stored, [result(2, 1, 1)], lambda *_: define({"a": {"set": {}}}), LIMITS, "t")
