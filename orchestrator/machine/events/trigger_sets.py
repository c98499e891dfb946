"""Which filters of a `schedule.on` an event fits, and sets of events being collected for `all`.

A set takes one event for each filter, all of which give the same value for correlations of the same
name. The sets of one key are kept together in one entry of WORKFLOW_COLLECTIONS:

    seen   [sequence, identity] of the events that were taken, of the latest ones at least
    open   sets that are not complete: {"values": {name: value}, "events": {filter: [sequence,
           event]}}, the oldest first
    done   complete ones whose start may not be stored yet; with the `version` to start

The key stands for the values of the correlations that all filters have, so that whatever may
belong together has the same key, and events of other orders do not meet at one entry.

An event is told from others by all that it says. A publisher that did not hear whether its event
was stored publishes it again, as it was; the stream knows it only for two minutes.
"""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple

import orjson

from orchestrator.definition.compiler.nodes import Filter, Strategy
from orchestrator.expressions.jq import DEFAULT_LIMITS, Expression
from orchestrator.machine.events.filters import UNFIT, has_attributes
from orchestrator.machine.kernel.digest import digest, same
from wf.errors import MessageError
from wf.protocol import messages

JsonObject = dict[str, Any]

KEEP_SEEN = 1000  # events that an entry remembers though they are acknowledged


class Fit(NamedTuple):
    """A filter that an event fits, and the values of its correlations."""

    position: int
    values: JsonObject


def fits(strategy: Strategy, event: JsonObject) -> list[Fit]:
    """The filters that the event fits, in order. `any` without filters is one that takes all."""
    if not strategy.filters:
        return [Fit(0, {})]
    found = ((n, _values(one, event)) for n, one in enumerate(strategy.filters))
    return [Fit(n, values) for n, values in found if values is not None]


def _values(one: Filter, event: JsonObject) -> JsonObject | None:
    """What the correlations without `expect` give, if the event fits; None if it does not."""
    if not has_attributes(one, event, _ask):
        return None
    values: JsonObject = {}
    for correlation in one.correlations:
        try:
            value = _ask(correlation.source, event)
            if correlation.expect is not None:
                expected = correlation.expect.build(lambda found: _ask(found, None))
        except UNFIT:
            return None
        if correlation.expect is not None:
            if not same(value, expected):
                return None
        elif value is None:
            return None
        else:
            values[correlation.name] = value
    return values


def _ask(expression: Expression, value: Any) -> Any:
    return expression.evaluate(value, {}, DEFAULT_LIMITS)


def common_names(strategy: Strategy) -> list[str]:
    """The correlations that every filter gives a value for."""
    names = [{c.name for c in one.correlations if c.expect is None} for one in strategy.filters]
    return sorted(set.intersection(*names))


def key_of(strategy: Strategy, values: JsonObject) -> str:
    """The last part of the key under which an event with these values is collected."""
    names = common_names(strategy)
    return digest(tuple((name, "") for name in names), [values[name] for name in names])


def identity(event: JsonObject) -> str:
    """What tells an event from all others; the same for one that is published again."""
    text = orjson.dumps(event, option=orjson.OPT_SORT_KEYS)
    return hashlib.blake2b(text, digest_size=10).hexdigest()


def empty() -> JsonObject:
    """The state of a key under which nothing is collected yet."""
    return messages.collection_body(seen=[], open=[], done=[])


def checked(state: JsonObject) -> JsonObject:
    """`state` as it was read. Raises MessageError when it is no state of a key."""
    lists = [state.get(name) for name in ("seen", "open", "done")]
    if not all(isinstance(one, list) for one in lists):
        raise MessageError("`seen`, `open` and `done` must be arrays")
    if not all(_is_entry(one, str) for one in state["seen"]):
        raise MessageError("`seen` must have pairs of a sequence and an identity")
    if not all(_is_set(one) for one in (*state["open"], *state["done"])):
        raise MessageError("`open` and `done` must have sets of `values` and `events`")
    if not all(isinstance(one.get("version"), str) and one["events"] for one in state["done"]):
        raise MessageError("each set in `done` must have events and a `version`")
    return state


def _is_set(one: Any) -> bool:
    return (
        isinstance(one, dict)
        and isinstance(one.get("values"), dict)
        and isinstance(one.get("events"), dict)
        and all(
            position.isdecimal() and _is_entry(entry, dict)
            for position, entry in one["events"].items()
        )
    )


def _is_entry(one: Any, what: type) -> bool:
    match one:
        case [int(), event]:
            return isinstance(event, what)
    return False


class Taken(NamedTuple):
    """An event to be put into a set."""

    fits: list[Fit]
    sequence: int  # in its stream
    event: JsonObject
    version: str  # of the definition that asks for it
    needed: int  # how many events make a set: as many as there are filters


def add(state: JsonObject, taken: Taken, floor: int) -> JsonObject:
    """The state with the event in the oldest set that lacks it; unchanged when it was taken before.

    `floor`: all events up to it are acknowledged, as was read after the state: a message about one
    of them that is still around is a late copy.
    """
    known = identity(taken.event)
    if taken.sequence <= floor or any(one[1] == known for one in state["seen"]):
        return state
    entry = [taken.sequence, taken.event]
    opened: list[JsonObject] = list(state["open"])
    at, fit = _place(opened, taken.fits)
    one = opened[at] if at < len(opened) else {"values": {}, "events": {}}
    one = {
        "values": {**one["values"], **fit.values},
        "events": {**one["events"], str(fit.position): entry},
    }
    done = state["done"]
    if len(one["events"]) == taken.needed:
        opened[at : at + 1] = []
        done = [*done, {**one, "version": taken.version}]
    else:
        opened[at : at + 1] = [one]
    seen = _pruned([*state["seen"], [taken.sequence, known]], floor)
    return {**state, "seen": seen, "open": opened, "done": done}


def _place(opened: list[JsonObject], fits: list[Fit]) -> tuple[int, Fit]:
    """The set that the event goes into, maybe a new one at the end, and for which filter."""
    for at, one in enumerate(opened):
        for fit in fits:
            if _has_room(one, fit):
                return at, fit
    return len(opened), fits[0]


def _has_room(one: JsonObject, fit: Fit) -> bool:
    if str(fit.position) in one["events"]:
        return False
    values = one["values"]
    return all(same(values[name], value) for name, value in fit.values.items() if name in values)


def _pruned(seen: list[list[Any]], floor: int) -> list[list[Any]]:
    """Events below the floor may come again, too: from a broker that was killed, which may have
    forgotten acknowledgements, or from their publisher."""
    spare = len(seen) - KEEP_SEEN
    if spare <= 0:
        return seen
    return [one for n, one in enumerate(seen) if n >= spare or one[0] > floor]


def in_order(done: JsonObject) -> list[JsonObject]:
    """The events of a complete set, in the order of the filters."""
    return [done["events"][position][1] for position in sorted(done["events"], key=int)]


def completed_by(done: JsonObject) -> int:
    """The sequence of the event that a complete set had been waiting for."""
    sequences: list[int] = [entry[0] for entry in done["events"].values()]
    return max(sequences)
