"""`wf test`: a definition run offline, with a crash at every place where a process may die."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from wf.cli import arguments, exit_status, explain, output, render
from wf.client.instances import describe_error
from wf.process.engine_functions import resolve

JsonObject = dict[str, Any]

SHOWN = 10  # failures


class Given(NamedTuple):
    """What the definition is run with, as it is on the command line."""

    input: str | None
    stubs: Sequence[str]
    stubs_file: str | None
    events: Sequence[str]


class Expected(NamedTuple):
    """How it must end; None: not said."""

    status: str | None
    output: str | None  # JSON


def test(
    file: str,
    given: Given,
    expected: Expected,
    *,
    crash_everywhere: bool,
    max_runs: int,
    json: bool,
) -> int:
    """Run it, print what was found. It fails when it does not end as expected, or a crash makes a
    difference."""
    wanted = _wanted(expected)
    shape: JsonObject = resolve("test")(
        explain.read(file),
        file,
        arguments.read_json(given.input, "--input"),
        explain.read_stubs(given.stubs, given.stubs_file),
        time.time_ns() // 1_000_000,
        [explain.read_event(text) for text in given.events],
        crash_everywhere=crash_everywhere,
        max_runs=max_runs,
    )
    shape["failures"] = [*_unexpected(shape, wanted), *shape["failures"]]
    if json:
        output.print_json(shape)
    else:
        _tell(shape, crash_everywhere)
    return exit_status.FAILED if shape["failures"] else exit_status.OK


def _wanted(expected: Expected) -> JsonObject:
    wanted: JsonObject = {"status": expected.status or "completed"}
    if expected.output is not None:
        wanted["output"] = arguments.read_json(expected.output, "--expect-output")
    return wanted


def _unexpected(shape: JsonObject, wanted: JsonObject) -> list[JsonObject]:
    found = [
        {"problem": f"{key} is {render.brief(shape.get(key))}, expected was {render.brief(value)}"}
        for key, value in wanted.items()
        if shape.get(key) != value
    ]
    if found and "error" in shape:
        found[0]["problem"] += f": {describe_error(shape['error'])}"
    if not shape["whole"]:
        found.append({"problem": "it does not come to an end: look for an endless loop"})
    return found


def _tell(shape: JsonObject, crash_everywhere: bool) -> None:
    name = f"{shape['workflow']} {shape['version']}"
    output.print_line(
        f"{name}: {shape['status']} after {shape['events']} events and {shape['calls']} calls"
    )
    if "crashes" in shape:
        spread = "" if shape["crashes"] == shape["places"] else f" of {shape['places']} places"
        output.print_line(
            f"{shape['crashes']} crashes{spread}, {shape['repeated']} executions more than once"
        )
    for failure in shape["failures"][:SHOWN]:
        where = f"killed {failure['point']} ({failure['place']}): " if "point" in failure else ""
        output.complain(f"{where}{failure['problem']}")
        if "remedy" in failure:
            output.note(failure["remedy"])
    more = len(shape["failures"]) - SHOWN
    if more > 0:
        output.note(f"and {more} more: see --json")
    if not shape["failures"]:
        output.print_line("it always ends the same" if crash_everywhere else "as expected")
    for activity in shape["unstubbed"]:
        output.note(f"no stub for {activity}: it gave null (--stub {activity}=JSON)")
