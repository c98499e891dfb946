"""for: one iteration after the other, or several side by side."""

from __future__ import annotations

from typing import Any

from orchestrator.definition.compiler.nodes import For
from orchestrator.definition.compiler.problems import kind_of
from orchestrator.machine.flow import branches, for_items, tasks
from orchestrator.machine.kernel import ending
from orchestrator.machine.kernel.errors import Fault, expression_error
from orchestrator.machine.kernel.handler import Handler, handler_of
from orchestrator.machine.kernel.step import Child, Step

JsonObject = dict[str, Any]

GROUP = 128  # iterations whose outputs are kept in one frame until the join


class ForHandler(Handler):
    """Frame: `items`, `at` (the next index), `child` (the iteration's block).

    Side by side there are besides: `data` (the input of every iteration), `open` (how many run)
    and `children`: frames of the same task, `ended` in the sense that they are no tasks themselves,
    each with the iterations of a `group` (its first index): their `children`, and the `outputs` and
    `contexts` that ended ones gave, by index. An iteration's frame has its index as `iteration`.
    """

    def enter(self, step: Step, frame: str, input: Any) -> None:
        task = step.task(frame)
        body: For = task.body
        scope = tasks.scope_inside(step, frame, input)
        found = step.build(body.items, input, scope, task.pointer)
        if type(found) is not list:
            source = task.source["for"]["in"]
            detail = f"`in` must give an array, found {kind_of(found)}: {source:.120}"
            raise Fault(expression_error(detail, task.pointer))
        step.edit(frame).update(items=for_items.pack(found), at=0)
        if body.concurrency is None:
            _next(step, frame, input)
        else:
            step.edit(frame).update(data=input, open=0, children=[])
            _fill(step, frame)

    def child_completed(self, step: Step, frame: str, child: Child, output: Any, then: str) -> None:
        if "group" not in step.frames[frame]:
            step.edit(frame).pop("child", None)
            _next(step, frame, output)
            return
        _keep(step, frame, child, output)
        around: str = step.frames[frame]["parent"]
        step.edit(around)["open"] -= 1
        _fill(step, around)

    def child_faulted(self, step: Step, frame: str, child: Child, fault: Fault) -> None:
        state = step.frames[frame]
        ending.failed(step, state["parent"] if "group" in state else frame, fault)


def _next(step: Step, frame: str, data: Any) -> None:
    """Begin the next iteration with the output of the one before, or end."""
    body: For = step.task(frame).body
    variables = _take(step, frame, data)
    if variables is None:
        tasks.complete(step, frame, data)
        return
    child = step.open(body.block, frame)
    step.edit(child).update(variables=variables, iteration=variables[body.at])
    step.edit(frame)["child"] = child
    step.later(child, handler_of(step, body.block).enter, data)


def _take(step: Step, frame: str, data: Any) -> JsonObject | None:
    """The variables of the next iteration; None when there is none, or `while` does not hold."""
    task = step.task(frame)
    body: For = task.body
    state = step.frames[frame]
    packed, at = state["items"], state["at"]
    if at >= for_items.length(packed):
        return None
    variables = {body.each: for_items.item(packed, at), body.at: at}
    if body.condition is not None:
        scope = tasks.scope_inside(step, frame, state.get("input"), variables=variables)
        met = step.evaluate(body.condition, data, scope, task.pointer)
        if met is None or met is False:
            step.edit(frame)["items"] = for_items.pack([])
            return None
    step.edit(frame)["at"] = at + 1
    return variables


def _fill(step: Step, frame: str) -> None:
    """Begin iterations up to the limit; join when all have ended."""
    body: For = step.task(frame).body
    state = step.edit(frame)
    assert body.concurrency is not None
    while state["open"] < body.concurrency:
        variables = _take(step, frame, state["data"])
        if variables is None:
            break
        state["open"] += 1
        _begin(step, frame, variables)
    if state["open"] == 0:
        output = step.composed(_joined(step, frame), step.task(frame).pointer)
        tasks.complete(step, frame, output)


def _begin(step: Step, frame: str, variables: JsonObject) -> None:
    body: For = step.task(frame).body
    at: int = variables[body.at]
    group = _group(step, frame, at)
    child = branches.open_branch(step, body.block, group)
    step.edit(child).update(variables=variables, iteration=at)
    state = step.edit(group)
    state["children"] = [*state["children"], child]
    step.later(child, handler_of(step, body.block).enter, step.frames[frame]["data"])


def _group(step: Step, frame: str, at: int) -> str:
    """The frame of the group to which iteration `at` belongs, made with its first one."""
    state = step.edit(frame)
    if at % GROUP:
        latest: str = state["children"][-1]
        return latest
    group = step.open(step.task(frame), frame)
    step.edit(group).update(ended=True, group=at, children=[], outputs={})
    state["children"] = [*state["children"], group]
    return group


def _keep(step: Step, group: str, child: Child, output: Any) -> None:
    """An iteration has ended: its frame goes, its output stays."""
    state = step.edit(group)
    at = str(child.state["iteration"])
    state["outputs"] = {**state["outputs"], at: output}
    state["children"] = [other for other in state["children"] if other != child.frame]
    if "context" in child.state:
        state["contexts"] = {**state.get("contexts", {}), at: child.state["context"]}


def _joined(step: Step, frame: str) -> list[Any]:
    """The outputs in order; what the iterations changed in the context is applied in order."""
    outputs: list[Any] = []
    contexts: list[Any] = []
    for group in step.frames[frame]["children"]:
        state = step.frames[group]
        first: int = state["group"]
        places = [str(at) for at in range(first, first + len(state["outputs"]))]
        outputs += [state["outputs"][at] for at in places]
        changed = state.get("contexts", {})
        contexts += [changed[at] for at in places if at in changed]
    branches.apply_contexts(step, frame, contexts)
    return outputs
