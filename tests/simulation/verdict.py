"""What must hold when everything has come to rest (docs/design.md §5, 1, 3, 5, 6 and 8)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import orjson

from orchestrator.definition.compiler.nodes import Task
from orchestrator.machine import TERMINAL
from orchestrator.state import commit as records
from orchestrator.state.commit import Record
from orchestrator.state.history_fold import fold, ordered
from tests.simulation import beside, flows, line, litter
from tests.simulation.plan import Wish
from wf.errors import MessageError
from wf.jetstream import topology
from wf.protocol import subjects
from wf.protocol.messages import COMPLETED, FAILED, HEARTBEAT, STARTED

if TYPE_CHECKING:
    from tests.simulation.world import World

JsonObject = dict[str, Any]


def record_of(world: World, instance: str) -> Record:
    stream = world.broker.streams[topology.WORKFLOW_STATES]
    message = stream.last_of(subjects.state(instance))
    record = records.decode(None if message is None else message.stored())
    if record.commit is not None:
        beside.completed(stream, instance, record)
    return record


def history_of(world: World, instance: str) -> list[JsonObject]:
    stream = world.broker.streams[topology.WORKFLOW_HISTORY]
    name = subjects.history(instance)
    return [orjson.loads(m.data) for m in stream.messages.values() if m.subject == name]


def instances_of(world: World) -> list[str]:
    """What was asked for, then the children."""
    prefix = subjects.state("")
    states = world.broker.streams[topology.WORKFLOW_STATES].messages.values()
    stored = [message.subject.removeprefix(prefix).partition(".")[0] for message in states]
    return list(dict.fromkeys([*(wish.instance for wish in world.plan.wishes), *stored]))


def unrest(world: World) -> list[str]:
    """What is still to be done; empty: everything has come to rest."""
    found = []
    for instance in instances_of(world):
        snapshot = record_of(world, instance).snapshot
        status = snapshot["status"] if snapshot else "absent"
        if status not in TERMINAL:
            flow = snapshot["workflow"] if snapshot else "-"
            found.append(f"{instance} ({flow}) is {status}")
    for (stream, name), consumer in world.broker.consumers.items():
        if consumer.unacknowledged or consumer.waiting:
            found.append(
                f"{stream}/{name}: {consumer.unacknowledged} unacknowledged, "
                f"{consumer.waiting} waiting"
            )
    return found


def problems(world: World) -> Iterator[str]:
    """Everything that is wrong."""
    asked = Counter((one.instance, one.kind) for one in world.client.accepted)
    wishes = {wish.instance: wish for wish in world.plan.wishes}
    for instance in instances_of(world):
        record = record_of(world, instance)
        if record.snapshot is None or record.commit is None:
            if asked[instance, "start"]:
                yield f"{instance}: its start was accepted, and there is no such instance"
            continue
        history = history_of(world, instance)
        yield from _history(instance, record.commit.number, history)
        yield from _fold(instance, record.snapshot, history)
        yield from _undone(instance, record.snapshot, history, lossy=world.plan.max_deliver < 3)
        if instance in wishes:
            yield from _outcome(world, wishes[instance], record.snapshot, asked)
    yield from line.left(world.broker.streams[topology.WORKFLOW_PLACES])
    yield from _triggered(world)
    letters = world.broker.streams[topology.DEAD_LETTERS].messages.values()
    yield from _bad(world, Counter(_instance(data) for data in {m.data for m in letters}))
    messages = [m.data for m in letters if m.subject.startswith("dead.message.")]
    yield from litter.problems(world.litter, messages)
    bugs = {m.subject for m in letters if m.subject.startswith("dead.engine.")}
    expected = {f"dead.engine.{wish.instance}" for wish in world.plan.wishes if _raises(wish)}
    if bugs - expected:
        yield f"unexpected dead letters: {sorted(bugs)}"


def _instance(letter: bytes) -> str | None:
    found: str | None = orjson.loads(letter).get("instance")
    return found


def _raises(wish: Wish) -> bool:
    return wish.flow == "raises"


def _bad(world: World, letters: Counter[str | None]) -> Iterator[str]:
    """Each event that kills or raises is set aside once, and has killed no process of a place
    twice."""
    for wish in world.plan.wishes:
        if wish.flow in flows.BAD and letters[wish.instance] != 1:
            yield f"{wish.instance} is bad, and has {letters[wish.instance]} dead letters"
    for (process, instance), deaths in world.poisoned.items():
        if deaths > 1:
            yield f"{instance} has killed {process} {deaths} times"


def _history(instance: str, last: int, messages: list[JsonObject]) -> Iterator[str]:
    """Whole, and every event and every attempt's result at most once."""
    entries = ordered(messages)
    commits = {entry["commit"] for entry in entries}
    if commits != set(range(1, last + 1)):
        yield f"{instance}: history has commits {sorted(commits)} of {last}"
    for number in commits:
        places = [entry["n"] for entry in entries if entry["commit"] == number]
        if places != list(range(len(places))):
            yield f"{instance}: history of commit {number} has the places {places}"
    events = Counter((entry["stream"], entry["sequence"]) for entry in entries)
    yield from (f"{instance}: {event} counted {n} times" for event, n in events.items() if n > 1)
    results = [entry["event"] for entry in entries if entry["event"]["kind"] == "result"]
    # A success of an attempt whose worker was given up counts still, while the run is open.
    attempts = Counter(
        (event["run"], event["attempt"], _of_its_kind(event["outcome"]))
        for event in results
        if event["outcome"] != HEARTBEAT
    )
    held = any(step["type"] == "run.held" for entry in entries for step in entry["entries"])
    for attempt, count in attempts.items():
        if count > 1 and not held:
            yield f"{instance}: results of {attempt} counted {count} times"
    starts = [entry for entry in entries if entry["event"]["kind"] == "start"]
    if len(starts) != 1:
        yield f"{instance}: {len(starts)} starts in its history"


def _of_its_kind(outcome: str) -> str:
    """One of each may count of an attempt: its start, a success, and whatever ends it badly."""
    return outcome if outcome in (STARTED, COMPLETED) else FAILED


def _fold(instance: str, snapshot: JsonObject, messages: list[JsonObject]) -> Iterator[str]:
    try:
        folded = fold(messages, flows.lookup)
    except MessageError as error:
        yield f"{instance}: its history does not fold: {error}"
        return
    if orjson.dumps(folded, option=orjson.OPT_SORT_KEYS) != orjson.dumps(
        snapshot, option=orjson.OPT_SORT_KEYS
    ):
        yield f"{instance}: its history gives {folded}, stored is {snapshot}"


def _undone(
    instance: str, snapshot: JsonObject, messages: list[JsonObject], lossy: bool
) -> Iterator[str]:
    """Whatever was done and can be undone has been, once each, if the instance ended badly."""
    if snapshot["status"] not in ("faulted", "cancelled"):
        return
    definition = flows.DEFINITIONS[snapshot["workflow"]]
    compensable = {
        node.pointer
        for node in definition.workflow.nodes.values()
        if isinstance(node, Task) and node.compensate is not None
    }
    entries = [entry for message in ordered(messages) for entry in message["entries"]]
    done = sum(e["type"] == "task.completed" and e["pointer"] in compensable for e in entries)
    found = snapshot.get("compensated", {"done": 0, "failed": []})
    if found["done"] + len(found["failed"]) != done or (found["failed"] and not lossy):
        yield f"{instance}: {done} tasks were done that can be undone, of those {found}"


def _triggered(world: World) -> Iterator[str]:
    """Each event has started one instance, and each pair of events one; nothing else has."""
    stream = world.broker.streams[topology.CLOUD_EVENTS]
    told: set[str] = set()
    types: dict[str, set[str]] = {}
    for message in stream.messages.values():
        if (stream.name, message.sequence) in world.litter.stored_ones:
            continue
        event = orjson.loads(message.data)
        if event["type"] in ("placed", "paid"):
            told.add(event["id"])
            types.setdefault(event["data"]["of"], set()).add(event["type"])
    pairs = [of for of, found in types.items() if len(found) == 2]
    started: dict[str, list[str]] = {"told": [], "paired": []}
    for instance in instances_of(world):
        snapshot = record_of(world, instance).snapshot
        if snapshot is not None and snapshot["workflow"] in started:
            events = snapshot["input"]
            of = [event["data"]["of"] for event in events]
            kinds = [event["type"] for event in events]
            if snapshot["workflow"] == "paired" and (kinds != ["paid", "placed"] or of[0] != of[1]):
                yield f"{instance} is started by {kinds} of {of}"
            name = of[0] if snapshot["workflow"] == "paired" else events[0]["id"]
            started[snapshot["workflow"]].append(name)
    for workflow, wanted in (("told", sorted(told)), ("paired", sorted(pairs))):
        if sorted(started[workflow]) != wanted:
            yield f"{workflow} was started for {sorted(started[workflow])}, not for {wanted}"
    entries = world.broker.streams[topology.WORKFLOW_COLLECTIONS].messages.values()
    states = [orjson.loads(message.data) for message in entries if message.data]
    left = sum(len(state["open"]) for state in states)
    if left != len(types) - len(pairs) or any(state["done"] for state in states):
        yield f"{left} sets wait, not {len(types) - len(pairs)}: {states}"


def _outcome(
    world: World,
    wish: Wish,
    snapshot: JsonObject,
    asked: Counter[tuple[str, str]],
) -> Iterator[str]:
    status, output = snapshot["status"], snapshot.get("output")
    wanted = flows.EXPECTED[wish.flow](wish.number)
    if status not in TERMINAL:
        return  # the unrest says so
    if status == "cancelled" and asked[wish.instance, "cancel"]:
        return
    lossy = world.plan.max_deliver < 3
    if lossy and status == "faulted":
        return
    if lossy and wish.flow in ("tries", "catches", "disappointed", "races"):
        return  # they catch that too, and go on with another value
    found = (status, output if status == "completed" else None)
    if found != wanted:
        yield f"{wish.instance} ({wish.flow}, n={wish.number}) ended as {found}, not as {wanted}"
