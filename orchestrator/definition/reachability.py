"""Tasks that can never run: nothing before them goes on to them, and nothing jumps there.

Works on the document, so that a list with other problems is looked at too. Only what is certain is
reported: conditions are never taken to be true or false.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from orchestrator.definition.compiler.problems import Problems, escape

JsonObject = dict[str, Any]


def check(problems: Problems, document: JsonObject) -> None:
    """Note every task that cannot be reached, in all lists of the workflow."""
    pending: list[tuple[str, Any]] = [("/do", document.get("do"))]
    while pending:
        pointer, value = pending.pop()
        tasks = _tasks(value)
        for task in tasks:
            pending += _lists(f"{pointer}/{task.index}/{escape(task.name)}", task.source)
        for at in sorted(set(range(len(tasks))) - _Walk(tasks).reached):
            name = tasks[at].name
            problems.add(
                f"{pointer}/{tasks[at].index}/{escape(name)}",
                f'the task "{name}" can never be reached: no task before it goes on to it '
                "and no `then` names it: remove it, or lead a `then` here",
            )


@dataclass(frozen=True, slots=True)
class _Task:
    index: int  # in the list as written
    name: str
    source: JsonObject


def _tasks(value: Any) -> list[_Task]:
    """The tasks of a list; none at all where one of them cannot be told, which is a problem of its
    own: guesses about the others would only mislead."""
    found = []
    for index, item in enumerate(value if type(value) is list else ()):
        if type(item) is not dict or len(item) != 1:
            return []
        ((name, source),) = item.items()
        if type(source) is not dict:
            return []
        found.append(_Task(index, name, source))
    return found


def _lists(pointer: str, source: JsonObject) -> Iterator[tuple[str, Any]]:
    """The task lists inside of one task."""
    for key in ("do", "try"):
        if type(source.get(key)) is list:
            yield f"{pointer}/{key}", source[key]
    for key in ("catch", "foreach"):
        inner = source.get(key)
        if type(inner) is dict and "do" in inner:
            yield f"{pointer}/{key}/do", inner["do"]
    metadata = source.get("metadata")
    beyond = metadata.get("wf") if type(metadata) is dict else None
    if type(beyond) is dict and "compensate" in beyond:
        yield f"{pointer}/metadata/wf/compensate", beyond["compensate"]
    fork = source.get("fork")
    for index, branch in enumerate(_tasks(fork.get("branches")) if type(fork) is dict else ()):
        place = f"{pointer}/fork/branches/{index}/{escape(branch.name)}"
        yield from _lists(place, branch.source)


class _Walk:
    """Follows a list from its first task."""

    def __init__(self, tasks: list[_Task]) -> None:
        self._tasks = tasks
        self._positions = {task.name: at for at, task in enumerate(tasks)}
        self.reached: set[int] = set()
        self.leaves = not tasks  # whether the end of the list can be reached, or an `exit`
        pending = [0] if tasks else []
        while pending:
            at = pending.pop()
            if at >= len(tasks):
                self.leaves = True
            elif at not in self.reached:
                self.reached.add(at)
                following = self._next(at)
                if following is None:  # a mistake, told elsewhere: it may mean any of them
                    self.reached = set(range(len(tasks)))
                    self.leaves = True
                    return
                pending += following

    def _next(self, at: int) -> set[int] | None:
        source = self._tasks[at].source
        after = {at + 1} if "if" in source else set()  # skipped: its `then` does not count
        for then in _directives(source):
            target = self._target(at, then)
            if target is None:
                return None
            after |= target
        return after

    def _target(self, at: int, then: Any) -> set[int] | None:
        if then == "end":
            return set()
        if then == "exit":
            return {len(self._tasks)}
        if then == "continue":
            return {at + 1}
        if type(then) is str and then in self._positions:
            return {self._positions[then]}
        return None


def _directives(source: JsonObject) -> set[Any]:
    """Every directive by which a task that has run may be left; none when it always raises."""
    own = source.get("then", "continue")
    if type(own) is not str:
        own = ""
    if "raise" in source:
        return set()
    if "switch" in source:
        return _of_switch(source["switch"], own)
    if "try" in source:
        return _of_try(source, own)
    if "fork" in source:
        return {own} if _fork_ends(source["fork"]) else set()
    if "do" in source and "for" not in source and not _Walk(_tasks(source["do"])).leaves:
        return set()
    return {own}


def _of_switch(cases: Any, own: str) -> set[Any]:
    found = set()
    has_default = False
    for case in cases if type(cases) is list else ():
        body = next(iter(case.values()), None) if type(case) is dict else None
        if type(body) is not dict or type(body.get("then")) is not str:
            return {""}
        found.add(body["then"])
        has_default = has_default or "when" not in body
    return found if has_default else found | {own}


def _of_try(source: JsonObject, own: str) -> set[Any]:
    found = {own} if _Walk(_tasks(source["try"])).leaves else set()
    catch = source.get("catch")
    if type(catch) is not dict:
        return {own}
    caught = catch.get("then", own)
    if "do" not in catch or _Walk(_tasks(catch["do"])).leaves:
        found.add(caught if type(caught) is str else "")
    return found


def _fork_ends(fork: Any) -> bool:
    branches = _tasks(fork.get("branches")) if type(fork) is dict else []
    ends = [bool(_directives(task.source)) or "if" in task.source for task in branches]
    if type(fork) is dict and fork.get("compete") is True:
        return any(ends) or not ends
    return all(ends)
