"""The body of run: which process it is, whether it is awaited, and what it returns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from orchestrator.definition.compiler.compiler import Compiler, Scope
from orchestrator.definition.compiler.problems import Problems, kind_of
from orchestrator.definition.tasks import run_program, run_workflow
from orchestrator.definition.tasks.run_workflow import RETURNS, STDOUT, Options, Process

OPTIONS = ("await", "return")

_NEVER = {
    "container": "containers are not supported: run it by an activity of your own, or by a shell",
}

# (compiler, pointer of the process, its value, options, scope)
ProcessCompiler = Callable[[Compiler, str, Any, Options, Scope], Process | None]


def run(compiler: Compiler, pointer: str, source: dict[str, Any], scope: Scope) -> Process | None:
    """`run`: one process, perhaps with `await` and `return`."""
    problems, place = compiler.problems, f"{pointer}/run"
    value = problems.mapping(place, source["run"], "`run`")
    if value is None:
        return None
    problems.keys(place, value, (*PROCESSES, *OPTIONS), _NEVER)
    options = _options(problems, place, value)
    found = [name for name in (*PROCESSES, *_NEVER) if name in value]
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


# Every process that runs. A new one is a line here; what is no call has a handler of its own in
# orchestrator/machine/calls/run.py.
PROCESSES: dict[str, ProcessCompiler] = {
    "script": run_program.script,
    "shell": run_program.shell,
    "workflow": run_workflow.workflow,
}
