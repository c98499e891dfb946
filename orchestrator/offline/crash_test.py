"""`wf test`: a definition run offline, and once more for every place where a process may die. Pure.

Of every event that is applied the engine is killed three times, each in a run of its own: before
its commit is stored, before what follows from it is published, and before the event is acked. The
successor reads what is stored, publishes it (again), and gets the event (again). Of every attempt
of a call the worker is killed once, when the work is done and the result not stored: the same
attempt is run again. However it dies, the instance must end as it does when nobody dies.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson

from orchestrator.definition import Definition, parse
from orchestrator.machine import Command, Dispatch, Send, SetTimer, Transition, advance
from orchestrator.offline.simulator import MAX_EVENTS, Offline, publish
from orchestrator.offline.stubs import Answer, read_stubs
from orchestrator.state import commit as records
from orchestrator.state.commit import Commit
from wf.jetstream.port import Stored
from wf.protocol import subjects

JsonObject = dict[str, Any]

COMMIT, OUTBOX, ACK = "before the commit", "before the outbox", "before the ack"
ENGINE_POINTS = (COMMIT, OUTBOX, ACK)
WORKER = "before the result is stored"

MAX_RUNS = 3000  # of one test; more places than that are tried in even steps
MAX_APPLIED = 200_000  # events in all these runs together, about
COMPARED = ("status", "output", "error", "compensated")


class Crash(NamedTuple):
    """Where a process dies: the engine at the event number `at`, or the worker of that attempt."""

    point: str
    at: int


@dataclass(slots=True)
class Crashing(Offline):
    """An offline instance whose engine or worker dies at one place."""

    crash: Crash | None = None
    repeated: int = 0  # attempts that were run more than once
    wrong: list[str] = field(default_factory=list)  # what must not be, however it ends
    place: str = ""  # the event or the task at which it died
    _answers: dict[tuple[int, int], Answer] = field(default_factory=dict)

    @property
    def attempts(self) -> int:
        """How many attempts of calls there were, each counted once."""
        return len(self._answers)

    def feed(self, event: JsonObject) -> Transition:
        """As it is, unless this is the event at which the engine dies."""
        crash = self.crash
        if crash is None or crash.point == WORKER or crash.at != len(self.log):
            return Offline.feed(self, event)
        if crash.point == COMMIT:
            self.decide(event)  # for nothing: nobody will know
            self._restart(None)
            return self._met(event, Offline.feed(self, event))
        transition = self.decide(event)
        if transition.ignored is not None:
            return transition
        self.store(event, transition)
        if crash.point == ACK:
            self.obey(transition.commands)
        self.obey(self._restart(transition))
        again = self.decide(event)
        if again.ignored is None:
            self.wrong.append("the event took effect twice")
        return self._met(event, transition)

    def _met(self, event: JsonObject, transition: Transition) -> Transition:
        self.place = _place(event, transition.history)
        return transition

    def _restart(self, stored: Transition | None) -> list[Command]:
        """Another process: it has what is stored, and reads the definition anew. The outbox."""
        document = self.definition.document
        self.definition = parse(document, registered=True)
        if self.snapshot is None:
            return []
        commands = [] if stored is None else stored.commands
        commit = Commit(
            number=len(self.log),
            token=str(len(self.log)),
            tasks=[one.run for one in commands if isinstance(one, Dispatch)],
            timers=[one.timer for one in commands if isinstance(one, SetTimer)],
            sends=[(one.kind, one.body) for one in commands if isinstance(one, Send)],
        )
        value = records.encode(self.snapshot, commit)
        subject = subjects.state(self.snapshot["id"])
        record = records.decode(Stored(subject, value, headers=None, sequence=1, timestamp_ms=0))
        if record.snapshot != self.snapshot or record.commit is None:
            self.wrong.append("the stored snapshot is not the one that was decided")
            return []
        self.snapshot = record.snapshot
        return _commands(record.commit)

    def obey(self, commands: Iterable[Command]) -> None:
        """In the order in which an outbox is published, with and without crash."""
        Offline.obey(self, sorted(commands, key=lambda one: _ORDER.get(type(one), 0)))

    def ask(self, run: int, attempt: int, names: tuple[str, ...], input: Any) -> Answer:
        """What the same attempt gives once more is what it gave, or what its stub says."""
        first = self._answers.get((run, attempt))
        if first is None:
            first = Offline.ask(self, run, attempt, names, input)
            number = len(self._answers)
            self._answers[run, attempt] = first
            if self.crash != Crash(WORKER, number):
                return first
            self.place = names[0]
        self.repeated += 1
        return first.again or first


_ORDER: dict[type[Command], int] = {Dispatch: 1, SetTimer: 2, Send: 3}


def _commands(commit: Commit) -> list[Command]:
    """What the outbox of a stored commit says."""
    return [
        *(Dispatch(run) for run in commit.tasks),
        *(SetTimer(timer) for timer in commit.timers),
        *(Send(kind, body) for kind, body in commit.sends),
    ]


def _place(event: JsonObject, history: list[JsonObject]) -> str:
    """The event as people know it: what it is, and the task that it is for."""
    pointer = next((entry["pointer"] for entry in history if "pointer" in entry), "")
    return f"{event['kind']} {pointer}".strip()


# --- the test -------------------------------------------------------------------------------------


def check(
    source: str | bytes,
    file: str,
    input: Any,
    stubs: Mapping[str, Any],
    now_ms: int,
    events: Sequence[JsonObject] = (),
    *,
    crash_everywhere: bool = False,
    max_runs: int = MAX_RUNS,
) -> JsonObject:
    """Run the definition without and, if asked, with all crashes; what `wf test --json` prints.

    Raises DefinitionError.
    """
    definition = parse(source, file)
    reference, whole = _run(definition, input, stubs, now_ms, events, None)
    shape: JsonObject = {
        "workflow": definition.qualified,
        "version": definition.version,
        "events": len(reference.log),
        "calls": reference.attempts,
        **{key: reference.state[key] for key in COMPARED if key in reference.state},
        "unstubbed": _unstubbed(reference),
        "whole": whole,
        "failures": [_failure(None, one) for one in _wrong(reference)],
    }
    if not crash_everywhere or not whole:
        return shape
    places = list(_places(reference))
    max_runs = min(max_runs, MAX_APPLIED // len(reference.log) + 1)
    tried = places if len(places) <= max_runs else _spread(places, max_runs)
    repeated = 0
    for crash in tried:
        died, _ = _run(definition, input, stubs, now_ms, events, crash)
        repeated += died.repeated
        for problem in (*_wrong(died), *_differences(reference, died)):
            shape["failures"].append(_failure(died, problem))
    return {**shape, "places": len(places), "crashes": len(tried), "repeated": repeated}


def _run(
    definition: Definition,
    input: Any,
    stubs: Mapping[str, Any],
    now_ms: int,
    events: Sequence[JsonObject],
    crash: Crash | None,
) -> tuple[Crashing, bool]:
    """One run, and whether it came to its rest."""
    offline = Crashing(definition, read_stubs(stubs), now_ms, crash=crash)
    for number, event in enumerate(events, 1):
        publish(offline, number, event)
    return offline, offline.run(input, MAX_EVENTS)


def _places(reference: Crashing) -> Iterator[Crash]:
    for at in range(len(reference.log)):
        for point in ENGINE_POINTS:
            yield Crash(point, at)
    for at in range(reference.attempts):
        yield Crash(WORKER, at)


def _spread(places: list[Crash], count: int) -> list[Crash]:
    return [places[at * len(places) // count] for at in range(count)]


def _wrong(offline: Crashing) -> Iterator[str]:
    """What must hold of every run: its history gives its snapshot."""
    yield from offline.wrong
    snapshot: JsonObject | None = None
    for applied in offline.log:
        facts = [entry["fact"] for entry in applied.history if "fact" in entry]
        event = {**applied.event, "facts": facts}
        folded = advance(offline.definition, snapshot, event, applied.now_ms, offline.limits)
        snapshot = folded.snapshot
    if snapshot != offline.snapshot:
        yield "its history does not give its snapshot"


def _differences(reference: Crashing, died: Crashing) -> Iterator[str]:
    """How it ended otherwise than without the crash; the first reason is enough."""
    for key in COMPARED:
        wanted, found = reference.state.get(key), died.state.get(key)
        if wanted != found:
            yield f"{key} is {_brief(found)}, without the crash it is {_brief(wanted)}"
            return
    wanted, found = _asked(reference), _asked(died)
    if wanted != found:
        odd = sorted(wanted ^ found)[0]
        what = "is called only" if odd in found else "is not called"
        yield f"{odd[1]} {what} with the crash, with {odd[2]:.200}"


def _asked(offline: Crashing) -> set[tuple[str, str, str]]:
    """The calls that were made, however often."""
    return {
        (one.pointer, one.activity, orjson.dumps(one.input, option=orjson.OPT_SORT_KEYS).decode())
        for one in offline.asked
    }


def _brief(value: Any) -> str:
    text = orjson.dumps(value).decode()
    return text if len(text) <= 200 else f"{text[:200]}…"


def _failure(died: Crashing | None, problem: str) -> JsonObject:
    if died is None or died.crash is None:
        return {"problem": problem}
    return {
        "point": died.crash.point,
        "at": died.crash.at,
        "place": died.place,
        "problem": problem,
        "remedy": _remedy(died.crash.point),
    }


def _remedy(point: str) -> str:
    if point == WORKER:
        return (
            "the second execution gave something else: have the activity use its idempotency key "
            "(Context.idempotency_key), so that it gives once more what it gave"
        )
    if point == ACK:
        return (
            "what was published may come twice: an activity must give the same once more, and who "
            "listens must know an event by its source and id"
        )
    return "this should not be: please report it, with the definition"


def _unstubbed(offline: Offline) -> list[str]:
    return list(dict.fromkeys(one.activity for one in offline.asked if not one.answer.stubbed))
