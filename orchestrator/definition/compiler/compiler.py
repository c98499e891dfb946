"""What the compilers of all task kinds share: expressions, templates, durations, task lists."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from orchestrator.definition.compiler import durations
from orchestrator.definition.compiler.budget import CHARACTERS_PER_UNIT, EXPRESSION_COST, NEW
from orchestrator.definition.compiler.nodes import Block, Duration, Task, Template
from orchestrator.definition.compiler.problems import (
    Enough,
    Problems,
    escape,
    kind_of,
    listing,
)
from orchestrator.expressions.jq import (
    NOW,
    Expression,
    ExpressionRefused,
    compile_expression,
    strip_marks,
)

# Which variables an expression sees, by place (dsl.md, "Runtime expression arguments").
WORKFLOW_INPUT = frozenset({"workflow", "runtime", NOW})
WORKFLOW_OUTPUT = WORKFLOW_INPUT | {"context"}
BEFORE = WORKFLOW_OUTPUT | {"task"}  # `if` and `input.from`
INSIDE = BEFORE | {"input"}  # the body, and `output.as`
EXPORT = INSIDE | {"output"}
RESERVED = EXPORT | {"secrets", "authorization", "ENV"}

# What only a worker may see: see orchestrator/definition/tasks/deferred_secrets.py.
DEFERRED = frozenset({"secrets", "authorization"})
_ELSEWHERE = {
    "secrets": (
        "`$secrets` would be stored here: use it only in the `with` of `call: http` and"
        " `call: openapi`, in `run: shell` and `run: script`, and in authentications"
    ),
    "authorization": (
        "`$authorization` is not known here, or would be stored here: use it only in the request"
        " of `call: http`, and in the `parameters` of `call: openapi`"
    ),
}

DIRECTIVES = ("continue", "exit", "end")
NOTHING: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Scope:
    """What surrounds a task: the variables that enclosing tasks define, and whether a `try`."""

    variables: frozenset[str] = NOTHING
    governed: bool = False
    compensates: bool = False  # in a list that undoes a task

    def defining(self, names: Iterable[str]) -> Scope:
        """The same one, with more variables."""
        return replace(self, variables=self.variables.union(names))


TaskCompiler = Callable[["Compiler", str, str, dict[str, Any], Scope], "Task | None"]


@dataclass(slots=True)
class Compiler:
    """State of one compilation. A method that cannot compile notes a problem and gives a
    harmless stand-in, so that the rest is checked too."""

    problems: Problems
    compile_task: TaskCompiler
    errors: dict[str, Any] = field(default_factory=dict)
    retries: dict[str, Any] = field(default_factory=dict)
    timeouts: dict[str, Any] = field(default_factory=dict)
    functions: dict[str, Any] = field(default_factory=dict)
    authentications: dict[str, Any] = field(default_factory=dict)
    secrets: list[str] = field(default_factory=list)
    used: set[str] = field(default_factory=set)  # pointers of the reusable parts referred to
    nodes: dict[str, Task | Block] = field(default_factory=dict)
    referred: set[str] = field(default_factory=set)  # all variables that expressions refer to
    work: int = NEW.work  # units that are left (budget.py)

    def spend(self, units: int, pointer: str) -> None:
        """Count work. Raises Enough when there was too much of it."""
        self.work -= units
        if self.work < 0:
            self.problems.add(pointer, "up to here there is too much to check: split the workflow")
            raise Enough

    def expression(
        self, pointer: str, source: str, known: frozenset[str], scope: Scope
    ) -> Expression | None:
        """Compile a bare or `${}` expression."""
        inside = strip_marks(source)
        self.spend(EXPRESSION_COST + len(source) // CHARACTERS_PER_UNIT, pointer)
        try:
            compiled = compile_expression((source if inside is None else inside).strip())
        except ExpressionRefused as refusal:
            self.problems.add(pointer, f"the expression {refusal}")
            return None
        if compiled.doubt is not None:
            self.problems.newly(pointer, f"the expression {compiled.doubt}")
        self.referred.update(compiled.variables)
        for name in compiled.variables:
            if name in known or name in scope.variables:
                continue
            visible = sorted(f"${known_name}" for known_name in (known | scope.variables) - {NOW})
            listed = f"known are {listing(visible)}" if visible else "no variable is"
            what = "`now`" if name == NOW else f"the variable `${name}`"
            self.problems.add(
                pointer,
                _ELSEWHERE.get(name) or f"{what} is not known here: {listed}",
            )
        return compiled

    def condition(
        self, pointer: str, value: Any, known: frozenset[str], scope: Scope
    ) -> Expression | None:
        """`if`, `when`, `exceptWhen`: text, with or without `${}`; true and false as written."""
        if value is True or value is False:
            value = "true" if value else "false"
        if self.problems.text(pointer, value, "a condition") is None:
            return None
        return self.expression(pointer, value, known, scope)

    def template(self, pointer: str, value: Any, known: frozenset[str], scope: Scope) -> Template:
        """A value in which strings that are wholly `${ … }` are expressions."""
        self.spend(1, pointer)
        if type(value) is str:
            if strip_marks(value) is not None:
                return self.of_expression(pointer, value, known, scope)
            if value.lstrip().startswith("${") and "}" not in value:
                self.problems.add(pointer, "the closing `}` of the expression is missing: add it")
            elif "${" in value:
                self.problems.add(
                    pointer,
                    "text around an expression is not evaluated: make the whole string one, "
                    'such as ${ "Hello \\(.name)" }',
                )
        elif type(value) is dict:
            fields = tuple(
                (key, self.template(f"{pointer}/{escape(key)}", child, known, scope))
                for key, child in value.items()
            )
            used = NOTHING.union(*(child.variables for _, child in fields))
            if any(not _is_constant(child) for _, child in fields):
                return Template(used, fields=fields)
        elif type(value) is list:
            items = tuple(
                self.template(f"{pointer}/{index}", child, known, scope)
                for index, child in enumerate(value)
            )
            used = NOTHING.union(*(child.variables for child in items))
            if any(not _is_constant(child) for child in items):
                return Template(used, items=items)
        return Template(NOTHING, value=value)

    def of_expression(
        self, pointer: str, source: str, known: frozenset[str], scope: Scope
    ) -> Template:
        compiled = self.expression(pointer, source, known, scope)
        if compiled is None:
            return Template(NOTHING)
        return Template(frozenset(compiled.variables), expression=compiled)

    def transformation(
        self, pointer: str, value: Any, known: frozenset[str], scope: Scope
    ) -> Template | None:
        """`from` and `as`: an expression with or without `${}`, or an object of them."""
        if type(value) is str and value:
            return self.of_expression(pointer, value, known, scope)
        if type(value) is dict:
            return self.template(pointer, value, known, scope)
        self.problems.add(
            pointer, f"must be an expression or an object of expressions, found {kind_of(value)}"
        )
        return None

    def duration(self, pointer: str, value: Any, known: frozenset[str], scope: Scope) -> Duration:
        if type(value) is str and strip_marks(value) is not None:
            return Duration(template=self.of_expression(pointer, value, known, scope))
        if type(value) is dict and any(
            type(amount) is str and strip_marks(amount) is not None for amount in value.values()
        ):
            self.problems.keys(pointer, value, durations.UNITS)
            return Duration(template=self.template(pointer, value, known, scope))
        try:
            return Duration(ms=durations.from_value(value))
        except durations.DurationError as error:
            self.problems.add(pointer, str(error))
            return Duration()

    def block(self, pointer: str, value: Any, scope: Scope, *, in_order: bool = True) -> Block:
        """A list of single-key objects, name → task. `in_order`: they follow one another, so that
        a `then` may name one of them; the branches of a fork do not."""
        tasks: list[Task] = []
        names: dict[str, int] = {}
        if type(value) is not list or not value:
            found = "an empty array" if value == [] else kind_of(value)
            self.problems.add(
                pointer, f"must be a list of tasks such as `- name: {{call: …}}`, found {found}"
            )
            value = []
        for index, item in enumerate(value):
            place = f"{pointer}/{index}"
            if type(item) is not dict or len(item) != 1:
                self.problems.add(
                    place, f"must be an object with one key, the task's name{_many(item)}"
                )
                continue
            ((name, source),) = item.items()
            self._name(f"{place}/{escape(name)}", name, names)
            names.setdefault(name, index)
            task = self.compile_task(self, f"{place}/{escape(name)}", name, source, scope)
            if task is not None:
                tasks.append(task)
        block = Block(pointer, tuple(tasks), {task.name: at for at, task in enumerate(tasks)})
        self._targets(pointer, value, names if in_order else None)
        self.nodes[pointer] = block
        return block

    def _name(self, pointer: str, name: str, names: dict[str, int]) -> None:
        if name in names:
            self.problems.add(
                pointer, f'the task name "{name}" is used twice in this list: rename one'
            )
        if name in DIRECTIVES or not name:
            self.problems.add(pointer, f'"{name}" cannot name a task: `then: {name}` is reserved')

    def _targets(self, pointer: str, value: list[Any], names: dict[str, int] | None) -> None:
        """Check every `then` of this list, those of switch cases and catches included."""
        for index, item in enumerate(value):
            if type(item) is not dict or len(item) != 1:
                continue
            ((name, source),) = item.items()
            if type(source) is not dict:
                continue
            for place, then in _directives(source):
                self._target(f"{pointer}/{index}/{escape(name)}{place}", then, names)

    def _target(self, pointer: str, then: Any, names: dict[str, int] | None) -> None:
        if self.problems.text(pointer, then, "`then`") is None:
            return
        if names is None:
            if then not in DIRECTIVES:
                self.problems.add(
                    pointer,
                    "a branch runs beside the others and cannot go to one of them: "
                    f"use {', '.join(DIRECTIVES)}",
                )
            return
        if then not in DIRECTIVES and then not in names:
            known = [*DIRECTIVES, *names]
            self.problems.add(
                pointer,
                f'no task "{then}" in this list{self.problems.meant(then, known)} '
                "(a task in another list cannot be reached)",
            )


def _directives(source: dict[str, Any]) -> list[tuple[str, Any]]:
    """(relative pointer, directive) of each `then` of one task."""
    found = [("/then", source["then"])] if "then" in source else []
    cases = source.get("switch")
    for index, case in enumerate(cases if type(cases) is list else []):
        for name, body in case.items() if type(case) is dict else ():
            if type(body) is dict and "then" in body:
                found.append((f"/switch/{index}/{escape(name)}/then", body["then"]))
    catch = source.get("catch")
    if type(catch) is dict and "then" in catch:
        found.append(("/catch/then", catch["then"]))
    return found


def _is_constant(template: Template) -> bool:
    return template.expression is None and template.fields is None and template.items is None


def _many(item: Any) -> str:
    if type(item) is dict and len(item) > 1:
        return ": indent what belongs to the task by two more spaces"
    return f", found {kind_of(item)}"
