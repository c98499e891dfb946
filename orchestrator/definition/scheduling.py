"""`schedule` of the top level: every, cron or after."""

from __future__ import annotations

from typing import Any
from zoneinfo import ZoneInfo

from orchestrator.definition import duration as durations
from orchestrator.definition.nodes import Schedule
from orchestrator.definition.problems import Problems
from wf import cron
from wf.durations import format_duration

KEYS = ("every", "cron", "after")
_PLACE = "/schedule"
_LATER = {"on": "`schedule.on` is not supported yet: start it with a `listen` task, and loop"}
_SHORTEST_MS = 1000


def schedule(problems: Problems, value: Any, zone: str | None) -> Schedule | None:
    """`zone`: the time zone that `document.metadata.wf` names, for cron."""
    if value is None:
        return None
    if problems.mapping(_PLACE, value, "`schedule`") is None:
        return None
    problems.keys(_PLACE, value, KEYS, _LATER)
    found = [key for key in KEYS if key in value]
    if len(found) != 1:
        if found or "on" not in value:
            listed = ", ".join(KEYS)
            problems.add(_PLACE, f"needs exactly one of {listed}: write two workflows for two")
        return None
    (key,) = found
    if key == "cron":
        return _cron(problems, value["cron"], zone)
    ms = _duration(problems, f"{_PLACE}/{key}", value[key], _SHORTEST_MS if key == "every" else 0)
    if ms is None:
        return None
    text = f"{key} {format_duration(ms / 1000)}"
    return Schedule(text, every_ms=ms) if key == "every" else Schedule(text, after_ms=ms)


def _cron(problems: Problems, value: Any, zone: str | None) -> Schedule | None:
    if problems.text(f"{_PLACE}/cron", value, "`cron`") is None:
        return None
    try:
        parsed = cron.parse(value)
    except cron.CronError as error:
        problems.add(f"{_PLACE}/cron", str(error))
        return None
    name = zone or "UTC"
    return Schedule(f"cron {parsed} {name}", cron=parsed, zone=name)


def _duration(problems: Problems, place: str, value: Any, shortest_ms: int) -> int | None:
    try:
        ms = durations.from_value(value)
    except durations.DurationError as error:
        problems.add(place, str(error))
        return None
    if ms < shortest_ms:
        problems.add(place, "must be a second or more: for anything faster let one instance loop")
        return None
    return ms


def is_zone(name: str) -> bool:
    """Whether this machine knows a time zone of that name."""
    try:
        ZoneInfo(name)
    except (OSError, ValueError, KeyError):  # KeyError: the "not found" of zoneinfo
        return False
    return True
