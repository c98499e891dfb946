"""The body of run: which process it is, whether it is awaited, and what it returns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from orchestrator.definition.compiler import INSIDE, NOTHING, Compiler, Scope
from orchestrator.definition.nodes import Body, RunWorkflow
from orchestrator.definition.problems import Problems, kind_of
from orchestrator.definition.versions import SEMANTIC, VERSION_RULE
from orchestrator.expressions import strip_marks
from wf.subjects import NAME_RULE, is_name

LATEST = "latest"
STDOUT, NONE = "stdout", "none"
RETURNS = (STDOUT, "stderr", "code", "all", NONE)
OPTIONS = ("await", "return")

_LATER = {
    "container": "containers are not supported: run it by an activity of your own, or by a shell",
    "script": "`run: script` is not supported yet: call an activity",
    "shell": "`run: shell` is not supported yet: call an activity",
}


class Options(NamedTuple):
    """What is said beside the process itself."""

    awaited: bool
    returns: str  # one of RETURNS


# (compiler, pointer of the process, its value, options, scope) → a body, and its late variables
Process = tuple[Body, frozenset[str]]
ProcessCompiler = Callable[[Compiler, str, Any, Options, Scope], Process | None]


def run(compiler: Compiler, pointer: str, source: dict[str, Any], scope: Scope) -> Process | None:
    """`run`: one process, perhaps with `await` and `return`."""
    problems, place = compiler.problems, f"{pointer}/run"
    value = problems.mapping(place, source["run"], "`run`")
    if value is None:
        return None
    problems.keys(place, value, (*PROCESSES, *OPTIONS), _LATER)
    options = _options(problems, place, value)
    found = [name for name in (*PROCESSES, *_LATER) if name in value]
    if len(found) != 1:
        listed = ", ".join(PROCESSES)
        what = " and ".join(f"`{name}`" for name in found) + " at once" if found else "nothing"
        problems.add(place, f"runs {what}: give it one of {listed}")
        return None
    (name,) = found
    if name not in PROCESSES:
        return None  # said already
    return PROCESSES[name](compiler, f"{place}/{name}", value[name], options, scope)


def _options(problems: Problems, place: str, value: dict[str, Any]) -> Options:
    awaited, returns = value.get("await", True), value.get("return", STDOUT)
    if type(awaited) is not bool:
        problems.add(f"{place}/await", f"must be true or false, found {kind_of(awaited)}")
    if type(returns) is not str or returns not in RETURNS:
        problems.add(f"{place}/return", f"must be one of {', '.join(RETURNS)}")
        returns = STDOUT
    return Options(awaited is not False, returns)


def workflow(
    compiler: Compiler, place: str, value: Any, options: Options, scope: Scope
) -> Process | None:
    """`workflow`: namespace, name, maybe version (else the latest) and input."""
    problems = compiler.problems
    if problems.mapping(place, value, "`workflow`") is None:
        return None
    problems.keys(place, value, ("namespace", "name", "version", "input"))
    for key in ("namespace", "name"):
        given = value.get(key)
        if key not in value:
            problems.add(place, f"needs `{key}`, that of the workflow to run")
        elif type(given) is not str or not is_name(given):
            problems.add(f"{place}/{key}", f"{given!r} is not a valid name: use {NAME_RULE}")
    version = value.get("version", LATEST)
    if type(version) is not str or (version != LATEST and not SEMANTIC.match(version)):
        problems.add(f"{place}/version", f"must be `latest` or a version: {VERSION_RULE}")
    if options.returns not in (STDOUT, NONE):
        problems.add(
            f"{place.removesuffix('/workflow')}/return",
            f"a workflow has no `{options.returns}`: its output is `stdout`; or write `none`",
        )
    arguments = None
    if "input" in value:
        given = value["input"]
        if type(given) is str and strip_marks(given) is None:
            problems.add(
                f"{place}/input", "must be an object or an expression `${ … }`, found a string"
            )
        arguments = compiler.template(f"{place}/input", given, INSIDE, scope)
    body = RunWorkflow(
        namespace=str(value.get("namespace")),
        workflow=str(value.get("name")),
        version=None if version == LATEST else str(version),
        arguments=arguments,
        awaited=options.awaited,
        returns=options.returns != NONE,
    )
    return body, NOTHING if arguments is None else arguments.variables & {"task"}


# Every process that runs. A new one is a line here, and a handler in machine/running.py.
PROCESSES: dict[str, ProcessCompiler] = {"workflow": workflow}
