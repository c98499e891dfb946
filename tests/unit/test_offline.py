"""Offline runs: stubs answer, time is virtual, every task's data is seen."""

import json

import pytest

from orchestrator.definition import parse
from orchestrator.offline.explain import explain
from orchestrator.offline.simulator import Offline
from orchestrator.offline.stubs import read_stubs
from orchestrator.offline.task_trace import Watcher
from orchestrator.state.history_fold import fold
from tests.support.machine import HEADER, define
from wf.errors import DefinitionError

FILE = """
document: {dsl: 1.0.3, namespace: default, name: pay, version: 1.0.0}
do:
  - look:
      if: .amount > 1000
      call: look_closely
  - charge:
      try:
        - ask:
            call: charge_card
            with: {amount: "${ .amount }"}
      catch:
        retry: {delay: PT10S, limit: {attempt: {count: 3}}}
        do:
          - give_up: {set: {paid: false}}
      export: {as: "{paid: .}"}
  - rest: {wait: PT1H}
  - tell:
      call: mail
      output: {as: .sent}
"""


def run(tasks, stubs=None, input=None):
    offline = Offline(define(*tasks), read_stubs(stubs or {}))
    offline.run(input)
    return offline


def by_name(shape):
    return {task["name"]: task for task in shape["tasks"]}


def test_a_call_gives_what_its_stub_says_from_its_input():
    offline = run([{"a": {"call": "double"}}], {"double": {"n": "${ .n * 2 }"}}, {"n": 21})
    assert offline.state["output"] == {"n": 42}


def test_a_call_without_a_stub_gives_null_and_says_so():
    shape = explain(FILE, "pay.yaml", {"amount": 5}, {"charge_card": {"ok": True}}, 0)
    assert shape["output"] is None
    assert shape["notes"] == ["no stub for mail: it gave null (--stub mail=JSON)"]


def test_the_stub_of_a_place_goes_before_that_of_the_activity():
    tasks = [{"a": {"call": "one"}}, {"b": {"call": "one"}}]
    stubs = {"one": {"by": "name"}, "/do/1/b": {"by": "place", "was": "${ .by }"}}
    assert run(tasks, stubs).state["output"] == {"by": "place", "was": "name"}


def test_stubs_in_turn_and_the_last_one_stays():
    tasks = [{name: {"call": "one", "export": {"as": "$context + {x: [.]}"}}} for name in "abc"]
    offline = run(tasks, {"one": {"$each": [1, 2]}})
    assert [asked.answer.output for asked in offline.asked] == [1, 2, 2]


def test_time_jumps_to_what_comes_next():
    offline = run([{"a": {"wait": "PT24H"}}, {"b": {"call": "one"}}], {"one": {"$after": "PT5S"}})
    assert offline.now_ms == 24 * 3_600_000 + 5_000
    assert offline.state["status"] == "completed"


def test_errors_are_stubbed_and_tried_again():
    down = {"$error": {"status": 503, "title": "Down"}}
    stubs = {"charge_card": {"$each": [down, down, {"ok": True}]}, "mail": {"sent": 1}}
    shape = explain(FILE, "pay.yaml", {"amount": 5}, stubs, 0)
    assert (shape["status"], shape["output"]) == ("completed", 1)
    assert [call["outcome"] for call in shape["calls"]] == [
        "failed",
        "failed",
        "completed",
        "completed",
    ]
    assert [call["attempt"] for call in shape["calls"][:3]] == [1, 2, 3]
    assert shape["took_ms"] == 3_600_000 + 20_000


def test_every_task_shows_its_input_output_and_context():
    shape = explain(FILE, "pay.yaml", {"amount": 5}, {"charge_card": 7, "mail": {"sent": 1}}, 0)
    tasks = by_name(shape)
    assert tasks["look"]["status"] == "skipped"
    assert tasks["ask"]["input"] == {"amount": 5}
    assert tasks["ask"]["sent"] == {"amount": 5}
    assert tasks["ask"]["output"] == 7
    assert (tasks["ask"]["depth"], tasks["charge"]["depth"]) == (1, 0)
    assert tasks["ask"]["context"] == {}
    assert tasks["charge"]["context"] == {"paid": 7}
    assert tasks["tell"]["input"] == 7
    assert tasks["tell"]["output"] == 1
    assert [task["name"] for task in shape["tasks"]] == ["look", "charge", "ask", "rest", "tell"]


def test_a_fault_shows_where_and_what_was_open():
    tasks = [{"a": {"do": [{"b": {"call": "one"}}]}}]
    shape = explain_tasks(tasks, {"one": {"$error": {"status": 402}, "$retryable": False}})
    assert shape["status"] == "faulted"
    assert shape["error"]["instance"] == "/do/0/a/do/0/b"
    assert [task["status"] for task in shape["tasks"]] == ["faulted", "faulted"]


def explain_tasks(tasks, stubs, input=None):
    return explain(json.dumps({"document": HEADER, "do": tasks}), "f", input, stubs, 0)


@pytest.mark.parametrize(
    ("stub", "complaint"),
    [
        ({"$outputs": 1}, 'did you mean "$output"?'),
        ({"$error": {}, "$after": "soon"}, "not a duration"),
        ({"$outcome": "lost"}, "must be one of"),
        ({"$each": []}, "one stub at least"),
        ("${ .a | }", "is not valid jq"),
        ("${ $context }", "`$context` is not known here"),
    ],
)
def test_a_stub_that_cannot_be_is_refused_with_its_place(stub, complaint):
    with pytest.raises(DefinitionError, match="/one") as refusal:
        read_stubs({"one": stub}, "stubs.yaml")
    assert complaint.replace("\\", "") in str(refusal.value)


def test_a_stub_whose_expression_fails_is_a_fault_that_names_it():
    offline = run([{"a": {"call": "one"}}], {"one": "${ error }"}, {"n": 1})
    assert offline.state["error"]["title"] == "The stub one failed"


def test_the_log_of_a_run_folds_to_its_snapshot():
    definition = parse(FILE)
    stubs = read_stubs({"charge_card": {"$each": [{"$error": {}}, 1]}})
    offline = Offline(definition, stubs, 1000)
    offline.run({"amount": 5})
    messages = [
        {
            "commit": number,
            "n": 0,
            "now_ms": applied.now_ms,
            "namespace": "default",
            "workflow": "pay",
            "version": "1.0.0",
            "event": applied.event,
            "entries": applied.history,
        }
        for number, applied in enumerate(offline.log, 1)
    ]
    assert fold(messages, lambda *_: definition) == offline.state


def test_what_the_onlooker_sees_changes_nothing():
    plain = Offline(parse(FILE), read_stubs({}))
    watched = Offline(parse(FILE), read_stubs({}), step_type=Watcher().step)
    for offline in (plain, watched):
        offline.run({"amount": 2000})
    assert watched.state == plain.state
    assert watched.log == plain.log


def test_a_child_is_answered_by_the_stub_of_its_workflow():
    run = {"workflow": {"namespace": "sales", "name": "ship", "input": {"n": "${ .n }"}}}
    definition = define({"ship": {"run": run}}, {"go": {"run": {**run, "await": False}}})
    offline = Offline(definition, read_stubs({"sales.ship": {"parcel": "${ .n + 1 }"}}))
    assert offline.run({"n": 1})
    assert offline.state["output"] == {"parcel": 2}
    failing = Offline(definition, read_stubs({"sales.ship": {"$error": {"title": "No stock"}}}))
    assert failing.run({"n": 1})
    assert failing.state["error"]["title"] == "No stock"


LISTENER = """
document: {dsl: 1.0.3, namespace: default, name: approval, version: 1.0.0}
do:
  - ask: {emit: {event: {with: {type: asked, source: /shop, data: {n: "${ .n }"}}}}}
  - wait:
      listen: {to: {one: {with: {type: answered}}}}
      timeout: {after: PT1H}
"""


def test_events_that_come_reach_who_listens():
    event = {"type": "answered", "data": {"yes": True}, "$after": "PT10M"}
    shape = explain(LISTENER, "f", {"n": 1}, {}, 0, [{"type": "other"}, event])
    assert (shape["output"], shape["took_ms"]) == ([{"yes": True}], 600_000)


def test_without_its_event_the_listener_waits_for_its_timeout():
    assert explain(LISTENER, "f", {"n": 1}, {}, 0)["error"]["status"] == 408


def test_an_event_that_the_workflow_emits_may_be_its_own():
    own = LISTENER.replace("type: answered", "type: asked")
    assert explain(own, "f", {"n": 1}, {}, 0)["output"] == [{"n": 1}]


def test_an_event_that_is_none_is_refused():
    with pytest.raises(DefinitionError, match="event 1: "):
        explain(LISTENER, "f", {}, {}, 0, [{"type": 5}])


def test_a_workflow_with_a_limit_gets_its_place_at_once():
    wf = {"concurrency": 1, "concurrencyKey": "${ .customer }"}
    document = {**HEADER, "metadata": {"wf": wf}}
    definition = parse({"document": document, "do": [{"only": {"set": {"n": 1}}}]})
    offline = Offline(definition, read_stubs({}))
    assert offline.run({"customer": "acme"})
    assert offline.state["status"] == "completed"
    assert offline.state["slot"]["state"] == "released"
