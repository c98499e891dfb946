"""The bodies of do, raise, set, switch and wait."""

from __future__ import annotations

from typing import Any

from orchestrator.definition.compiler.compiler import INSIDE, NOTHING, Compiler, Scope
from orchestrator.definition.compiler.nodes import (
    Case,
    Do,
    Raise,
    Set,
    Switch,
    Template,
    Wait,
)
from orchestrator.definition.compiler.problems import escape, kind_of, no_template
from orchestrator.expressions.jq import Expression, strip_marks

_STANDARD_ERRORS = "https://open-workflow-specification.org/spec/1.0.0/errors/"

Late = frozenset[str]


def entering(*parts: Template | Expression | None) -> Late:
    """Of what is evaluated on entering, only $task needs data that is not at hand then."""
    used = NOTHING.union(*(frozenset(part.variables) for part in parts if part is not None))
    return used & {"task"}


def do(
    compiler: Compiler, pointer: str, source: dict[str, Any], scope: Scope
) -> tuple[Do, Late] | None:
    return Do(compiler.block(f"{pointer}/do", source["do"], scope)), NOTHING


def set_(
    compiler: Compiler, pointer: str, source: dict[str, Any], scope: Scope
) -> tuple[Set, Late] | None:
    """`set`: an object, or an expression in `${}`."""
    value, place = source["set"], f"{pointer}/set"
    if type(value) is not dict and not (type(value) is str and strip_marks(value) is not None):
        compiler.problems.add(
            place, f"must be an object or an expression `${{ … }}`, found {kind_of(value)}"
        )
        return None
    template = compiler.template(place, value, INSIDE, scope)
    return Set(template), entering(template)


def wait(
    compiler: Compiler, pointer: str, source: dict[str, Any], scope: Scope
) -> tuple[Wait, Late] | None:
    duration = compiler.duration(f"{pointer}/wait", source["wait"], INSIDE, scope)
    return Wait(duration), entering(duration.template)


def switch(
    compiler: Compiler, pointer: str, source: dict[str, Any], scope: Scope
) -> tuple[Switch, Late] | None:
    """A list of cases; one of them may lack `when`, and matches when no other does."""
    problems, place = compiler.problems, f"{pointer}/switch"
    value = source["switch"]
    if type(value) is not list or not value:
        problems.add(place, f"must be a list of cases, found {kind_of(value)}")
        return None
    cases: list[Case] = []
    default: Case | None = None
    for index, item in enumerate(value):
        case = _case(compiler, f"{place}/{index}", item, scope)
        if case is None:
            continue
        if "when" in next(iter(item.values())):
            cases.append(case)
        elif default is None:
            default = case
        else:
            problems.add(
                f"{place}/{index}", f'only one case may lack `when`, and "{default.name}" does'
            )
    ordered = (*cases, default) if default is not None else tuple(cases)
    return Switch(ordered), entering(*(case.when for case in ordered))


def _case(compiler: Compiler, place: str, item: Any, scope: Scope) -> Case | None:
    problems = compiler.problems
    if type(item) is not dict or len(item) != 1:
        problems.add(place, f"must be an object with one key, the case's name: {kind_of(item)}")
        return None
    ((name, body),) = item.items()
    place = f"{place}/{escape(name)}"
    if problems.mapping(place, body, f'the case "{name}"') is None:
        return None
    problems.keys(place, body, ("when", "then"))
    when = None
    if "when" in body:
        when = compiler.condition(f"{place}/when", body["when"], INSIDE, scope)
    if "then" not in body:
        problems.add(place, "needs `then`: continue, exit, end or a task of this list")
        return None
    then = body["then"]
    return Case(name, when, then if type(then) is str else "continue")


def raise_(
    compiler: Compiler, pointer: str, source: dict[str, Any], scope: Scope
) -> tuple[Raise, Late] | None:
    """`raise.error`: an error object, or the name of one in `use.errors`."""
    problems, place = compiler.problems, f"{pointer}/raise"
    value = problems.mapping(place, source["raise"], "`raise`")
    if value is None:
        return None
    problems.keys(place, value, ("error",))
    if "error" not in value:
        problems.add(place, "needs `error`: an error object, or a name from `use.errors`")
        return None
    found, place = value["error"], f"{place}/error"
    if type(found) is str and strip_marks(found) is not None:
        whole = compiler.of_expression(place, found, INSIDE, scope)
        return Raise(whole), entering(whole)
    if type(found) is str:
        if found not in compiler.errors:
            meant = problems.meant(found, compiler.errors)
            problems.add(place, f'no error "{found}" in `use.errors`{meant}')
            return None
        found, place = compiler.errors[found], f"/use/errors/{escape(found)}"
        compiler.used.add(place)
    template = error_template(compiler, place, found, scope)
    return None if template is None else (Raise(template), entering(template))


def error_template(compiler: Compiler, place: str, value: Any, scope: Scope) -> Template | None:
    """An error definition: `type` and `status`, and perhaps `title`, `detail`, `instance`."""
    problems = compiler.problems
    if problems.mapping(place, value, "an error") is None:
        return None
    problems.keys(place, value, ("type", "status", "title", "detail", "instance"))
    for key, example in (("type", f"{_STANDARD_ERRORS}runtime"), ("status", "500")):
        if key not in value:
            problems.add(place, f"an error needs `{key}`, such as {example}")
    for key, given in value.items():
        allowed = int if key == "status" else str
        if type(given) is not allowed and not (
            type(given) is str and strip_marks(given) is not None
        ):
            wanted = "an integer" if key == "status" else "a string"
            problems.add(f"{place}/{escape(key)}", f"must be {wanted} or an expression `${{ … }}`")
    no_template(problems, f"{place}/type", value.get("type"))
    return compiler.template(place, value, INSIDE, scope)
