"""`document.metadata.wf`: what we know beyond the standard, where other engines pass it over."""

from __future__ import annotations

from typing import Any, NamedTuple

from orchestrator.definition.problems import Problems
from orchestrator.definition.scheduling import is_zone

PLACE = "/document/metadata/wf"
KEYS = ("timeZone",)


class Extensions(NamedTuple):
    zone: str | None = None  # an IANA name, for `schedule.cron`


def extensions(problems: Problems, document: Any) -> Extensions:
    """What `document.metadata.wf` says."""
    metadata = document.get("metadata") if type(document) is dict else None
    value = metadata.get("wf") if type(metadata) is dict else None
    if value is None or problems.mapping(PLACE, value, "`wf`") is None:
        return Extensions()
    problems.keys(PLACE, value, KEYS)
    return Extensions(zone=_zone(problems, value.get("timeZone")))


def _zone(problems: Problems, name: Any) -> str | None:
    if name is None or problems.text(f"{PLACE}/timeZone", name, "`timeZone`") is None:
        return None
    if not is_zone(name):
        problems.add(
            f"{PLACE}/timeZone",
            f'"{name}" is not a time zone that this machine knows: write an IANA name such as '
            "Europe/Berlin (and install tzdata)",
        )
        return None
    return str(name)
