"""`schedule` of the top level: every, cron or after, or on events."""

from __future__ import annotations

from typing import Any
from zoneinfo import ZoneInfo

import orjson

from orchestrator.definition.compiler import durations
from orchestrator.definition.compiler.compiler import NOTHING, Compiler, Scope
from orchestrator.definition.compiler.nodes import Schedule, Trigger
from orchestrator.definition.compiler.problems import Problems, kind_of
from orchestrator.definition.tasks.listen import READ as READ_AS
from orchestrator.definition.tasks.listen import strategy
from wf.protocol import cron
from wf.protocol.durations import format_duration

KEYS = ("every", "cron", "after", "on")
READ = "read"  # beside `on`
_PLACE = "/schedule"
_OF_LISTEN = {
    "until": "only a `listen` can have `until`: remove it, each event or set starts an instance",
    "read": "goes beside `on`, not into it: `schedule: {on: …, read: data}`",
    "foreach": "each event starts an instance by itself: write what is to be done in `do`",
}
_SHORTEST_MS = 1000


def schedule(problems: Problems, value: Any, zone: str | None) -> Schedule | None:
    """When it starts by itself; None for `on`, see `trigger`. `zone`: the time zone that
    `document.metadata.wf` names, for cron."""
    if value is None:
        return None
    if problems.mapping(_PLACE, value, "`schedule`") is None:
        return None
    problems.keys(_PLACE, value, (*KEYS, READ))
    if READ in value and "on" not in value:
        problems.add(f"{_PLACE}/{READ}", "says how events are read: only `on` has some, remove it")
    found = [key for key in KEYS if key in value]
    if len(found) != 1:
        listed = ", ".join(KEYS)
        problems.add(_PLACE, f"needs exactly one of {listed}: write two workflows for two")
        return None
    (key,) = found
    if key == "on":
        return None
    if key == "cron":
        return _cron(problems, value["cron"], zone)
    ms = _duration(problems, f"{_PLACE}/{key}", value[key], _SHORTEST_MS if key == "every" else 0)
    if ms is None:
        return None
    text = f"{key} {format_duration(ms / 1000)}"
    return Schedule(text, every_ms=ms) if key == "every" else Schedule(text, after_ms=ms)


def trigger(compiler: Compiler, value: Any) -> Trigger | None:
    """`schedule.on`. There is no instance yet when its filters are asked, hence no variable."""
    if type(value) is not dict or "on" not in value:
        return None
    place = f"{_PLACE}/on"
    on = compiler.problems.mapping(place, value["on"], "`on`")
    if on is None:
        return None
    found = strategy(compiler, place, on, Scope(), known=NOTHING, elsewhere=_OF_LISTEN)
    if found is None:
        return None
    read = value.get(READ, "envelope")
    if read not in READ_AS:
        compiler.problems.add(
            f"{_PLACE}/{READ}", f"must be {', '.join(READ_AS)}, found {kind_of(read)}"
        )
    text = orjson.dumps(on, option=orjson.OPT_SORT_KEYS).decode()
    return Trigger(text, found, str(read))


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
