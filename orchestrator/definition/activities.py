"""Which activities a definition needs."""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.definition.nodes import Call, Workflow
from orchestrator.definition.problems import Problems
from wf.errors import Problem


def calls(workflow: Workflow, problems: Problems) -> Mapping[str, Problem]:
    """Name → the warning for the place that calls it first."""
    found: dict[str, Problem] = {}
    for pointer, node in workflow.nodes.items():
        if node.kind != "call" or node.pointer != pointer:
            continue
        body = getattr(node, "body", None)
        if isinstance(body, Call) and body.activity not in found:
            found[body.activity] = problems.at(
                f"{pointer}/call",
                f'no worker has announced the activity "{body.activity}": correct the name, or '
                "start a worker that has it; until then its calls wait",
            )
    return found
