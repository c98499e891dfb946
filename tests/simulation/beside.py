"""The values that snapshots set apart: there as long as a stored snapshot names them.

In the simulation nearly every value is set apart (`RULES`), so that every flow tries it.
"""

from __future__ import annotations

from dataclasses import replace

from orchestrator import main
from orchestrator.engine.apply import Limits
from orchestrator.state import commit as records
from orchestrator.state.large_values import Rules
from tests.support.memory.stream import MemoryStream
from wf.jetstream.port import Port
from wf.protocol import subjects
from wf.settings import Settings

RULES = Rules(snapshot=0, value=12, rent=24)

_limits = main._limits


def eager(settings: Settings, port: Port) -> Limits:
    """The engine's limits, with `RULES`."""
    return replace(_limits(settings, port), apart=RULES)


def completed(stream: MemoryStream, instance: str, record: records.Record) -> list[str]:
    """Put the values back; what is wrong with that."""
    assert record.commit is not None
    found = {
        key: stream.last_of(subjects.state_value(instance, key)) for key in record.commit.apart
    }
    beside = {key: message.data for key, message in found.items() if message is not None}
    missing = records.complete(record, beside)
    return [f"{instance}: commit {record.commit.number} names {key}: not stored" for key in missing]


def still_named(stream: MemoryStream, subject: str) -> str | None:
    """What is wrong with the purge of the value at `subject`."""
    instance, _, key = subject.removeprefix(subjects.state("")).partition(".")
    message = stream.last_of(subjects.state(instance))
    record = records.decode(None if message is None else message.stored())
    if record.commit is None or key not in record.commit.apart:
        return None
    return f"{subject} is purged, and commit {record.commit.number} names it"
