"""`metadata.wf.compensate`: a list of tasks that undoes the task which has it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from orchestrator.definition.compiler.compiler import Compiler, Scope
from orchestrator.definition.compiler.nodes import Compensate

JsonObject = dict[str, Any]

COMPENSATE = "compensate"
OWN = "compensated"  # the variable that tells of the task


def compensation(
    compiler: Compiler, pointer: str, metadata: JsonObject, scope: Scope, late: frozenset[str]
) -> Compensate | None:
    """The list of a task with this `metadata.wf`. `late`: the variables that the task's own
    expressions use after it was entered."""
    if COMPENSATE not in metadata:
        return None
    place = f"{pointer}/metadata/wf/{COMPENSATE}"
    if scope.compensates:
        compiler.problems.add(
            place, "what undoes a task is not undone itself: leave `compensate` out in here"
        )
        return None
    before, compiler.referred = compiler.referred, set()
    inside = replace(scope.defining((OWN,)), governed=False, compensates=True)
    block = compiler.block(place, metadata[COMPENSATE], inside)
    used = compiler.referred
    compiler.referred = before | used
    variables = sorted(used & scope.variables)
    own = OWN if OWN in used and OWN not in scope.variables else None
    around = sorted((used | late) & scope.variables)
    return Compensate(block, tuple(variables), tuple(around), own)
