"""`schedule.on`: what is refused, which events fit, which version they start, and sets of them."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.cloudevents.event_triggers import Triggers, start
from orchestrator.definition import canonical_bytes, parse
from orchestrator.definition.compiler.nodes import Trigger
from orchestrator.machine.events import trigger_sets
from orchestrator.machine.events.trigger_sets import Taken
from orchestrator.registry.definitions import Definitions
from tests.support.memory import MemoryBroker, connect
from wf.client import schedules
from wf.client.definitions import EVENTS_BEFORE, RegisteredDefinition
from wf.errors import DefinitionError
from wf.jetstream.port import Stored
from wf.protocol import subjects
from wf.protocol.ids import triggered_id

PAIR = """{all: [
  {with: {type: placed}, correlate: {order: {from: .data.order}}},
  {with: {type: paid}, correlate: {order: {from: .data.of}}}]}"""


def text(on: str | None, version: str = "1.0.0", name: str = "ship") -> str:
    schedule = f"schedule: {{on: {on}}}" if on else ""
    return (
        f"document: {{dsl: '1.0.3', namespace: default, name: {name}, version: '{version}'}}\n"
        f"{schedule}\ndo: [{{a: {{set: {{b: 1}}}}}}]"
    )


def trigger(on: str) -> Trigger:
    found = parse(text(on)).workflow.trigger
    assert found is not None
    return found


def event(type_: str = "placed", data: Any = None, **more: Any) -> dict[str, Any]:
    return {"specversion": "1.0", "id": "", "source": "/s", "type": type_, "data": data, **more}


# Definitions


@pytest.mark.parametrize(
    ("on", "pointer", "words"),
    [
        ("{one: {with: {type: a}}, any: []}", "/schedule/on", "just one of"),
        ("{any: [], until: .x}", "/schedule/on/until", "only a `listen` can have `until`"),
        ("{any: [], read: data}", "/schedule/on/read", "goes beside `on`"),
        ("{any: [], foreach: {}}", "/schedule/on/foreach", "each event starts an instance"),
        ("{all: []}", "/schedule/on/all", "list of event filters"),
        ("{one: {with: {}}}", "/schedule/on/one", "needs `with`"),
        ("[]", "/schedule/on", "must be an object"),
        (
            "{one: {with: {type: a, data: '${ .x == $workflow.id }'}}}",
            "/schedule/on/one/with/data",
            "the variable `$workflow` is not known here: no variable is",
        ),
        (
            "{one: {with: {type: a}, correlate: {k: {from: .k, expect: '${ $context.k }'}}}}",
            "/schedule/on/one/correlate/k/expect",
            "`$context` is not known",
        ),
        ("{one: {with: {type: a, data: '${ now > 1 }'}}}", "/schedule/on/one/with/data", "`now`"),
    ],
)
def test_what_cannot_start_a_workflow_is_refused_with_its_place(
    on: str, pointer: str, words: str
) -> None:
    with pytest.raises(DefinitionError) as caught:
        parse(text(on))
    assert f": {pointer}: " in str(caught.value)
    assert words in str(caught.value)


def test_events_and_times_are_not_mixed() -> None:
    both = text("{any: []}").replace("{on:", "{cron: '0 2 * * *', on:")
    with pytest.raises(DefinitionError, match="needs exactly one of every, cron, after, on"):
        parse(both)


def test_a_workflow_that_events_start_has_no_schedule() -> None:
    workflow = parse(text("{any: []}")).workflow
    assert workflow.schedule is None
    assert workflow.trigger is not None
    assert parse(text(None)).workflow.trigger is None


# Filters


def positions(on: str, one: dict[str, Any]) -> list[int]:
    return [fit.position for fit in trigger_sets.fits(trigger(on).strategy, one)]


@pytest.mark.parametrize(
    ("on", "data", "expected"),
    [
        ("{any: []}", None, [0]),
        ("{one: {with: {type: placed}}}", None, [0]),
        ("{one: {with: {type: paid}}}", None, []),
        ("{one: {with: {type: '${ test(\"^pl\") }'}}}", None, [0]),
        ("{one: {with: {type: placed, data: '${ .n > 1 }'}}}", {"n": 2}, [0]),
        ("{one: {with: {type: placed, data: '${ .n > 1 }'}}}", {"n": 1}, []),
        ("{one: {with: {type: placed, data: '${ .n.x }'}}}", {"n": 1}, []),  # it fails
        ("{any: [{with: {type: placed}}, {with: {source: /s}}]}", None, [0, 1]),
        ("{one: {with: {type: placed}, correlate: {k: {from: .data.k}}}}", {"k": 0}, [0]),
        ("{one: {with: {type: placed}, correlate: {k: {from: .data.k}}}}", {}, []),
        (
            "{one: {with: {type: placed}, correlate: {k: {from: .data.k, expect: 5}}}}",
            {"k": 5},
            [0],
        ),
        ("{one: {with: {type: placed}, correlate: {k: {from: .data.k, expect: 5}}}}", {"k": 6}, []),
    ],
)
def test_filters(on: str, data: Any, expected: list[int]) -> None:
    assert positions(on, event(data=data)) == expected


# Which version


async def triggers(*deployed: tuple[str, int, int | None]) -> Triggers:
    """Of definitions, each with the time at which it was stored, and the last event before it."""
    definitions = Definitions(await connect(MemoryBroker()))
    for n, (source, stored_ms, before) in enumerate(deployed):
        definition = parse(source)
        subject = subjects.definition("default", definition.name, definition.version)
        headers = None if before is None else {EVENTS_BEFORE: str(before)}
        data = canonical_bytes(definition)
        definitions._take(Stored(subject, data, headers, n + 1, stored_ms))
    return Triggers(definitions)


def versions(
    found: Triggers, sequence: int, time_ms: int = 0, one: dict[str, Any] | None = None
) -> list[str]:
    matches = found.match(one or event(), sequence, time_ms)
    return [match.definition.version for match in matches]


async def test_an_event_is_for_the_latest_version_of_its_time() -> None:
    on = "{one: {with: {type: placed}}}"
    found = await triggers(
        (text(on, "1.0.0"), 1000, 10),
        (text(on, "1.10.0"), 1000, 20),
        (text(on, "1.9.0"), 1000, 25),  # never the latest
        (text("{one: {with: {type: paid}}}", "2.0.0"), 1000, 30),
        (text(None, "3.0.0"), 1000, 40),
    )
    assert versions(found, 10) == []
    assert versions(found, 11) == ["1.0.0"]
    assert versions(found, 20) == ["1.0.0"]
    assert versions(found, 26) == ["1.10.0"]
    assert versions(found, 31) == []
    assert versions(found, 31, one=event("paid")) == ["2.0.0"]
    assert versions(found, 41, one=event("paid")) == []


async def test_a_stream_of_events_that_was_made_anew_goes_on_by_the_clock() -> None:
    found = await triggers((text("{any: []}"), 5000, 10))
    assert versions(found, 1, 5000) == ["1.0.0"]
    assert versions(found, 1, 4999) == []


async def test_without_word_of_who_registered_it_the_clock_counts() -> None:
    found = await triggers((text("{any: []}"), 5000, None))
    assert versions(found, 7, 5000) == ["1.0.0"]
    assert versions(found, 7, 4999) == []


async def test_a_deleted_version_starts_nothing() -> None:
    found = await triggers((text("{any: []}"), 0, 0))
    assert versions(found, 1) == ["1.0.0"]
    subject = subjects.definition("default", "ship", "1.0.0")
    found.definitions._take(Stored(subject, b"", {"KV-Operation": "DEL"}, 2, 0))
    assert versions(found, 1) == []


async def test_what_a_workflow_does_itself_starts_it_only_when_it_asks_for_the_type() -> None:
    own = "/workflows/default/ship"
    life = "io.serverlessworkflow.workflow.faulted.v1"
    anything = await triggers((text("{any: [{with: {source: '${ true }'}}]}"), 0, 0))
    assert versions(anything, 1, one=event(source="/other")) == ["1.0.0"]
    assert versions(anything, 1, one=event(source=own)) == []
    assert versions(anything, 1, one=event(life, source="/other")) == []
    on = f"{{any: [{{with: {{type: {life}}}}}, {{with: {{type: a}}}}]}}"
    named = await triggers((text(on), 0, 0))
    assert versions(named, 1, one=event("a", source=own)) == ["1.0.0"]
    assert versions(named, 1, one=event(life, source="/other")) == ["1.0.0"]
    assert versions(named, 1, one=event(life, source=own)) == []


# Starts


def test_the_same_events_make_the_same_start() -> None:
    events = [event(data=1), event(data=2)]
    one = start("sales", "ship", "1.0.0", events)
    again = start("sales", "ship", "1.1.0", [dict(reversed(one.items())) for one in events])
    assert again.message_id == one.message_id, "whatever the order of their attributes"
    other = start("sales", "ship", "1.0.0", [events[0], event(data=2, time="2026-01-01T00:00:00Z")])
    assert other.message_id != one.message_id
    assert one.subject == "workflow.start.sales.ship"
    body = orjson.loads(one.data)
    assert (body["version"], body["input"]) == ("1.0.0", events)
    assert one.message_id == f"start:{body['id']}"


def test_ids_of_instances_that_events_start_are_names_and_differ() -> None:
    name = "w" * 64
    made = {
        triggered_id(workflow, events)
        for workflow in (name, f"sales.{name}", "x")
        for events in (["a"], ["b"], ["a", "b"], ["b", "a"])
    }
    assert len(made) == 12
    assert all(subjects.is_name(one) for one in made)


# Sets


def take(state: dict[str, Any], on: str, sequence: int, one: Any, floor: int = 0) -> dict[str, Any]:
    strategy = trigger(on).strategy
    fits = trigger_sets.fits(strategy, one)
    one = {**one, "id": one.get("id") or str(sequence)}
    taken = Taken(fits, sequence, one, "1.0.0", len(strategy.filters))
    return trigger_sets.add(state, taken, floor)


def complete(state: dict[str, Any]) -> list[list[int]]:
    return [[int(one["id"]) for one in trigger_sets.in_order(done)] for done in state["done"]]


def test_a_set_has_one_event_of_each_filter_in_their_order() -> None:
    state = take(trigger_sets.empty(), PAIR, 1, event("paid", {"of": 5}))
    assert complete(state) == []
    state = take(state, PAIR, 2, event("paid", {"of": 5}))
    state = take(state, PAIR, 3, event("placed", {"order": 5}))
    assert complete(state) == [[3, 1]]
    state = take(state, PAIR, 4, event("placed", {"order": 5}))
    assert complete(state) == [[3, 1], [4, 2]]
    assert state["open"] == []
    assert [one["version"] for one in state["done"]] == ["1.0.0", "1.0.0"]
    assert [trigger_sets.completed_by(one) for one in state["done"]] == [3, 4]


def test_an_event_is_taken_once() -> None:
    state = take(trigger_sets.empty(), PAIR, 4, event("placed", {"order": 5}))
    assert take(state, PAIR, 4, event("placed", {"order": 5})) is state
    # Acknowledged by somebody else since: what is left of it here is a late copy.
    assert take(state, PAIR, 3, event("placed", {"order": 5}), floor=3) is state
    # Published again, and stored once more.
    assert take(state, PAIR, 9, event("placed", {"order": 5}, id="4")) is state


def test_the_memory_of_an_entry_is_bounded_and_never_forgets_what_may_come_again() -> None:
    state = trigger_sets.empty()
    for sequence in range(1, 1203):
        state = take(state, PAIR, sequence, event("placed", {"order": 5}))
        state = {**state, "open": []}
    assert len(state["seen"]) == 1202, "none of them is acknowledged"
    state = take(state, PAIR, 1203, event("placed", {"order": 5}), floor=150)
    assert state["seen"][0][0] == 151
    state = take(state, PAIR, 1204, event("placed", {"order": 5}), floor=1203)
    assert len(state["seen"]) == trigger_sets.KEEP_SEEN


def test_an_event_that_fits_two_filters_counts_for_the_first_that_is_open() -> None:
    on = "{all: [{with: {type: placed}}, {with: {source: /s}}]}"
    state = take(trigger_sets.empty(), on, 1, event())
    state = take(state, on, 2, event())
    assert complete(state) == [[1, 2]]


def test_what_not_all_filters_correlate_still_separates_sets() -> None:
    on = """{all: [{with: {type: a}, correlate: {k: {from: .data.k}, m: {from: .data.m}}},
      {with: {type: b}, correlate: {k: {from: .data.k}}},
      {with: {type: c}, correlate: {k: {from: .data.k}, m: {from: .data.m}}}]}"""
    assert trigger_sets.common_names(trigger(on).strategy) == ["k"]
    state = trigger_sets.empty()
    for sequence, (type_, m) in enumerate([("a", 1), ("a", 2), ("b", 0), ("c", 2), ("b", 0)], 1):
        state = take(state, on, sequence, event(type_, {"k": 0, "m": m}))
    assert complete(state) == [[2, 5, 4]]


def test_the_key_is_of_the_values_whatever_the_filter_that_finds_them() -> None:
    strategy = trigger(PAIR).strategy
    (placed,) = trigger_sets.fits(strategy, event("placed", {"order": 5}))
    (paid,) = trigger_sets.fits(strategy, event("paid", {"of": 5.0}))
    (other,) = trigger_sets.fits(strategy, event("paid", {"of": 6}))
    keys = [trigger_sets.key_of(strategy, fit.values) for fit in (placed, paid, other)]
    assert keys[0] == keys[1] != keys[2]


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 2)), max_size=40), st.randoms())
def test_every_event_is_in_one_set_however_often_it_comes(
    events: list[tuple[bool, int]], random: Any
) -> None:
    """One entry per key, as many sets as there are pairs, and each event in just one of them."""
    strategy = trigger(PAIR).strategy
    states: dict[str, dict[str, Any]] = {}
    deliveries = [*enumerate(events, 1), *enumerate(events, 1)]
    random.shuffle(deliveries)
    for sequence, (placed, order) in deliveries:
        one = event("placed", {"order": order}) if placed else event("paid", {"of": order})
        key = trigger_sets.key_of(strategy, trigger_sets.fits(strategy, one)[0].values)
        states[key] = take(states.get(key, trigger_sets.empty()), PAIR, sequence, one)
    for order in range(3):
        sides = [sum(1 for one in events if one == (side, order)) for side in (True, False)]
        key = trigger_sets.key_of(strategy, {"order": order})
        state = states.get(key, trigger_sets.empty())
        assert len(state["done"]) == min(sides)
        assert len(state["open"]) == max(sides) - min(sides)
    sets = [one for state in states.values() for one in (*state["done"], *state["open"])]
    found = sorted(entry[0] for one in sets for entry in one["events"].values())
    assert found == list(range(1, len(events) + 1))


# For people


def test_the_latest_version_says_which_events_start_it() -> None:
    def registered(version: str, on: str | None, name: str = "ship") -> RegisteredDefinition:
        definition = parse(text(on, version, name))
        return RegisteredDefinition("default", name, version, canonical_bytes(definition))

    found = schedules.triggered(
        [
            registered("1.0.0", "{any: []}", "all"),
            registered("1.0.0", "{any: []}", "gone"),
            registered("1.1.0", None, "gone"),
            registered("1.0.0", "{any: []}"),
            registered("1.1.0", PAIR),
            registered("1.0.0", "{one: {with: {source: /s}}}", "sourced"),
        ]
    )
    assert [(one.workflow, one.schedule, one.due_ms) for one in found] == [
        ("all", "on any: any event", None),
        ("ship", "on all: placed, paid", None),
        ("sourced", "on one: any type", None),
    ]
