"""What keeps the pool, or a part of it, from its work. Pure: from the tree to sentences.

Ready means able to get work. A process that is up and cannot is told here, a pool without one, a
queue that is not there, and figures that nobody can read.
"""

from __future__ import annotations

from dataclasses import dataclass

from supervisor.policy.spec import BROKER, MONITOR, ORCHESTRATOR
from supervisor.processes.process import READY
from supervisor.processes.tree import Tree

_HELPERS = (BROKER, ORCHESTRATOR, MONITOR)


@dataclass(frozen=True, slots=True)
class Trouble:
    """`who`: the name of a process, or `pool <name>`; `what` is wrong, with the remedy."""

    who: str
    what: str


def troubles(tree: Tree, now: float) -> list[Trouble]:
    """All of it, what holds up most first."""
    return [*_engine(tree), *_pools(tree, now), *_processes(tree), *_backlog(tree, now)]


def _engine(tree: Tree) -> list[Trouble]:
    return [
        Trouble(place.spec.name, f"is not ready: `wf-supervisor explain {place.spec.name}`")
        for place in tree.places.values()
        if place.spec.role in _HELPERS and place.state() != READY and not place.held
    ]


def _pools(tree: Tree, now: float) -> list[Trouble]:
    found = []
    for name, places in tree.by_pool().items():
        state = tree.pools[name].state(now, places)
        if state in ("failed", "degraded"):
            found.append(Trouble(f"pool {name}", f"{state}: `wf-supervisor explain {name}`"))
    return found


def _processes(tree: Tree) -> list[Trouble]:
    not_started = [
        Trouble(place.spec.name, place.trouble) for place in tree.places.values() if place.trouble
    ]
    return not_started + [
        Trouble(process.spec.name, text)
        for process in tree.processes.values()
        if process.state == READY
        for text in process.troubles
    ]


def _backlog(tree: Tree, now: float) -> list[Trouble]:
    monitor = tree.monitor()
    if monitor is None or monitor.ready_at is None:
        return []  # that it is not ready is told already
    unknown = tree.backlog.trouble(now - monitor.ready_at, now)
    if unknown:
        return [Trouble(monitor.spec.name, unknown)]
    workers = [place for place in tree.places.values() if place.spec.is_worker]
    activities = sorted(
        {one for place in workers if place.state() == READY for one in place.spec.activities}
    )
    return [
        Trouble(
            f"activity {name}",
            "has no queue at the broker, so its tasks wait; the orchestrator makes it again within "
            "seconds: is one running?",
        )
        for name in tree.backlog.missing(activities, now)
    ]
