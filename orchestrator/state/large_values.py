"""Which large values of a snapshot are stored beside it, so that no commit writes them again. Pure.

To rent or to buy: a value that stays as it is goes with the snapshot until that has taken about
as many bytes as are worth a message of its own. So what is written is at most about twice what
had to be, whatever happens later, and what changes with every commit never has a message.

Whether a value stayed as it was is seen by its identity: the machine never changes what a snapshot
holds, and hands on what it does not touch. A value is named by the token of the commit that sets it
apart: no other commit, and no other process that tries the same one, writes or drops that name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any, NamedTuple

import orjson

from wf.protocol.large_values import Places

JsonObject = dict[str, Any]

TABLES = ("frames", "runs", "compensations")  # of entries that have large values of their own
WITHIN = frozenset({"slot"})  # never set apart: the admission reads it in snapshots as they are


class Rules(NamedTuple):
    """Sizes in bytes of JSON."""

    snapshot: int = 16 * 1024  # one that takes less is written whole
    value: int = 1024  # one that takes less is never set apart
    rent: int = 64 * 1024  # about so much is written for a value before it is set apart


DEFAULT_RULES = Rules()


@dataclass(slots=True, eq=False)
class Value:
    """One large value of an instance."""

    content: Any  # kept, so that its identity is its own
    size: int
    written: int = 0  # bytes, with snapshots so far
    key: str | None = None
    stored: bool = False  # a snapshot that names it is known to be stored


@dataclass(slots=True)
class Watch:
    """The large values of the snapshot that was stored last."""

    values: dict[int, Value] = field(default_factory=dict)  # by id() of their content
    entries: dict[tuple[str, str], tuple[JsonObject, list[tuple[str, Value]]]] = field(
        default_factory=dict
    )  # by table and name: the entry of the snapshot, and its large values by key


@dataclass(slots=True)
class Plan:
    """How one commit stores a snapshot."""

    snapshot: JsonObject  # without what is set apart
    places: Places
    values: list[Value]  # to be stored before it
    dropped: list[str]  # keys that nothing names any more, once it is stored
    watch: Watch
    size: int  # of what is set apart


def plan(snapshot: JsonObject, watch: Watch, token: str, rules: Rules = DEFAULT_RULES) -> Plan:
    """Decide for a snapshot that goes on. `watch` is that of the one before; `token` the commit's.

    What a commit decides here and does not store in the end is decided again by the next one.
    """
    fresh = _look(snapshot, watch, rules)
    placed = list(_placed(snapshot, fresh))
    times = Counter(id(value) for _, value in placed)
    taken = {one.key for one in (*watch.values.values(), *fresh.values.values())}
    for value in fresh.values.values():
        bytes_here = value.size * times[id(value)]
        if value.key is None and value.written > 0 and value.written + bytes_here > rules.rent:
            value.key = next(key for n in count() if (key := f"{token}-{n}") not in taken)
            taken.add(value.key)
        if value.key is None:
            value.written += bytes_here
    return Plan(
        snapshot=_without(snapshot, [path for path, value in placed if value.key is not None]),
        places=_places(placed),
        values=[one for one in fresh.values.values() if one.key is not None and not one.stored],
        dropped=_dropped(watch, {one.key for one in fresh.values.values()}),
        watch=fresh,
        size=sum(one.size for one in fresh.values.values() if one.key is not None),
    )


def whole(watch: Watch) -> list[str]:
    """The keys to drop when a snapshot is stored whole, as that of an instance that has ended."""
    return _dropped(watch, set())


def restored(values: dict[str, Any], sizes: dict[str, int]) -> Watch:
    """What is known of values (by key) that were read and put back."""
    contents = (Value(content, sizes[key], key=key, stored=True) for key, content in values.items())
    return Watch({id(value.content): value for value in contents})


def landed(watch: Watch) -> None:
    """The snapshot that names the values of `watch` is stored."""
    for value in watch.values.values():
        value.stored = value.key is not None


def _look(snapshot: JsonObject, watch: Watch, rules: Rules) -> Watch:
    """The large values of the snapshot. What did not change is not measured again."""
    fresh = Watch()
    for name, content in snapshot.items():
        if name not in TABLES:
            if name not in WITHIN:
                _value(content, watch, fresh, rules)
            continue
        for number, entry in content.items():
            place = (name, number)
            known = watch.entries.get(place)
            if known is None or known[0] is not entry:
                found = ((key, _value(one, watch, fresh, rules)) for key, one in entry.items())
                known = (entry, [(key, value) for key, value in found if value is not None])
            fresh.entries[place] = known
            for _, value in known[1]:
                fresh.values[id(value.content)] = value
    return fresh


def _value(content: Any, watch: Watch, fresh: Watch, rules: Rules) -> Value | None:
    """`content` as a large value of `fresh`; None when it is small."""
    kind = type(content)
    if kind not in (dict, list, str) or (kind is str and len(content) < rules.value):
        return None
    known = fresh.values.get(id(content)) or watch.values.get(id(content))
    if known is None:
        size = len(orjson.dumps(content))
        if size < rules.value:
            return None
        known = Value(content, size)
    fresh.values[id(content)] = known
    return known


def _placed(snapshot: JsonObject, fresh: Watch) -> Iterator[tuple[tuple[str, ...], Value]]:
    """Every place of a large value."""
    for name, content in snapshot.items():
        if name not in TABLES and id(content) in fresh.values:
            yield (name,), fresh.values[id(content)]
    for (table, number), (_, large) in fresh.entries.items():
        for name, value in large:
            yield (table, number, name), value


def _without(snapshot: JsonObject, paths: list[tuple[str, ...]]) -> JsonObject:
    """A copy of the snapshot without what is at `paths`."""
    copy = {**snapshot, **{table: {**snapshot[table]} for table in TABLES if table in snapshot}}
    for path in paths:
        if len(path) == 1:
            del copy[path[0]]
            continue
        table, number, name = path
        entry = copy[table][number]
        copy[table][number] = {key: value for key, value in entry.items() if key != name}
    return copy


def _places(placed: list[tuple[tuple[str, ...], Value]]) -> Places:
    found: Places = {}
    for path, value in placed:
        if value.key is not None:
            found.setdefault(value.key, []).append(list(path))
    return found


def _dropped(watch: Watch, kept: set[str | None]) -> list[str]:
    stored = (one.key for one in watch.values.values() if one.stored)
    return [key for key in stored if key is not None and key not in kept]
