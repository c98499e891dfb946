"""run: workflow, the body of a task that runs another workflow as a child."""

from __future__ import annotations

from typing import Any, NamedTuple

from orchestrator.definition.compiler.compiler import INSIDE, NOTHING, Compiler, Scope
from orchestrator.definition.compiler.nodes import Body, RunWorkflow
from orchestrator.definition.compiler.versions import SEMANTIC, VERSION_RULE
from orchestrator.expressions.jq import strip_marks
from wf.protocol.subjects import NAME_RULE, is_name

LATEST = "latest"
STDOUT, NONE = "stdout", "none"
RETURNS = (STDOUT, "stderr", "code", "all", NONE)


class Options(NamedTuple):
    """What is said beside the process itself."""

    awaited: bool
    returns: str  # one of RETURNS


# A body, and its late variables.
Process = tuple[Body, frozenset[str]]


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
