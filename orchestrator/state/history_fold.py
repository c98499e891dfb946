"""Fold an instance's history into its snapshot (invariant 5). Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from orchestrator.definition import Definition
from orchestrator.definition.lookup import Lookup
from orchestrator.machine import DEFAULT_LIMITS, Limits, Transition, advance
from orchestrator.machine.kernel.step import Step
from wf.errors import MessageError

JsonObject = dict[str, Any]


class HeadGone(MessageError):
    """A history that does not begin with its instance's start cannot be folded."""


def ordered(messages: Iterable[JsonObject]) -> list[JsonObject]:
    """History messages by (commit, n), each once: a re-flushed outbox may have stored one twice."""
    by_place: dict[tuple[int, int], JsonObject] = {}
    for message in messages:
        by_place.setdefault((message["commit"], message["n"]), message)
    return [by_place[place] for place in sorted(by_place)]


def steps(
    messages: Iterable[JsonObject],
    lookup: Lookup,
    limits: Limits = DEFAULT_LIMITS,
    step_type: Callable[..., Step] = Step,
) -> Iterator[tuple[JsonObject, Transition]]:
    """(message, what its event does), one after the other from the start.

    `messages`: decoded bodies of `workflow.history.<id>`, in any order, duplicates allowed.
    Raises HeadGone when the start is not among them. An event that was applied and is ignored now
    comes as such, and is the last.
    """
    snapshot: JsonObject | None = None
    for message in ordered(messages):
        if snapshot is None and message["event"]["kind"] != "start":
            raise HeadGone(
                f"the history begins at commit {message['commit']}: its head is past retention"
            )
        definition = None
        if "refused" not in message["event"]:
            found = lookup(message["namespace"], message["workflow"], message["version"])
            definition = found if isinstance(found, Definition) else None
        facts = [entry["fact"] for entry in message["entries"] if "fact" in entry]
        event = {**message["event"], "facts": facts} if facts else message["event"]
        transition = advance(definition, snapshot, event, message["now_ms"], limits, step_type)
        yield message, transition
        if transition.ignored is not None:
            return
        snapshot = transition.snapshot


def fold(
    messages: Iterable[JsonObject],
    lookup: Lookup,
    limits: Limits = DEFAULT_LIMITS,
    step_type: Callable[..., Step] = Step,
) -> JsonObject | None:
    """The snapshot that the history gives, without the commit record; None for no history.

    Raises MessageError when the head is gone (retention), or an event does not apply any more.
    """
    snapshot: JsonObject | None = None
    for message, transition in steps(messages, lookup, limits, step_type):
        if transition.ignored is not None:
            raise MessageError(
                f"commit {message['commit']}.{message['n']}: the event is ignored "
                f"({transition.ignored}) where it was applied"
            )
        snapshot = transition.snapshot
    return snapshot
