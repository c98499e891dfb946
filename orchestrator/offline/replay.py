"""`wf replay`: fold a history and compare it with what is stored, commit by commit. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from orchestrator.definition import Definition, parse
from orchestrator.definition.compiler.problems import escape
from orchestrator.engine.apply import FEW_ENTRIES, trimmed
from orchestrator.machine import DEFAULT_LIMITS
from orchestrator.registry.limits import machine_limits
from orchestrator.state.history_fold import HeadGone, steps
from wf.settings import Settings

JsonObject = dict[str, Any]
Place = tuple[str, str, str]  # namespace, workflow, version

SAME = "same"
DIFFERENT = "different"
PARTIAL = "partial"
MISSING = "(nothing)"


class Difference(NamedTuple):
    pointer: str
    recorded: Any
    replayed: Any


def replay(
    history: Iterable[JsonObject],
    snapshot: JsonObject | None,
    documents: Mapping[Place, JsonObject],
    settings: Settings | None,
) -> JsonObject:
    """What `wf replay --json` prints: `result`, `events` and `commit` that were compared, and the
    first `difference` {commit, n, event, pointer, recorded, replayed}, or why not all: `detail`.

    `snapshot`: as stored, with its `commit`, or None when it is gone; `documents`: the definitions
    that the history names; `settings`: the engine's, whose limits count.
    """
    messages = list(history)
    last = None if snapshot is None else snapshot["commit"]["number"]
    if last is not None:  # what was committed since the snapshot was read is left out
        messages = [message for message in messages if message["commit"] <= last]
    definitions: dict[Place, Definition] = {
        place: parse(document, registered=True) for place, document in documents.items()
    }
    limits = DEFAULT_LIMITS if settings is None else machine_limits(settings)
    shape: JsonObject = {"result": SAME, "events": 0, "commit": 0}
    replayed: JsonObject | None = None
    try:
        for message, transition in steps(
            messages, lambda *place: definitions.get(_place(*place)), limits
        ):
            shape["commit"] = message["commit"]
            found = _entries_differ(message, transition.history, transition.ignored)
            if found is not None:
                return {**shape, "result": DIFFERENT, "difference": _shape(message, found)}
            shape["events"] += 1
            replayed = transition.snapshot
            final = message
    except HeadGone as gone:
        return {**shape, "result": PARTIAL, "detail": str(gone)}
    if replayed is None or snapshot is None:
        missing = "nothing is recorded" if replayed is None else "the snapshot has expired"
        return {
            **shape,
            "result": PARTIAL,
            "detail": f"{missing}: there is nothing to compare with",
        }
    if last is not None and shape["commit"] < last and snapshot["commit"].get("history"):
        detail = f"the history of commit {last} is not published yet: try again"
        return {**shape, "result": PARTIAL, "detail": detail}
    stored = {key: value for key, value in snapshot.items() if key != "commit"}
    found = first_difference(stored, replayed)
    if found is None:
        return shape
    return {**shape, "result": DIFFERENT, "difference": _shape(final, found)}


def _place(namespace: str, name: str, version: str | None) -> Place:
    return namespace, name, version or ""


def _entries_differ(
    message: JsonObject, entries: list[JsonObject], ignored: str | None
) -> Difference | None:
    """Of one event: what history says that it did against what it does now."""
    if ignored is not None:
        return Difference("/event", "applied", f"ignored: {ignored}")
    recorded = message["entries"]
    found = first_difference(recorded, trimmed(entries), "/entries")
    if found is None or first_difference(recorded, trimmed(entries, FEW_ENTRIES)) is None:
        return None
    before, now = _known_before(recorded), _known_before(entries)
    is_older = len(recorded) - len(before) < len(entries) - len(now)
    return None if is_older and first_difference(before, now) is None else found


# Of these an older version recorded none, or only some: for tasks that an end cancelled it did not.
_SINCE = frozenset({"task.suspended", "task.resumed", "task.cancelled"})


def _known_before(entries: list[JsonObject]) -> list[JsonObject]:
    return [entry for entry in entries if entry["type"] not in _SINCE]


def _shape(message: JsonObject, found: Difference) -> JsonObject:
    return {
        "commit": message["commit"],
        "n": message["n"],
        "event": message["event"]["kind"],
        **found._asdict(),
    }


def first_difference(recorded: Any, replayed: Any, pointer: str = "") -> Difference | None:
    """The first place, in document order, where two JSON values differ; 1, 1.0 and true do."""
    pending = [(pointer, recorded, replayed)]
    while pending:
        place, one, other = pending.pop()
        if type(one) is dict and type(other) is dict:
            keys = [*one, *(key for key in other if key not in one)]
            pending += [
                (f"{place}/{escape(key)}", one.get(key, MISSING), other.get(key, MISSING))
                for key in reversed(keys)
            ]
        elif type(one) is list and type(other) is list:
            length = max(len(one), len(other))
            left, right = ([*side, *[MISSING] * (length - len(side))] for side in (one, other))
            pending += [(f"{place}/{at}", left[at], right[at]) for at in reversed(range(length))]
        elif type(one) is not type(other) or one != other:
            return Difference(place, one, other)
    return None
