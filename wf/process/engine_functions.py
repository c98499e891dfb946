"""What `wf` uses of the other packages, by name, resolved when it is needed.

`wf` imports neither `orchestrator` nor `supervisor`: a worker or a client on another host may have
been installed without them.
"""

from __future__ import annotations

import importlib
from typing import Any

from wf.errors import WfError

ENTRY_POINTS = {
    "definition.parse": "orchestrator.definition:parse",
    "expression.compile": "orchestrator.expressions.jq:compile_expression",
    "definition.canonical_bytes": "orchestrator.definition:canonical_bytes",
    "definition.read": "orchestrator.definition.source.read:read",
    "retry.plan": "orchestrator.offline.retry_plan:plan",
    "signal.receivers": "orchestrator.machine.events.signals:receivers",
    "broker.inspect": "wf.jetstream.inspection:inspect",
    "replay": "orchestrator.offline.replay:replay",
    "explain": "orchestrator.offline.explain:explain",
    "test": "orchestrator.offline.crash_test:check",
}


def resolve(name: str) -> Any:
    """The function that `ENTRY_POINTS` names. Raises WfError when its package is not installed."""
    module_name, _, attribute = ENTRY_POINTS[name].partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not module_name.startswith(error.name):
            raise
        raise WfError(
            f"this needs {module_name}, which is not installed here: "
            "install the whole of wf-supervisor, or run the command on the engine's host"
        ) from error
    return getattr(module, attribute)
