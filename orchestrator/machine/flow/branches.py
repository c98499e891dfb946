"""Branches: what runs side by side inside of one frame, each with a copy of the context.

A branch that has ended leaves a small frame in place of its own, with its `output` and, if it has
changed its copy, the `context`. So an outcome costs the same however many branches there are: no
table of them is copied.
"""

from __future__ import annotations

from typing import Any

import orjson

from orchestrator.definition.compiler.nodes import Block, Task
from orchestrator.machine.kernel.step import Child, Step


def open_branch(step: Step, node: Task | Block, parent: str) -> str:
    """A new frame whose exports stay inside until the join; its id."""
    frame = step.open(node, parent)
    step.edit(frame)["branch"] = True
    return frame


def keep(step: Step, child: Child, output: Any) -> None:
    """Keep what an ended branch gave, under its frame's id, until the join."""
    state = child.state
    kept = {"parent": state["parent"], "ended": True, "output": output}
    if "context" in state:
        kept["context"] = state["context"]
    step.frames[child.frame] = kept


def join(step: Step, frame: str, children: list[str]) -> list[Any]:
    """The outputs of the ended branches; what each changed in the context is applied in turn."""
    ended = [step.frames[child] for child in children]
    apply_contexts(step, frame, [state["context"] for state in ended if "context" in state])
    return [state["output"] for state in ended]


def apply_contexts(step: Step, frame: str, contexts: list[Any]) -> None:
    """Apply to the frame's context what each of its changed copies differs in, in turn."""
    base = joined = step.context(frame)
    for context in contexts:
        joined = merged(joined, base, context)
    if joined is not base:
        step.set_context(frame, joined)


def merged(joined: Any, base: Any, branch: Any) -> Any:
    """`joined` with what `branch` changed in its copy of `base`: keys set, replaced and removed.
    Where one of them is no object there are no keys, and the branch's context replaces all."""
    if not (type(joined) is dict and type(base) is dict and type(branch) is dict):
        return branch
    changed = dict(joined)
    for key in base:
        if key not in branch:
            changed.pop(key, None)
    for key, value in branch.items():
        if key not in base or not _same(value, base[key]):
            changed[key] = value
    return changed


def _same(one: Any, other: Any) -> bool:
    """Equal as JSON: 1 and true are not, and whether both are one object here must not matter."""
    return one is other or orjson.dumps(one) == orjson.dumps(other)
