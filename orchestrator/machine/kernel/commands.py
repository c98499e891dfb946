"""What the machine asks its shell to do, and the transition that carries it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

JsonObject = dict[str, Any]


class Dispatch(NamedTuple):
    """Publish a task for this run, at its current attempt."""

    run: int


class SetTimer(NamedTuple):
    """Schedule this timer of the snapshot."""

    timer: int


class CancelTimer(NamedTuple):
    """Unschedule this timer; it is no longer in the snapshot, and may fire all the same."""

    timer: int


class Send(NamedTuple):
    """Publish a message of this kind (orchestrator/dispatch/effects.py says which), made from
    `body` alone.
    """

    kind: str
    body: JsonObject


class DeadLetter(NamedTuple):
    """Set something aside that was given up, with the evidence."""

    kind: str
    name: str
    evidence: JsonObject


class Finished(NamedTuple):
    """The instance has reached a terminal status."""


Command = Dispatch | SetTimer | CancelTimer | Send | DeadLetter | Finished


@dataclass(frozen=True, slots=True)
class Transition:
    """The outcome of one event. When `ignored` says why, nothing has changed and all else is
    empty; `snapshot` is then the one that was given (`{}` when there was none)."""

    snapshot: JsonObject
    commands: list[Command] = field(default_factory=list)
    history: list[JsonObject] = field(default_factory=list)
    ignored: str | None = None
