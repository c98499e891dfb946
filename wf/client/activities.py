"""Which activities workers have announced, and which of a definition's calls nobody serves."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping

from wf.errors import Problem
from wf.jetstream import topology
from wf.jetstream.port import Port

COMPARED = 1000  # names among which a similar one is looked for

_PREFIX = "$KV.ACTIVITY_CATALOG."


async def announced(port: Port) -> frozenset[str]:
    """The names in the catalogue. Raises BrokerError when the broker does not answer."""
    names = await port.subjects(topology.ACTIVITY_CATALOG, _PREFIX + ">")
    found = await port.last_many(topology.ACTIVITY_CATALOG, sorted(names))
    return frozenset(
        subject.removeprefix(_PREFIX) for subject, stored in found.items() if not stored.is_marker
    )


def unannounced(calls: Mapping[str, Problem], known: Collection[str]) -> list[Problem]:
    """A warning for every activity of `calls` (`Definition.calls`) that is not `known`."""
    return [_meant(name, at, known) for name, at in calls.items() if name not in known]


def _meant(name: str, warning: Problem, known: Collection[str]) -> Problem:
    close = difflib.get_close_matches(name, sorted(known)[:COMPARED], n=1, cutoff=0.6)
    if not close:
        return warning
    return warning._replace(sentence=f'{warning.sentence} (did you mean "{close[0]}"?)')
