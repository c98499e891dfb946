"""Which activities a definition needs."""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.definition.compiler.nodes import Call, Workflow
from orchestrator.definition.compiler.problems import Problems
from wf.errors import Problem
from wf.protocol.subjects import RESERVED_PREFIX


def calls(workflow: Workflow, problems: Problems) -> Mapping[str, Problem]:
    """Name → the warning for the place that calls it first."""
    found: dict[str, Problem] = {}
    for pointer, node in workflow.nodes.items():
        body = getattr(node, "body", None)
        if node.pointer == pointer and isinstance(body, Call) and body.activity not in found:
            place = f"{pointer}/{node.kind}"  # call, or run
            found[body.activity] = problems.at(place, _unannounced(body.activity))
    return found


def _unannounced(activity: str) -> str:
    if activity.startswith(RESERVED_PREFIX):
        kind = activity.removeprefix(RESERVED_PREFIX).replace("openapi", "http")
        remedy = f"say enabled = true in [builtin.{kind}] of a pool.toml"
    else:
        remedy = "correct the name, or start a worker that has it"
    return f'no worker has announced the activity "{activity}": {remedy}; until then its calls wait'
