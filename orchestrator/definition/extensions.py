"""`document.metadata.wf`: what we know beyond the standard, where other engines pass it over."""

from __future__ import annotations

from typing import Any, NamedTuple

from orchestrator.definition.compiler.compiler import WORKFLOW_INPUT, Compiler, Scope
from orchestrator.definition.compiler.metadata import count
from orchestrator.definition.compiler.nodes import Concurrency
from orchestrator.definition.compiler.problems import Problems
from orchestrator.definition.scheduling import is_zone

PLACE = "/document/metadata/wf"
KEYS = ("timeZone", "concurrency", "concurrencyKey")

JsonObject = dict[str, Any]


class Extensions(NamedTuple):
    zone: str | None = None  # an IANA name, for `schedule.cron`
    concurrency: Concurrency | None = None


def extensions(compiler: Compiler, document: Any) -> Extensions:
    """What `document.metadata.wf` says."""
    problems = compiler.problems
    metadata = document.get("metadata") if type(document) is dict else None
    value = metadata.get("wf") if type(metadata) is dict else None
    if value is None or problems.mapping(PLACE, value, "`wf`") is None:
        return Extensions()
    problems.keys(PLACE, value, KEYS)
    return Extensions(_zone(problems, value.get("timeZone")), _concurrency(compiler, value))


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


def _concurrency(compiler: Compiler, value: JsonObject) -> Concurrency | None:
    limit = key = None
    if "concurrency" in value:
        place = f"{PLACE}/concurrency"
        limit = count(compiler.problems, place, value["concurrency"] or 0, "`concurrency`")
    elif "concurrencyKey" in value:
        compiler.problems.add(
            PLACE, "has `concurrencyKey` without `concurrency`: say how many may run at once"
        )
    if "concurrencyKey" in value:
        place = f"{PLACE}/concurrencyKey"
        key = compiler.transformation(place, value["concurrencyKey"], WORKFLOW_INPUT, Scope())
    return None if limit is None else Concurrency(limit, key)
