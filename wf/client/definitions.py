"""Registered workflow definitions: immutable versions in the KV bucket WORKFLOW_DEFINITIONS."""

from __future__ import annotations

import difflib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson

from wf.client import instances
from wf.errors import (
    BrokerError,
    DefinitionConflict,
    MessageError,
    NotFound,
    Problem,
    WfError,
)
from wf.jetstream import paging, topology
from wf.jetstream.port import WRONG_LAST_SEQUENCE, Accepted, Outgoing, Port, Rejected, Stored
from wf.jetstream.publish_until_stored import refused, store_one
from wf.protocol import gate, subjects

# Of a definition's message: the last event in CLOUD_EVENTS before it was registered.
EVENTS_BEFORE = "Wf-Events-Before"

STATES_AT_ONCE = 100  # snapshots read together while it is looked who needs a definition
SHOWN = 5  # of those who need it, by name

COMPARED_LINES = 5000
SHOWN_CHARACTERS = 200

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
    problem: str = field(default="", compare=False)  # why what is stored is no definition
    warnings: tuple[Problem, ...] = field(default=(), compare=False)  # others; likewise

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
    message = Outgoing(
        definition.subject, definition.body, expected=0, headers={EVENTS_BEFORE: str(newest)}
    )
    for _ in range(5):  # each further turn means that a marker has just gone
        outcome = await store_one(port, topology.WORKFLOW_DEFINITIONS, message)
        if isinstance(outcome, Accepted):
            return "created"
        if outcome.code != WRONG_LAST_SEQUENCE:
            raise refused(topology.WORKFLOW_DEFINITIONS, outcome)
        stored = await port.last(topology.WORKFLOW_DEFINITIONS, definition.subject, leader=True)
        if stored is None:
            continue
        if stored.is_marker:
            raise DefinitionConflict(
                f"{definition.title} was deleted, and instances of it may still be there: give the "
                "definition a new document.version"
            )
        if _same(stored.data, definition.body):
            return "unchanged"
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


async def find_of(port: Port, snapshot: Mapping[str, Any]) -> RegisteredDefinition | None:
    """The definition that an instance runs by, or None."""
    if not snapshot.get("version"):
        return None
    return await find(port, snapshot["namespace"], snapshot["workflow"], snapshot["version"])


async def registered(port: Port) -> list[RegisteredDefinition]:
    """Every version, sorted by its names. What is no definition has a `problem`."""
    names = await port.subjects(topology.WORKFLOW_DEFINITIONS, _PREFIX + ">")
    definitions: list[RegisteredDefinition] = []
    async for page in paging.last_pages(port, topology.WORKFLOW_DEFINITIONS, sorted(names)):
        definitions += [from_stored(stored) for stored in page.values() if not stored.is_marker]
    return sorted(definitions, key=lambda d: (d.namespace, d.name, version_key(d.version)))


async def remove(port: Port, definition: RegisteredDefinition) -> None:
    """Remove a version that nothing needs: no instance that has not completed and was not cancelled
    (a faulted one may be retried), and no other definition that runs it by this version.

    Raises WfError that names who needs it, NotFound, BrokerError. A start that names the version
    and arrives while this looks makes a faulted instance, as one a moment later would.
    """
    await _refuse_needed(port, definition)
    stored = await port.last(topology.WORKFLOW_DEFINITIONS, definition.subject, leader=True)
    if stored is None or stored.is_marker:
        raise NotFound(f"{definition.title} is not registered")
    await delete(port, definition)


async def delete(port: Port, definition: RegisteredDefinition) -> None:
    """Take a version out of the bucket, whoever needs it; only the engine's credentials may.

    The bucket takes one message of each subject, so room is made first. The marker tells the
    engine, and goes by itself. Raises BrokerError.
    """
    await port.purge(topology.WORKFLOW_DEFINITIONS, subject=definition.subject)
    headers, ttl_s = {"KV-Operation": "DEL"}, int(topology.MARKER_TTL_S)
    marker = Outgoing(definition.subject, b"", expected=0, ttl_s=ttl_s, headers=headers)
    outcome = await store_one(port, topology.WORKFLOW_DEFINITIONS, marker)
    if isinstance(outcome, Rejected):
        raise refused(topology.WORKFLOW_DEFINITIONS, outcome)


async def _refuse_needed(port: Port, definition: RegisteredDefinition) -> None:
    parents = [
        other.title
        for other in await registered(port)
        if other.subject != definition.subject
        and not other.problem
        and _runs(other.body, definition)
    ]
    if parents:
        raise WfError(
            f"{definition.title} is needed: {', '.join(parents)} runs it by its version; remove "
            "that first"
        )
    needed = [one async for one in _instances_of(port, definition)]
    if needed:
        shown = ", ".join(f"{one.id} ({one.status})" for one in needed[:SHOWN])
        more = f" and {len(needed) - SHOWN} more" if len(needed) > SHOWN else ""
        raise WfError(
            f"{definition.title} is needed by {shown}{more}: wait for their end, or cancel them; a "
            "faulted one needs it until its snapshot expires ([orchestrator] faulted_ttl)"
        )


async def _instances_of(
    port: Port, definition: RegisteredDefinition
) -> AsyncIterator[instances.Instance]:
    names = sorted(await port.subjects(topology.WORKFLOW_STATES, subjects.state("*")))
    for start in range(0, len(names), STATES_AT_ONCE):
        found = await port.last_many(
            topology.WORKFLOW_STATES, names[start : start + STATES_AT_ONCE]
        )
        for stored in found.values():
            instance = instances.from_stored(stored)
            if instance is None or instance.status in ("completed", "cancelled"):
                continue
            if instance.workflow == subjects.qualified(definition.namespace, definition.name) and (
                instance.version == definition.version
            ):
                yield instance


def _runs(body: bytes, wanted: RegisteredDefinition) -> bool:
    """Whether a document has `run: workflow:` of the wanted version."""
    pending: list[Any] = [orjson.loads(body)]
    while pending:
        value = pending.pop()
        if isinstance(value, list):
            pending += value
        elif isinstance(value, dict):
            pending += value.values()
            child = value.get("workflow")
            names = ("namespace", "name", "version")
            if isinstance(child, dict) and all(
                child.get(key) == getattr(wanted, key) for key in names
            ):
                return True
    return False


def from_stored(stored: Stored) -> RegisteredDefinition:
    """A definition from the bucket's message; its subject names it."""
    namespace, _, rest = stored.subject.removeprefix(_PREFIX).partition(".")
    name, _, version = rest.partition(".")
    problem = _problem(stored.data, {"namespace": namespace, "name": name, "version": version})
    return RegisteredDefinition(
        namespace, name, version, stored.data, stored.timestamp_ms, problem=problem
    )


def _problem(body: bytes, names: Mapping[str, str]) -> str:
    """Why a stored body is no definition of that name, as far as a glance tells."""
    try:
        document = gate.decode(body, "definition")
    except MessageError as error:
        return gate.text(error, SHOWN_CHARACTERS)
    header = document.get("document") if isinstance(document, dict) else None
    if not isinstance(header, dict):
        return "it has no `document` with namespace, name and version"
    wrong = [key for key, value in names.items() if header.get(key) != value]
    return f"its `document` has another {' and '.join(wrong)} than its key" if wrong else ""


def version_key(version: str) -> tuple[Any, ...]:
    """Sorts semantic versions: 1.10.0 after 1.9.0, and 1.0.0 after 1.0.0-rc1."""
    core, _, pre = version.partition("+")[0].partition("-")
    numbers = tuple(int(part) if _is_number(part) else 0 for part in core.split("."))
    tail = tuple((0, int(p), "") if _is_number(p) else (1, 0, p) for p in pre.split(".") if pre)
    return (numbers, not pre, tail, version)


def _is_number(part: str) -> bool:
    return part.isdecimal() and len(part) < 64


def conflict_text(definition: RegisteredDefinition, stored: bytes) -> str:
    """What is registered against what was deployed, line by line, and the remedy."""
    before, after = _pretty(stored), _pretty(definition.body)
    if max(len(before), len(after)) > COMPARED_LINES:  # comparing takes their product
        before = after = []
    lines = difflib.unified_diff(
        before,
        after,
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
    try:
        return orjson.dumps(orjson.loads(body), option=_PRETTY).decode().splitlines()
    except (orjson.JSONDecodeError, TypeError):  # something that is no definition lies there
        return body.decode("utf-8", "backslashreplace").splitlines()


def _same(left: bytes, right: bytes) -> bool:
    # An older build may have laid its canonical form out otherwise. Compared as text, because in
    # Python 1 == 1.0 == True.
    return left == right or _pretty(left) == _pretty(right)
