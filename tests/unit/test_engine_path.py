"""Any definition of the language on the engine's own pure path: messages in, `apply`, bytes stored,
messages out. A crash at any boundary changes neither outcome nor history; a broken path is noticed.

`tests/support/trial.py` says what dies and what is left of it. In runs with a crash even small
values are stored beside the snapshot, and nothing spares the engine a duplicate.
"""

from collections import Counter
from dataclasses import replace
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, assume, given, settings

from orchestrator.offline.simulator import Offline
from orchestrator.offline.stubs import read_stubs
from orchestrator.state.commit import encode
from orchestrator.state.large_values import DEFAULT_RULES
from tests.support import trial
from tests.support.loopback import LATE_MS, Loopback
from tests.support.machine import define
from tests.support.trial import EVERYTHING_APART, MOMENTS, Crash, Trial
from tests.unit.test_machine_properties import DEFINITIONS, OUTPUTS
from tests.unit.test_offline_properties import EVENTS, STUBS

BOUNDARIES = 45  # of one definition at most, evenly over its events
MOST_EVENTS = 60
NOW_MS = 1_000_000
DOWN = {"$error": {"status": 503, "title": "Down"}, "$after": "PT2S"}


class Case(NamedTuple):
    definition: object
    stubs: dict
    events: list
    input: object

    def loopback(self):
        made = Loopback(read_stubs(self.stubs), NOW_MS, "i")
        for number, event in enumerate(self.events):
            whole = {"specversion": "1.0", "id": str(number), "source": "/x", **event}
            made.cloud_event(whole, number * 700)
        return made

    def run(self, crash=None):
        """(what must not depend on crashes, the loopback)."""
        loopback = self.loopback()
        rules = DEFAULT_RULES if crash is None else EVERYTHING_APART
        made = Trial(self.definition, loopback, crash, rules)
        outcome = made.run(self.input, 4 * MOST_EVENTS)
        assert crash is None or made.happened
        history = [
            {key: message[key] for key in ("now_ms", "version", "event", "entries")}
            for message in outcome.history
        ]
        return outcome._replace(history=history), loopback


def crash_everywhere(case, most=BOUNDARIES):
    """Assert that nothing differs; how often attempts of calls were executed, in all runs."""
    reference, _ = case.run()
    assert reference.folded == reference.snapshot
    events = len(reference.history)
    places = [Crash(number + 1, moment) for number in range(events) for moment in MOMENTS]
    if len(places) > most:  # the moments in turn
        places = [places[k * events // most * 3 + k % 3] for k in range(most)]
    executions = Counter()
    for place in places:
        crashed, loopback = case.run(place)
        assert crashed == reference, place
        executions.update(loopback.executions.values())
    return executions


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
@given(DEFINITIONS, STUBS, EVENTS, OUTPUTS)
def test_a_crash_at_any_boundary_gives_the_same_outcome_and_history(
    definition, stubs, events, input
):
    case = Case(definition, stubs, events, input)
    reference, _ = case.run()
    assume(reference.whole and len(reference.history) <= MOST_EVENTS)
    crash_everywhere(case)


TASKS = [
    {"a": {"call": "one", "with": {"n": 1}, "export": {"as": "$context + {x: [.]}"}}},
    {
        "side": {
            "fork": {
                "branches": [
                    {"l": {"do": [{"rest": {"wait": "PT1S"}}, {"ask": {"call": "one"}}]}},
                    {
                        "r": {
                            "try": [{"ask": {"call": "two"}}],
                            "catch": {
                                "retry": {"delay": "PT10S", "limit": {"attempt": {"count": 3}}}
                            },
                        }
                    },
                ]
            }
        }
    },
    {"child": {"run": {"workflow": {"namespace": "default", "name": "c", "version": "1.0.0"}}}},
    {"tell": {"emit": {"event": {"with": {"type": "told", "source": "/x", "data": {}}}}}},
    {"hear": {"listen": {"to": {"one": {"with": {"type": "told"}}}}}},
    {"last": {"call": "one"}},
]
CASE = Case(
    define(*TASKS),
    {"one": {"$output": {"n": 1}, "$after": "PT2S"}, "two": {"$each": [DOWN, DOWN, 3]}, "c": 4},
    [],
    {"text": "x" * 500},
)


def test_calls_timers_children_and_listeners_survive():
    reference, _ = CASE.run()
    assert reference.snapshot["status"] == "completed"
    executions = crash_everywhere(CASE, most=1000)
    assert executions[2] > 0  # under way at the crash
    assert executions[3] > 0  # published again as well


def test_the_path_ends_as_the_machine_alone():
    reference, _ = CASE.run()
    alone = Offline(CASE.definition, read_stubs(CASE.stubs), NOW_MS)
    alone.run(CASE.input)
    assert alone.state["output"] == reference.snapshot["output"]


def test_late_results_come_and_values_are_apart(monkeypatch):
    seen, late = [], []
    complete, execute = trial.records.complete, Loopback._execute

    def completing(record, beside):
        seen.append(len(beside))
        return complete(record, beside)

    def executing(self, task, late_ms=0):
        late.append(late_ms)
        execute(self, task, late_ms)

    monkeypatch.setattr(trial.records, "complete", completing)
    monkeypatch.setattr(Loopback, "_execute", executing)
    crash_everywhere(CASE)
    assert max(seen) > 0
    assert LATE_MS in late


@pytest.mark.parametrize("key", ["history", "tasks", "timers", "sends"])
def test_an_outbox_that_is_not_stored_whole_is_noticed(monkeypatch, key):
    def forgetful(snapshot, commit):
        return encode(snapshot, replace(commit, **{key: []}))

    monkeypatch.setattr(trial.records, "encode", forgetful)
    with pytest.raises(AssertionError):
        crash_everywhere(CASE, most=1000)


@pytest.mark.parametrize(
    ("name", "broken"),
    [
        ("is_published", lambda commit, floors: True),
        ("complete", lambda record, beside: list(record.commit.apart)),
    ],
)
def test_a_record_that_is_read_wrongly_is_noticed(monkeypatch, name, broken):
    monkeypatch.setattr(trial.records, name, broken)
    with pytest.raises(AssertionError):
        crash_everywhere(CASE, most=1000)


def test_a_fold_that_gives_something_else_is_noticed(monkeypatch):
    monkeypatch.setattr(trial, "fold", lambda history, lookup: {"status": "completed"})
    with pytest.raises(AssertionError):
        crash_everywhere(CASE)


def test_an_event_that_takes_effect_twice_is_noticed(monkeypatch):
    """An engine whose successor does not know what was applied."""
    monkeypatch.setattr(Trial, "_stored", forgetting(Trial._stored))
    with pytest.raises(AssertionError):
        crash_everywhere(CASE, most=1000)


def forgetting(stored):
    def read(self):
        record = stored(self)
        if record.snapshot is not None and record.snapshot["runs"]:
            runs = {key: {**run, "attempt": 1} for key, run in record.snapshot["runs"].items()}
            record.snapshot = {**record.snapshot, "runs": runs}
        return record

    return read
