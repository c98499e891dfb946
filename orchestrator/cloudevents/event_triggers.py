"""Which workflows an event starts (`schedule.on`), and the starts that it makes. Pure.

At each moment one version of a workflow governs: the latest of those that were registered by then.
An event is for the version that governed when the event was stored. So it makes no difference who
looks at it, when, and how often, and what was stored before the first deployment starts nothing.
"""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple

from orchestrator.definition import Definition, version_key
from orchestrator.definition.compiler.nodes import Trigger
from orchestrator.dispatch.lifecycle_events import PREFIX
from orchestrator.machine.events import consume, trigger_sets
from orchestrator.machine.flow.emit import source_of
from orchestrator.registry.definitions import Definitions, Key, Registered
from wf.jetstream.port import Delivery, Outgoing
from wf.protocol import messages, subjects
from wf.protocol.ids import triggered_id

JsonObject = dict[str, Any]


class Match(NamedTuple):
    """A trigger that wants an event."""

    definition: Definition
    trigger: Trigger
    fits: list[trigger_sets.Fit]

    @property
    def collects(self) -> bool:
        """Whether it takes more than this event to start an instance."""
        return self.trigger.strategy.kind == "all"

    @property
    def key(self) -> str:
        """Where the event is collected."""
        return f"{prefix(self.definition)}.{self._hash}"

    @property
    def _hash(self) -> str:
        return trigger_sets.key_of(self.trigger.strategy, self.fits[0].values)

    def taken(self, stored: Delivery, event: JsonObject) -> trigger_sets.Taken:
        """The event, to be put into a set with those of the same key."""
        same_key = [
            fit
            for fit in self.fits
            if trigger_sets.key_of(self.trigger.strategy, fit.values) == self._hash
        ]
        needed, version = len(self.trigger.strategy.filters), self.definition.version
        return trigger_sets.Taken(same_key, stored.sequence, event, version, needed)


class Triggers:
    def __init__(self, definitions: Definitions) -> None:
        self.definitions = definitions
        self._seen = -1  # generation of the definitions that this is made from
        self._versions: dict[Key, list[Registered]] = {}  # the latest first
        self._by_type: dict[str | None, list[Key]] = {}  # None: whatever the type

    def match(self, event: JsonObject, sequence: int, time_ms: int) -> list[Match]:
        """The triggers that want an event; `sequence` and `time_ms` are those of its stream."""
        self._refresh()
        if not self._by_type:
            return []
        keys = dict.fromkeys((*self._by_type.get(event["type"], ()), *self._by_type.get(None, ())))
        found = []
        for key in keys:
            definition = self._governing(key, sequence, time_ms)
            trigger = None if definition is None else definition.workflow.trigger
            if definition is None or trigger is None or _is_own(trigger, definition, event):
                continue
            fits = trigger_sets.fits(trigger.strategy, event)
            if fits:
                found.append(Match(definition, trigger, fits))
        return found

    def read_of(self, namespace: str, name: str, version: str) -> str:
        """How the events are read that start this version."""
        self._refresh()
        for one in self._versions.get((namespace, name), ()):
            trigger = one.definition.workflow.trigger
            if one.definition.version == version and trigger is not None:
                return trigger.read
        return "envelope"

    def prefixes(self) -> set[str]:
        """Of the keys under which the latest versions collect events."""
        self._refresh()
        latest = (versions[0].definition for versions in self._versions.values())
        return {
            prefix(definition)
            for definition in latest
            if definition.workflow.trigger is not None
            and definition.workflow.trigger.strategy.kind == "all"
        }

    def _governing(self, key: Key, sequence: int, time_ms: int) -> Definition | None:
        found = (one for one in self._versions[key] if one.governs(sequence, time_ms))
        latest = next(found, None)
        return None if latest is None else latest.definition

    def _refresh(self) -> None:
        if self._seen == self.definitions.generation:
            return
        self._seen = self.definitions.generation
        self._versions.clear()
        self._by_type.clear()
        for key, versions in self.definitions.versions().items():
            triggers = [one.definition.workflow.trigger for one in versions]
            types = {type_ for trigger in triggers if trigger for type_ in _types(trigger)}
            if types:
                versions.sort(key=lambda one: version_key(one.version), reverse=True)
                self._versions[key] = versions
                for type_ in types:
                    self._by_type.setdefault(type_, []).append(key)


def _types(trigger: Trigger) -> set[str | None]:
    filters = trigger.strategy.filters
    return {one.type for one in filters} if filters else {None}


def _is_own(trigger: Trigger, definition: Definition, event: JsonObject) -> bool:
    """Whether hearing the event would make the next one, for ever: it is the workflow's own, and
    nobody has asked for just that type. Its lifecycle starts nothing even so."""
    lifecycle, anything = event["type"].startswith(PREFIX), None in _types(trigger)
    if lifecycle and anything:
        return True
    names = {"namespace": definition.namespace, "workflow": definition.name}
    return (lifecycle or anything) and event["source"] == source_of(names)


def prefix(definition: Definition) -> str:
    """Of the keys under which a definition collects events; another trigger has another one."""
    trigger = definition.workflow.trigger
    text = "" if trigger is None else trigger.text
    digits = hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
    return f"{definition.namespace}.{definition.name}.{digits}"


def start(
    namespace: str, name: str, version: str, events: list[JsonObject], read: str = "envelope"
) -> Outgoing:
    """Start the instance that these events make. The same events make the same instance."""
    workflow = subjects.qualified(namespace, name)
    instance = triggered_id(workflow, [trigger_sets.identity(event) for event in events])
    body = messages.start_body(
        instance=instance, version=version, input=[consume.read(event, read) for event in events]
    )
    return Outgoing(
        subjects.start(namespace, name),
        messages.encode(body),
        message_id=messages.start_message_id(instance),
    )
