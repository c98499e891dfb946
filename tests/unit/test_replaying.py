"""A replay agrees with what is stored, or shows the first place where it does not."""

import copy

import pytest

from orchestrator.definition import parse
from orchestrator.offline.replay import first_difference, replay
from orchestrator.offline.retry_plan import plan
from orchestrator.offline.simulator import Offline
from orchestrator.offline.stubs import read_stubs
from tests.support.machine import HEADER, Driver, define
from wf.errors import WfError

DOCUMENT = {
    "document": HEADER,
    "do": [
        {"a": {"call": "one", "export": {"as": "{a: .}"}}},
        {"nap": {"wait": "PT1M"}},
        {"b": {"call": "two", "with": {"x": "${ .n }"}}},
    ],
}
PLACE = ("default", "flow", "1.0.0")


def recorded(stubs, input=None):
    """(history messages, stored snapshot) of a run, one commit for each event."""
    offline = Offline(parse(DOCUMENT), read_stubs(stubs), 1000)
    offline.run(input)
    messages = [
        {
            "v": 1,
            "commit": number,
            "n": 0,
            "now_ms": applied.now_ms,
            "namespace": "default",
            "workflow": "flow",
            "version": "1.0.0",
            "event": applied.event,
            "entries": applied.history,
        }
        for number, applied in enumerate(offline.log, 1)
    ]
    snapshot = {**offline.state, "commit": {"number": len(messages), "history": [1]}}
    return copy.deepcopy(messages), copy.deepcopy(snapshot)


def replayed(messages, snapshot, documents=None):
    return replay(messages, snapshot, {PLACE: DOCUMENT} if documents is None else documents, None)


FINE = {"one": {"n": 1}, "two": {"m": 2}}


def test_the_same():
    messages, snapshot = recorded(FINE)
    assert replayed(messages, snapshot) == {"result": "same", "events": 4, "commit": 4}


def test_duplicates_and_what_came_after_the_snapshot_do_not_matter():
    messages, snapshot = recorded(FINE)
    more = {**messages[-1], "commit": 9}
    assert replayed([*reversed(messages), messages[0], more], snapshot)["result"] == "same"


def test_an_entry_that_differs_is_named_with_commit_event_and_pointer():
    messages, snapshot = recorded(FINE)
    messages[1]["entries"][0]["attempt"] = 7
    shape = replayed(messages, snapshot)
    assert shape["result"] == "different"
    assert shape["difference"] == {
        "commit": 2,
        "n": 0,
        "event": "result",
        "pointer": "/entries/0/attempt",
        "recorded": 7,
        "replayed": 1,
    }


def test_a_snapshot_that_differs_is_found_behind_the_last_event():
    messages, snapshot = recorded(FINE)
    snapshot["context"] = {"a": {"n": 1.0}}
    difference = replayed(messages, snapshot)["difference"]
    assert (difference["commit"], difference["pointer"]) == (4, "/context/a/n")
    assert (difference["recorded"], difference["replayed"]) == (1.0, 1)


def test_an_event_that_would_be_ignored_now_is_a_difference():
    messages, snapshot = recorded(FINE)
    messages[3]["event"]["run"] = 9
    difference = replayed(messages, snapshot)["difference"]
    assert (difference["commit"], difference["replayed"]) == (4, "ignored: late")


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        (lambda messages, snapshot: (messages[1:], snapshot), "its head is past retention"),
        (lambda messages, snapshot: (messages, None), "the snapshot has expired"),
        (lambda messages, snapshot: ([], snapshot), "nothing is recorded"),
        (lambda messages, snapshot: (messages[:-1], snapshot), "not published yet"),
    ],
)
def test_what_cannot_be_compared_whole_is_partial(change, detail):
    shape = replayed(*change(*recorded(FINE)))
    assert shape["result"] == "partial"
    assert detail in shape["detail"]


def test_values_differ_by_type_too():
    assert first_difference({"a": [1, True]}, {"a": [1, 1]}) == ("/a/1", True, 1)
    assert first_difference({"a": 1}, {"a": 1, "b/c": 2}) == ("/b~1c", "(nothing)", 2)
    assert first_difference([1], [1, 2]).pointer == "/1"
    assert first_difference({"a": None}, {"a": None}) is None


DOWN = {"one": {"n": 1}, "two": {"$error": {"status": 503}, "$retryable": False}}


def test_a_retry_needs_nothing_when_the_failed_task_is_kept():
    messages, snapshot = recorded(DOWN)
    assert plan(DOCUMENT, snapshot, messages, None, []) == {}


def test_what_a_named_task_was_given_comes_from_history():
    messages, snapshot = recorded(DOWN, {"first": 1})
    found = plan(DOCUMENT, snapshot, messages, "/do/0/a", [])
    assert found == {"from": "/do/0/a", "input": {"first": 1}}
    found = plan(DOCUMENT, snapshot, messages, "/do/2/b", [])
    assert found == {"from": "/do/2/b", "input": {"n": 1}}


def test_an_input_of_ones_own_goes_to_the_failed_task_or_the_named_one():
    messages, snapshot = recorded(DOWN)
    assert plan(DOCUMENT, snapshot, messages, None, [5]) == {"from": "/do/2/b", "input": 5}
    assert plan(DOCUMENT, snapshot, messages, "/do/0/a", [5]) == {"from": "/do/0/a", "input": 5}


def test_a_place_that_is_not_possible_is_refused_with_those_that_are():
    messages, snapshot = recorded(DOWN)
    with pytest.raises(WfError, match="possible are /do/0/a, /do/1/nap, /do/2/b"):
        plan(DOCUMENT, snapshot, messages, "/do/7/x", [])


def test_without_the_head_of_the_history_the_input_must_be_said():
    messages, snapshot = recorded(DOWN)
    with pytest.raises(WfError, match="--input"):
        plan(DOCUMENT, snapshot, messages[1:], "/do/0/a", [])


def test_what_an_older_version_did_not_write_is_no_difference():
    """Of suspended, resumed and cancelled tasks it wrote nothing, or less."""
    fork = {"fork": {"branches": [{"w": {"wait": {"hours": 1}}}, {"x": {"call": "one"}}]}}
    driver = Driver(define({"f": fork}))
    driver.start({})
    for verb in ("suspend", "resume", "cancel"):
        driver.command(verb)
    place = {"v": 1, "n": 0, "namespace": "default", "workflow": "flow", "version": "1.0.0"}
    messages = [
        {**place, "commit": number, "now_ms": now_ms, "event": event, "entries": entries}
        for number, (event, now_ms, entries) in enumerate(driver.log, 1)
    ]
    snapshot = {**driver.state, "commit": {"number": len(messages), "history": [1]}}
    documents = {PLACE: driver.definition.document}
    assert replayed(messages, snapshot, documents)["result"] == "same"
    types = {"task.suspended", "task.resumed", "task.cancelled"}
    assert {entry["type"] for message in messages for entry in message["entries"]} > types
    for message in messages:
        message["entries"] = [one for one in message["entries"] if one["type"] not in types]
    assert replayed(messages, snapshot, documents)["result"] == "same"
    messages[1]["entries"][0]["status"] = "running"
    assert replayed(messages, snapshot, documents)["result"] == "different"
