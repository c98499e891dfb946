"""Registered workflow definitions: immutable versions in the KV bucket WORKFLOW_DEFINITIONS."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson

from wf import subjects
from wf.errors import BrokerError, DefinitionConflict, Problem
from wf.jetstream import topology
from wf.jetstream.port import WRONG_LAST_SEQUENCE, Accepted, Outgoing, Port, Stored
from wf.storing import refused, store_one

# Of a definition's message: the last event in CLOUD_EVENTS before it was registered.
EVENTS_BEFORE = "Wf-Events-Before"

_PREFIX = "$KV.WORKFLOW_DEFINITIONS."
_PRETTY = orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS


@dataclass(slots=True, frozen=True)
class RegisteredDefinition:
    """One version of a workflow; `body` is the canonical JSON of its document."""

    namespace: str
    name: str
    version: str
    body: bytes
    registered_ms: int = 0  # when the bucket stored it; 0 before that
    # The activities that it calls, with the warning where nobody serves one; of a parsed one only.
    calls: Mapping[str, Problem] = field(default_factory=dict, compare=False)

    @property
    def title(self) -> str:
        """`order 1.0.0`, or `sales.order 1.0.0` outside the default namespace."""
        return title(self.namespace, self.name, self.version)

    @property
    def subject(self) -> str:
        return subjects.definition(self.namespace, self.name, self.version)


def title(namespace: str, name: str, version: str) -> str:
    """A version as people name it."""
    return f"{subjects.qualified(namespace, name)} {version}"


async def register(port: Port, definition: RegisteredDefinition) -> Literal["created", "unchanged"]:
    """Store a version that does not exist yet; one that does must have the same body.

    Raises DefinitionConflict with the differences, BrokerError when the bucket does not answer.
    """
    # Not by the clock, which may be set back: then events would seem to be from before.
    newest = await port.last_sequence(topology.CLOUD_EVENTS)
    expected = 0
    for _ in range(5):  # each further turn means that somebody else wrote in between
        outcome = await store_one(
            port,
            topology.WORKFLOW_DEFINITIONS,
            Outgoing(
                definition.subject,
                definition.body,
                expected=expected,
                headers={EVENTS_BEFORE: str(newest)},
            ),
        )
        if isinstance(outcome, Accepted):
            return "created"
        if outcome.code != WRONG_LAST_SEQUENCE:
            raise refused(topology.WORKFLOW_DEFINITIONS, outcome)
        stored = await port.last(topology.WORKFLOW_DEFINITIONS, definition.subject, leader=True)
        if stored is None:
            expected = 0
        elif stored.is_marker:
            expected = stored.sequence
        elif _same(stored.data, definition.body):
            return "unchanged"
        else:
            raise DefinitionConflict(conflict_text(definition, stored.data))
    raise BrokerError(
        f"definition {definition.title} keeps changing on the broker: deploy it again"
    )


async def find(port: Port, namespace: str, name: str, version: str) -> RegisteredDefinition | None:
    """The registered version, or None."""
    stored = await port.last(
        topology.WORKFLOW_DEFINITIONS, subjects.definition(namespace, name, version)
    )
    return None if stored is None or stored.is_marker else from_stored(stored)


async def registered(port: Port) -> list[RegisteredDefinition]:
    """Every version, sorted by namespace, name and version."""
    names = await port.subjects(topology.WORKFLOW_DEFINITIONS, _PREFIX + ">")
    found = await port.last_many(topology.WORKFLOW_DEFINITIONS, sorted(names))
    definitions = [from_stored(stored) for stored in found.values() if not stored.is_marker]
    return sorted(definitions, key=lambda d: (d.namespace, d.name, version_key(d.version)))


def from_stored(stored: Stored) -> RegisteredDefinition:
    """A definition from the bucket's message; its subject names it."""
    namespace, name, version = stored.subject.removeprefix(_PREFIX).split(".", 2)
    return RegisteredDefinition(namespace, name, version, stored.data, stored.timestamp_ms)


def version_key(version: str) -> tuple[Any, ...]:
    """Sorts semantic versions: 1.10.0 after 1.9.0, and 1.0.0 after 1.0.0-rc1."""
    core, _, pre = version.partition("+")[0].partition("-")
    numbers = tuple(int(part) if part.isdecimal() else 0 for part in core.split("."))
    tail = tuple((0, int(p), "") if p.isdecimal() else (1, 0, p) for p in pre.split(".") if pre)
    return (numbers, not pre, tail, version)


def conflict_text(definition: RegisteredDefinition, stored: bytes) -> str:
    """What is registered against what was deployed, line by line, and the remedy."""
    lines = difflib.unified_diff(
        _pretty(stored),
        _pretty(definition.body),
        f"registered {definition.title}",
        f"deployed {definition.title}",
        lineterm="",
        n=2,
    )
    return (
        f"{definition.title} is registered with another body, and registered versions never "
        "change: give the changed definition a new document.version\n" + "\n".join(lines)
    )


def _pretty(body: bytes) -> list[str]:
    return orjson.dumps(orjson.loads(body), option=_PRETTY).decode().splitlines()


def _same(left: bytes, right: bytes) -> bool:
    # An older build may have laid its canonical form out otherwise. Compared as text, because in
    # Python 1 == 1.0 == True.
    return left == right or _pretty(left) == _pretty(right)
