"""Any definition of the whole language, whatever the stubs answer: a crash changes nothing.

A crash here is what the engine goes through: the snapshot comes back from its bytes, and events
that were applied but not acknowledged are delivered again. An instance that faults is retried.
"""

from dataclasses import dataclass, field

import orjson
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.machine import DEFAULT_LIMITS
from orchestrator.offline.simulator import Offline
from orchestrator.offline.stubs import read_stubs
from orchestrator.offline.task_trace import Watcher
from orchestrator.state.history_fold import fold
from tests.unit.test_machine_properties import DEFINITIONS, OUTPUTS

LIMITS = DEFAULT_LIMITS._replace(max_steps=2000, max_jumps=50)
MOST_EVENTS = 300

ANSWERS = st.one_of(
    OUTPUTS.map(lambda output: {"$output": output}),
    st.sampled_from(
        [
            {"$error": {"status": 503}},
            {"$error": {"status": 400}, "$retryable": False},
            {"$outcome": "crashed"},
            {"$outcome": "timed-out", "$after": "PT3S"},
            {"$output": {"n": 4}, "$after": "PT2S"},
            "${ . }",
        ]
    ),
)
STUBS = st.fixed_dictionaries(
    {name: st.lists(ANSWERS, min_size=1, max_size=4) for name in ("one", "two", "c")}
).map(lambda named: {name: {"$each": turns} for name, turns in named.items()})
EVENTS = st.lists(
    st.fixed_dictionaries(
        {
            "type": st.sampled_from(["x.done", "x.other"]),
            "data": st.sampled_from([{"n": 1}, {"n": 5}, None]),
        }
    ),
    max_size=4,
)


@dataclass(slots=True)
class Crashing(Offline):
    """Loses the process before the events of these numbers."""

    crashes: frozenset[int] = frozenset()
    fed: list = field(default_factory=list)

    def feed(self, event):
        if len(self.fed) in self.crashes and self.snapshot is not None:
            self.snapshot = orjson.loads(orjson.dumps(self.snapshot))
            for old in self.fed[-40:]:
                assert Offline.feed(self, old).ignored is not None, old
        self.fed.append(event)
        return Offline.feed(self, event)


def ran(definition, stubs, events, input, retries=2, **more):
    made = Crashing(definition, read_stubs(stubs), 1_000_000, limits=LIMITS, **more)
    for number, event in enumerate(events):
        whole = {"specversion": "1.0", "id": str(number), "source": "/x", **event}
        made.publish(whole, number * 700)
    made.run(input, MOST_EVENTS)
    for sequence in range(retries):
        made.feed({"kind": "command", "verb": "retry", "sequence": 1000 + sequence})
        for _ in range(MOST_EVENTS):
            if made.step() is None:
                break
    return made


def messages(offline):
    names = {"namespace": "default", "workflow": "flow", "version": "1.0.0"}
    return [
        {"commit": number, "n": 0, "now_ms": applied.now_ms, **names}
        | {"event": applied.event, "entries": applied.history}
        for number, applied in enumerate(offline.log, 1)
    ]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(DEFINITIONS, STUBS, EVENTS, OUTPUTS, st.frozensets(st.integers(1, 60), max_size=20))
def test_a_crash_at_any_point_gives_the_same_outcome(definition, stubs, events, input, crashes):
    calm = ran(definition, stubs, events, input)
    crashed = ran(definition, stubs, events, input, crashes=crashes)
    assert crashed.state == calm.state
    assert crashed.log == calm.log


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(DEFINITIONS, STUBS, EVENTS, OUTPUTS)
def test_a_replay_gives_the_snapshot_and_onlookers_change_nothing(definition, stubs, events, input):
    watcher = Watcher()
    offline = ran(definition, stubs, events, input, step_type=watcher.step)
    watcher.settle(offline.state["frames"])
    recorded = messages(offline)
    assert fold(recorded, lambda *_: definition, LIMITS) == offline.state
    assert offline.state == ran(definition, stubs, events, input).state
    if offline.has_ended:
        assert all(seen.status != "open" for seen in watcher.seen)
