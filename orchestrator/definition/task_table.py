"""Tasks: what all kinds have in common, and the table of kinds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from orchestrator.definition.compiler.compiler import BEFORE, EXPORT, INSIDE, Compiler, Scope
from orchestrator.definition.compiler.metadata import (
    HEARTBEAT,
    SCHEDULE_TO_START,
    task_metadata,
)
from orchestrator.definition.compiler.nodes import Body, Task, Template
from orchestrator.definition.compiler.problems import escape
from orchestrator.definition.compiler.schemas import section_schema
from orchestrator.definition.tasks import basic, call, emit, for_, fork, listen, run, try_
from orchestrator.definition.tasks.compensate import COMPENSATE, compensation
from orchestrator.definition.tasks.timeouts import timeout

COMMON = ("if", "input", "output", "export", "timeout", "then", "metadata")

# A body, and the variables that its expressions use after the task was entered.
Compiled = tuple[Body, frozenset[str]]
BodyCompiler = Callable[[Compiler, str, dict[str, Any], Scope], Compiled | None]


class Kind(NamedTuple):
    keys: tuple[str, ...]  # besides the common ones; the first names the kind
    compile: BodyCompiler
    metadata: tuple[str, ...] = ()  # keys of `metadata.wf`


# Every kind of task that runs. A new one is a line here and a handler in machine/handlers.py.
KINDS: dict[str, Kind] = {
    "call": Kind(
        ("call", "with"), call.call, ("server", "redirects", SCHEDULE_TO_START, HEARTBEAT)
    ),
    "do": Kind(("do",), basic.do),
    "emit": Kind(("emit",), emit.emit),
    "for": Kind(("for", "while", "do"), for_.for_, ("concurrency",)),
    "fork": Kind(("fork",), fork.fork),
    "listen": Kind(("listen", "foreach"), listen.listen),
    "raise": Kind(("raise",), basic.raise_),
    "run": Kind(("run",), run.run),
    "set": Kind(("set",), basic.set_),
    "switch": Kind(("switch",), basic.switch),
    "try": Kind(("try", "catch"), try_.try_),
    "wait": Kind(("wait",), basic.wait),
}


def compile_task(
    compiler: Compiler, pointer: str, name: str, source: Any, scope: Scope
) -> Task | None:
    """One task; None, with problems noted, when its kind cannot be told."""
    problems = compiler.problems
    if problems.mapping(pointer, source, f'the task "{name}"') is None:
        return None
    kind = _kind(compiler, pointer, source)
    if kind is None:
        return None
    known = KINDS[kind]
    problems.keys(pointer, source, (*known.keys, *COMMON))
    found = task_metadata(problems, pointer, source, (*known.metadata, COMPENSATE))
    compiled = known.compile(compiler, pointer, source, scope)
    output_as = section(compiler, pointer, source, "output", "as", INSIDE, scope)
    export_as = section(compiler, pointer, source, "export", "as", EXPORT, scope)
    condition = None
    if "if" in source:
        condition = compiler.condition(f"{pointer}/if", source["if"], BEFORE, scope)
    input_from = section(compiler, pointer, source, "input", "from", BEFORE, scope)
    if compiled is None:
        return None
    body, late = compiled
    late = late.union(*(part.variables for part in (output_as, export_as) if part is not None))
    compensate = compensation(compiler, pointer, found, scope, late)
    then = source.get("then", "continue")
    task = Task(
        pointer=pointer,
        name=name,
        kind=kind,
        source=source,
        condition=condition,
        input_schema=section_schema(compiler, pointer, source, "input"),
        input_from=input_from,
        output_as=output_as,
        output_schema=section_schema(compiler, pointer, source, "output"),
        export_as=export_as,
        export_schema=section_schema(compiler, pointer, source, "export"),
        timeout=timeout(compiler, pointer, source, BEFORE, scope),
        then=then if isinstance(then, str) else "continue",
        governed=scope.governed,
        keeps_input="input" in late or (compensate is not None and compensate.own is not None),
        keeps_raw="task" in late,
        body=body,
        compensate=compensate,
    )
    compiler.nodes[pointer] = task
    return task


def section(
    compiler: Compiler,
    pointer: str,
    source: dict[str, Any],
    name: str,
    key: str,
    known: frozenset[str],
    scope: Scope,
) -> Template | None:
    """`input.from`, `output.as` or `export.as` of a task or of the workflow, if given."""
    if name not in source:
        return None
    place = f"{pointer}/{name}"
    value = compiler.problems.mapping(place, source[name], f"`{name}`")
    if value is None:
        return None
    compiler.problems.keys(place, value, (key, "schema"))
    if key not in value:
        return None
    return compiler.transformation(f"{place}/{key}", value[key], known, scope)


def _kind(compiler: Compiler, pointer: str, source: dict[str, Any]) -> str | None:
    """The one key that says what the task does."""
    problems = compiler.problems
    found = [kind for kind in KINDS if kind in source]
    if "for" in found and "do" in found:
        found.remove("do")  # its own
    if len(found) == 1:
        return found[0]
    if found:
        listed = " and ".join(f"`{kind}`" for kind in found)
        problems.add(pointer, f"is {listed} at once: split it into one task each")
        return None
    _no_kind(compiler, pointer, source)
    return None


def _no_kind(compiler: Compiler, pointer: str, source: dict[str, Any]) -> None:
    problems = compiler.problems
    unknown = [key for key in source if key not in COMMON and key not in ("with", "catch")]
    listed = ", ".join(KINDS)
    for key in unknown:
        known = (*KINDS, *COMMON)
        problems.add(f"{pointer}/{escape(key)}", f'unknown key "{key}"{problems.meant(key, known)}')
    if not unknown:
        problems.add(pointer, f"does nothing: give it one of {listed}")
