"""Where the code of each role is: a table of strings, resolved once, before the heap is frozen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module

from supervisor.policy.spec import MONITOR, ORCHESTRATOR, WORKER
from wf.process.child import Child

EntryPoint = Callable[[Child], int]

# The broker has none: it is a program, executed in its child.
TABLE: Mapping[str, str] = {
    ORCHESTRATOR: "orchestrator.main:run",
    MONITOR: "wf.monitor.main:run",
    WORKER: "wf.worker.main:run",
}


def resolve(table: Mapping[str, str]) -> dict[str, EntryPoint]:
    """Import each `module:function` of `table`, so that every fork finds it in memory.

    A module that has a function `warm_up` gets it called.
    """
    resolved: dict[str, EntryPoint] = {}
    for role, place in table.items():
        name, _, function = place.partition(":")
        module = import_module(name)
        resolved[role] = getattr(module, function)
        if hasattr(module, "warm_up"):
            module.warm_up()
    return resolved
