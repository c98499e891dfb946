"""`wf test`: whoever dies, the instance ends the same; and if it does not, that is found."""

import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator.machine.control import event_table
from orchestrator.offline import crash_test
from orchestrator.offline.crash_test import ACK, COMMIT, OUTBOX, WORKER
from orchestrator.state import commit as records
from wf.cli.main import main

WORKFLOWS = Path(__file__).parents[2] / "config" / "workflows"

HEADER = "document: {dsl: 1.0.3, namespace: default, name: pay, version: 1.0.0}\n"
PAY = (
    HEADER
    + """
do:
  - charge: {call: charge_card, with: {amount: "${ .amount }"}, export: {as: "{paid: .}"}}
  - rest: {wait: PT1H}
  - both:
      fork:
        branches:
          - mail: {call: mail}
          - parcel: {do: [{pack: {call: pack}}, {send: {call: send}}]}
"""
)

INPUTS: dict[str, Any] = {
    "approval": {"what": "a bike", "approver": "boss@example.com"},
    "nightly-report": {"day": "2026-11-24"},
    "order": {"order_id": 1, "items": [{"sku": "A", "qty": 1}], "card": "4242"},
    "parcel": {"url": "https://carrier.example"},
    "shipment": [
        {"data": {"order": 1, "parcel": "P-1"}},
        {"data": {"order": 1, "customer": "ann@example.com"}},
    ],
    "thumbnails": {"images": [{"name": str(n), "rows": []} for n in range(5)]},
    "trip": {"traveller": "Ann", "city": "Oslo"},
}
STUBS = {
    "book": {"booking": "B-1"},
    "wf-http": {"$each": [{"state": "on its way"}, {"state": "delivered"}]},
    "/do/3/car": {"$error": {"title": "Sold out", "status": 409}, "$retryable": False},
}


def run(source: str, stubs: Any = (), input: Any = None, events: Any = (), **more: Any) -> Any:
    more = {"crash_everywhere": True, **more}
    return crash_test.check(source, "pay.yaml", input or {}, dict(stubs), 1_000_000, events, **more)


@pytest.mark.parametrize("name", sorted(path.stem for path in WORKFLOWS.glob("*.yaml")))
def test_the_examples_end_the_same_wherever_one_dies(name: str) -> None:
    shape = run((WORKFLOWS / f"{name}.yaml").read_text(), STUBS, INPUTS[name])
    assert shape["failures"] == []
    assert shape["crashes"] == shape["places"] == 3 * shape["events"] + shape["calls"]
    assert shape["events"] > 1


def test_every_kind_of_death_is_tried_and_runs_calls_again() -> None:
    shape = run(PAY, input={"amount": 5})
    assert shape["status"] == "completed"
    # the start, four results and a timer; each call once for its worker and once for its ack
    assert (shape["events"], shape["calls"], shape["places"]) == (6, 4, 22)
    assert shape["repeated"] == 8
    assert shape["failures"] == []


def test_an_activity_that_gives_something_else_the_second_time_is_found() -> None:
    shape = run(PAY, {"send": {"$output": {"parcel": 1}, "$again": {"parcel": 2}}})
    points = {failure["point"] for failure in shape["failures"]}
    assert points == {WORKER}
    (failure,) = shape["failures"]
    assert failure["place"] == "/do/2/both/fork/branches/1/parcel/do/1/send"
    assert "idempotency key" in failure["remedy"]


def test_one_that_fails_the_second_time_is_found() -> None:
    taken = {"$error": {"status": 409, "title": "Paid already"}, "$retryable": False}
    shape = run(PAY, {"charge_card": {"$output": 1, "$again": taken}})
    assert [failure["place"] for failure in shape["failures"]] == ["/do/0/charge"]
    assert shape["failures"][0]["problem"].startswith("status is")


def test_an_event_of_ones_own_that_counts_twice_is_found() -> None:
    source = (
        HEADER
        + """
do:
  - both:
      fork:
        branches:
          - hear: {listen: {to: {any: [{with: {type: x}}], until: length == 3}}}
          - say:
              do:
                - a: {emit: {event: {with: {type: x, data: {n: 1}}}}}
                - pause: {wait: PT1S}
                - b: {emit: {event: {with: {type: x, data: {n: 2}}}}}
                - pause2: {wait: PT1S}
                - c: {emit: {event: {with: {type: x, data: {n: 3}}}}}
"""
    )
    shape = run(source)
    assert {failure["point"] for failure in shape["failures"]} == {ACK}
    assert "source and id" in shape["failures"][0]["remedy"]


def test_what_waits_for_ever_waits_wherever_one_dies() -> None:
    shape = run(HEADER + "do: [{hear: {listen: {to: {one: {with: {type: x}}}}}}]\n")
    assert (shape["status"], shape["whole"], shape["failures"]) == ("waiting", True, [])


def test_events_come_all_the_same() -> None:
    source = HEADER + "do: [{hear: {listen: {to: {one: {with: {type: x}}}}}}]\n"
    event = {"type": "x", "data": 7, "$after": "PT5S"}
    shape = run(source, events=[event])
    assert (shape["status"], shape["output"], shape["failures"]) == ("completed", [7], [])


def test_what_is_undone_is_undone_wherever_one_dies() -> None:
    stubs = {**STUBS, "cancel_booking": {"$error": {"title": "No"}, "$retryable": False}}
    shape = run((WORKFLOWS / "trip.yaml").read_text(), stubs, INPUTS["trip"])
    assert shape["compensated"]["done"] == 0
    assert len(shape["compensated"]["failed"]) == 2
    assert shape["failures"] == []


def test_what_never_ends_is_said_and_not_repeated() -> None:
    source = HEADER + "do: [{a: {wait: PT1S}}, {b: {wait: PT1S, then: a}}]\n"
    shape = run(source)
    assert (shape["whole"], "crashes" in shape) == (False, False)


def test_of_too_many_places_some_are_tried_in_even_steps() -> None:
    source = HEADER + 'do: [{each: {for: {in: "[range(50)]"}, do: [{a: {call: a}}]}}]\n'
    shape = run(source, max_runs=40)
    assert (shape["events"], shape["places"], shape["crashes"]) == (51, 203, 40)
    assert shape["failures"] == []


# --- an engine that is broken is found ------------------------------------------------------------


def test_a_snapshot_that_is_not_stored_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    encode = records.encode

    def forgetful(snapshot: Any, commit: Any) -> bytes:
        return encode({**snapshot, "context": {}}, commit)

    monkeypatch.setattr(records, "encode", forgetful)
    shape = run(PAY)
    assert "the stored snapshot is not the one that was decided" in _problems(shape)


def test_an_outbox_that_is_not_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crash_test, "_commands", lambda commit: [])
    shape = run(PAY)
    assert {failure["point"] for failure in shape["failures"]} == {OUTBOX}


def test_a_result_that_counts_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    source = HEADER + "do: [{a: {call: a, then: b}}, {b: {call: a}}]\n"

    def any_run(snapshot: Any, event: Any) -> Any:
        runs = list(snapshot["runs"])
        event["run"] = int(runs[0]) if runs else event["run"]
        return None if runs else "late"

    odd = event_table.INPUTS["result"]._replace(reason_to_ignore=any_run)
    monkeypatch.setitem(event_table.INPUTS, "result", odd)
    shape = run(source, {"a": {"$each": [1, 2]}})
    assert any(failure.get("point") in (COMMIT, OUTBOX, ACK) for failure in shape["failures"])
    assert "the event took effect twice" in _problems(shape)


def _problems(shape: Any) -> set[str]:
    return {failure["problem"] for failure in shape["failures"]}


# --- the command ----------------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "pay.yaml"
    path.write_text(PAY)
    return str(path)


def test_the_command_says_how_often_one_died(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["test", file, "--crash-everywhere"]) == 0
    out = capsys.readouterr().out
    assert "pay 1.0.0: completed after 6 events and 4 calls" in out
    assert "22 crashes, 8 executions more than once" in out
    assert "it always ends the same" in out


def test_the_command_fails_and_says_where(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    stub = 'send={"$output": 1, "$again": 2}'
    assert main(["test", file, "--crash-everywhere", "--stub", stub]) == 1
    err = capsys.readouterr().err
    assert "killed before the result is stored (/do/2/both/fork" in err
    assert "output is [null,2], without the crash it is [null,1]" in err


def test_without_crashes_it_checks_the_end(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["test", file]) == 0
    assert main(["test", file, "--expect-output", "[1, null]"]) == 1
    assert "output is [null,null], expected was [1,null]" in capsys.readouterr().err
    failing = ["--stub", 'charge_card={"$error": {"title": "Declined"}}']
    assert main(["test", file, *failing]) == 1
    assert "Declined" in capsys.readouterr().err
    assert main(["test", file, *failing, "--expect-status", "faulted"]) == 0


def test_the_command_for_programs(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    stub = 'send={"$output": 1, "$again": 2}'
    assert main(["test", file, "--crash-everywhere", "--crashes", "1000", "--json", "--stub", stub])
    shape = json.loads(capsys.readouterr().out)
    assert (shape["crashes"], len(shape["failures"])) == (22, 1)
