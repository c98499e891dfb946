"""Registered definitions, compiled and kept: a copy of WORKFLOW_DEFINITIONS in memory.

Deployments are noticed by the KV's own subject; what is asked for and not known is looked up at
once, so that a start right behind its deployment finds it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from loguru import logger

from orchestrator.definition import Definition, parse, version_key
from orchestrator.definition.compiler.nodes import Schedule
from orchestrator.definition.lookup import Unusable
from orchestrator.ingest.bucket_watch import Following
from orchestrator.ingest.messages_in import Item
from orchestrator.ingest.poison_guard import Guard
from orchestrator.state.commit import Record
from wf.client.definitions import EVENTS_BEFORE, title
from wf.errors import MessageError
from wf.jetstream import topology
from wf.jetstream.port import Port, Stored
from wf.protocol import gate

ALL = "$KV.WORKFLOW_DEFINITIONS.>"
PREFIX = "$KV.WORKFLOW_DEFINITIONS."

REASON_CHARACTERS = 1000

Key = tuple[str, str]  # namespace, name


class Registered(NamedTuple):
    """A version, and when it was registered."""

    version: str
    definition: Definition
    time_ms: int
    events_before: int | None  # the last event by then; None when who registered it did not say

    def governs(self, sequence: int, time_ms: int) -> bool:
        """Whether an event came after it. Either will do: clocks are set back, and a stream of
        events that was made anew begins with 1."""
        later = self.events_before is not None and sequence > self.events_before
        return later or time_ms >= self.time_ms


class Definitions:
    def __init__(self, port: Port, guard: Guard | None = None) -> None:
        guard = guard or Guard.idle()
        self.entries = Following(port, topology.WORKFLOW_DEFINITIONS, ALL, self._take, guard=guard)
        self._versions: dict[Key, dict[str, Registered]] = {}
        self._latest: dict[Key, Definition] = {}
        # By namespace, name and version; with "" for the version, the last that was found so.
        self._unusable: dict[tuple[str, str, str], Unusable] = {}
        self._seen: set[tuple[str, str, str]] = set()
        self.generation = 0  # changes with every change

    async def again(self) -> None:
        """Take everything anew; what is not there any more is dropped after that, not before."""
        self._seen = set()
        await self.entries.again()
        for (namespace, name), versions in list(self._versions.items()):
            for version in list(versions):
                if (namespace, name, version) not in self._seen:
                    logger.bind(definition=title(namespace, name, version)).warning(
                        "definition.gone"
                    )
                    self._put((namespace, name), version, None)

    def holds(self, titles: Iterable[str]) -> bool:
        """Whether all of these are registered."""
        known = {
            title(namespace, name, version)
            for (namespace, name), versions in self._versions.items()
            for version in versions
        }
        return known.issuperset(titles)

    def get(self, namespace: str, name: str, version: str | None) -> Definition | None:
        """That version, or the latest when `version` is None."""
        if version is None:
            return self._latest.get((namespace, name))
        found = self._versions.get((namespace, name), {}).get(version)
        return None if found is None else found.definition

    def lookup(
        self, namespace: str, name: str, version: str | None
    ) -> Definition | Unusable | None:
        """The same, or why what is registered there cannot be used."""
        return self.get(namespace, name, version) or self._unusable.get(
            (namespace, name, version or "")
        )

    def versions(self) -> dict[Key, list[Registered]]:
        """All that is registered."""
        return {key: list(found.values()) for key, found in self._versions.items() if found}

    def limit(self, namespace: str, name: str) -> int | None:
        """How many instances the latest version lets run at once; None: any number, or there is no
        such workflow."""
        latest = self._latest.get((namespace, name))
        concurrency = None if latest is None else latest.workflow.concurrency
        return None if concurrency is None else concurrency.limit

    def schedules(self) -> dict[Key, Schedule]:
        """(namespace, name) → when the latest version starts by itself, for those that do."""
        return {
            key: definition.workflow.schedule
            for key, definition in self._latest.items()
            if definition.workflow.schedule is not None
        }

    async def prepare(self, group: dict[str, list[Item]], records: dict[str, Record]) -> None:
        """Look up what the group needs and is not known; afterwards `get` is the truth."""
        for instance, record in records.items():
            source: dict[str, Any] | None = record.snapshot
            if source is None:
                source = group[instance][0].event
                if source["kind"] != "start":
                    continue
            version = source.get("version") or None
            definition = self.get(source["namespace"], source["workflow"], version)
            if definition is None or (
                "scheduled" in source and not definition.is_scheduled(source)
            ):
                await self.entries.refresh()
                return

    def _take(self, stored: Stored) -> None:
        """Raises MessageError for what is no definition."""
        namespace, _, rest = stored.subject.removeprefix(PREFIX).partition(".")
        name, _, version = rest.partition(".")
        try:
            self._keep(stored, (namespace, name), version)
        except Exception as error:  # noqa: BLE001 — what was put there by hand must not hide others
            reason = gate.error_text(error, REASON_CHARACTERS)
            for place in (version, ""):
                self._unusable[namespace, name, place] = Unusable(reason)
            self.generation += 1
            raise MessageError(reason) from None

    def _keep(self, stored: Stored, key: Key, version: str) -> None:
        registered = None
        if not stored.is_marker:
            definition = parse(stored.data, stored.subject, registered=True)
            if (definition.namespace, definition.name, definition.version) != (*key, version):
                raise ValueError(f"its document is {definition.qualified} {definition.version}")
            before = (stored.headers or {}).get(EVENTS_BEFORE, "")
            newest = int(before) if before.isdecimal() and len(before) < 20 else None
            registered = Registered(version, definition, stored.timestamp_ms, newest)
        self._unusable.pop((*key, version), None)
        self._put(key, version, registered)

    def _put(self, key: Key, version: str, registered: Registered | None) -> None:
        """Know this version; None: it is not registered any more."""
        versions = dict(self._versions.get(key, {}))
        versions.pop(version, None)
        if registered is not None:
            versions[version] = registered
            self._seen.add((*key, version))
        if versions:
            self._latest[key] = versions[max(versions, key=version_key)].definition
        else:
            self._latest.pop(key, None)
        self._versions[key] = versions
        self.generation += 1
