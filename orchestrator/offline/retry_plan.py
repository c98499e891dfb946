"""From where a faulted instance can go on, and with what: what a `retry` command must say. Pure.

The snapshot keeps what the task that failed needs. What another task was given is in the history,
which is folded here once more with an onlooker.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from orchestrator.definition import Definition, parse
from orchestrator.machine.control import retry
from orchestrator.offline.task_trace import Watcher
from orchestrator.state.history_fold import fold
from wf.errors import MessageError, WfError

JsonObject = dict[str, Any]


def plan(
    document: JsonObject,
    snapshot: JsonObject,
    history: Iterable[JsonObject],
    place: str | None,
    given: list[Any],
) -> JsonObject:
    """The `from` and `input` of the command; {} when it needs neither.

    `history`: the bodies of the instance's history; `place`: the task that is asked for; `given`:
    [input], or [] to take what the task was given the last time that it began. Raises WfError with
    the pointers that are possible.
    """
    definition = parse(document, registered=True)
    if place is None:
        if retry.goes_on(snapshot) and not given:
            return {}
        place = retry.failed_task(snapshot)
    known = retry.places(definition, snapshot)
    if place not in known:
        asked = "the task that failed" if place is None else place
        raise WfError(
            f"it cannot go on from {asked}: possible are {', '.join(known)} (--from POINTER)"
        )
    if given:
        return {"from": place, "input": given[0]}
    return {"from": place, "input": _last_input(definition, snapshot, history, place)}


def _last_input(
    definition: Definition, snapshot: JsonObject, history: Iterable[JsonObject], place: str
) -> Any:
    watcher = Watcher()
    try:
        fold(history, lambda *_: definition, step_type=watcher.step)
    except MessageError as error:
        raise WfError(
            f"what {place} was given is not known, say it with --input: {error}"
        ) from None
    for seen in reversed(watcher.seen):
        if seen.pointer == place:
            return seen.raw
    raise WfError(f"{place} has never begun: say with --input what it is to begin with")
