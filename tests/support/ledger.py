"""The books of a pool, read from its streams: what was accepted, what became of it, in which order.

`balance` fails unless every accepted start has exactly one instance, every instance completed, and
the history of each folds to its snapshot with no event applied twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import orjson

from orchestrator.definition import parse
from orchestrator.state.history_fold import fold
from wf.jetstream import topology
from wf.jetstream.client import JetStream
from wf.jetstream.port import Stored
from wf.protocol import subjects

JsonObject = dict[str, Any]


@dataclass(slots=True, frozen=True)
class Books:
    """What the streams say of some instances."""

    snapshots: dict[str, JsonObject]  # by instance, the commit record included
    history: dict[str, list[JsonObject]]  # by instance, as stored, duplicates included
    written_ms: list[int]  # when each of these history messages was stored


async def read_books(js: JetStream, names: Iterable[str], after: int = 0) -> Books:
    """Of the instances `names`; history only above sequence `after`."""
    wanted = list(names)
    stored = await js.last_many(topology.WORKFLOW_STATES, [subjects.state(n) for n in wanted])
    snapshots = {
        name: orjson.loads(stored[subjects.state(name)].data)
        for name in wanted
        if subjects.state(name) in stored
    }
    history: dict[str, list[JsonObject]] = {name: [] for name in wanted}
    written = await everything(js, topology.WORKFLOW_HISTORY, "workflow.history.*", after)
    for one in written:
        history.setdefault(one.subject.rpartition(".")[2], []).append(orjson.loads(one.data))
    return Books(snapshots, history, [one.timestamp_ms for one in written])


async def everything(js: JetStream, stream: str, subject: str, after: int = 0) -> list[Stored]:
    """All messages of `subject` above sequence `after`."""
    found: list[Stored] = []
    while True:
        more = await js.scan(stream, subject, from_sequence=after + 1, limit=1000)
        found += more
        if not more:
            return found
        after = more[-1].sequence


def balance(books: Books, accepted: list[str], definition: str) -> None:
    """Raise AssertionError that names the instances for which the books do not balance."""
    parsed = parse(definition)
    reconcile(books, accepted, lambda *_: parsed, _shipped)


def reconcile(
    books: Books,
    accepted: list[str],
    lookup: Callable[..., Any],
    ending: Callable[[str, JsonObject], str | None],
) -> None:
    """The same for any workflows; `ending` says what is wrong with how an instance ended."""
    assert len(set(accepted)) == len(accepted)
    wrong: dict[str, str] = {}
    for name in accepted:
        snapshot = books.snapshots.get(name)
        if snapshot is None:
            wrong[name] = "has no snapshot"
            continue
        problem = ending(name, snapshot) or _history_problem(snapshot, books.history[name], lookup)
        if problem:
            wrong[name] = problem
    # Also those that nobody started: an id must never be made up.
    strangers = set(books.history) - set(accepted)
    assert not wrong, f"{len(wrong)} of {len(accepted)} do not balance: {wrong}"
    assert not strangers, f"nobody started {strangers}"


def _shipped(name: str, snapshot: JsonObject) -> str | None:
    if snapshot["status"] != "completed":
        return f"is {snapshot['status']}: {snapshot.get('error')}"
    if snapshot["output"]["status"] != "shipped":
        return f"has the output {snapshot['output']}"
    return None


def _history_problem(
    snapshot: JsonObject, stored: list[JsonObject], lookup: Callable[..., Any]
) -> str | None:
    final = {key: value for key, value in snapshot.items() if key != "commit"}
    if fold(stored, lookup) != final:
        return "its history does not fold to its snapshot"
    by_place: dict[tuple[int, int], JsonObject] = {}
    for message in stored:
        first = by_place.setdefault((message["commit"], message["n"]), message)
        if first != message:
            return f"two tales of commit {message['commit']}"
    if {commit for commit, _ in by_place} != set(range(1, snapshot["commit"]["number"] + 1)):
        return f"commits {sorted(by_place)} of {snapshot['commit']['number']}"
    events = [(m["stream"], m["sequence"]) for m in by_place.values()]
    if len(events) != len(set(events)):
        return "an event was applied twice"
    starts = [m for m in by_place.values() if m["event"]["kind"] == "start"]
    return None if len(starts) == 1 else f"{len(starts)} starts took effect"
