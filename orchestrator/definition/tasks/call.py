"""call: an activity, a function of `use.functions`, or one of the calls that are built in."""

from __future__ import annotations

from typing import Any

from orchestrator.definition.compiler.compiler import INSIDE, NOTHING, Compiler, Scope
from orchestrator.definition.compiler.nodes import Call, Template
from orchestrator.definition.compiler.problems import escape, kind_of
from orchestrator.definition.tasks import builtin_calls, heartbeat, openapi_server
from orchestrator.definition.tasks.basic import Late, entering
from orchestrator.expressions.jq import strip_marks
from wf.protocol.subjects import NAME_RULE, RESERVED_PREFIX, is_name

_NEVER = {
    "a2a": "agents are not called from here: write an activity that speaks A2A, and call it",
    "asyncapi": (
        "asyncapi is not supported: use `emit` and `listen`, or an activity that speaks to the"
        " broker"
    ),
    "grpc": "gRPC is not supported: write an activity that uses the service's stub, and call it",
    "mcp": "MCP is not supported: write an activity that speaks to the server, and call it",
}
RESERVED_NAMES = (*builtin_calls.COMPILERS, *_NEVER)


def call(
    compiler: Compiler, pointer: str, source: dict[str, Any], scope: Scope
) -> tuple[Call, Late] | None:
    """`call: <activity>`, with the input in `with`, else the task's input."""
    compiled = _call(compiler, pointer, source, scope, ())
    if compiled is None:
        return None
    compiled = openapi_server.at_server(compiler, pointer, source, compiled)
    compiled = openapi_server.following(compiler, pointer, source, compiled)
    compiled = heartbeat.watched(compiler, pointer, source, compiled)
    used = NOTHING if compiled.deferred is None else compiled.deferred.variables
    late = entering(compiled.arguments, *compiled.inputs) | (used & {"task"})
    return compiled, late


def functions(compiler: Compiler) -> None:
    """Check the functions that no task calls, and the names of all."""
    for name, body in compiler.functions.items():
        place = f"/use/functions/{escape(name)}"
        if name in RESERVED_NAMES:
            compiler.problems.add(place, f"`call: {name}` has a meaning already: rename it")
        elif place not in compiler.used:
            _function(compiler, name, body, (name,))


def _call(
    compiler: Compiler, pointer: str, source: dict[str, Any], scope: Scope, around: tuple[str, ...]
) -> Call | None:
    """`around`: the functions that are being compiled, so that none calls itself."""
    name = compiler.problems.text(f"{pointer}/call", source["call"], "`call`")
    if name is None:
        return None
    if name in builtin_calls.COMPILERS:
        return builtin_calls.COMPILERS[name](compiler, f"{pointer}/with", source.get("with"), scope)
    arguments = _arguments(compiler, pointer, source, scope)
    if name in compiler.functions and name not in _NEVER:
        if name in around:
            listed = " → ".join((*around, name))
            compiler.problems.add(f"{pointer}/call", f"the function calls itself: {listed}")
            return None
        inner = _function(compiler, name, compiler.functions[name], (*around, name))
        if inner is None or arguments is None:
            return inner
        return Call(inner.activity, inner.arguments, (arguments, *inner.inputs), inner.deferred)
    _check_activity(compiler, f"{pointer}/call", name)
    return Call(name, arguments)


def _check_activity(compiler: Compiler, place: str, name: str) -> None:
    problems = compiler.problems
    if name in _NEVER:
        problems.add(place, _NEVER[name])
    elif "@" in name:
        problems.add(place, "catalogs are not supported: call an activity by its name")
    elif not is_name(name):
        problems.add(place, f'"{name}" cannot name an activity: use {NAME_RULE}')
    elif name.startswith(RESERVED_PREFIX):
        problems.add(
            place,
            f'names that begin with "{RESERVED_PREFIX}" are those of built-in activities: write'
            f" {', '.join(f'`call: {call}`' for call in builtin_calls.COMPILERS)}, `run: shell` or"
            " `run: script`",
        )


def _function(compiler: Compiler, name: str, body: Any, around: tuple[str, ...]) -> Call | None:
    """A function is a call task: `call`, and `with` that sees the caller's arguments as `.`, and
    nothing of what surrounds the caller."""
    problems, place = compiler.problems, f"/use/functions/{escape(name)}"
    compiler.used.add(place)
    if problems.mapping(place, body, f'the function "{name}"') is None:
        return None
    elsewhere = "is not supported in a function: put it on the tasks that call it"
    common = ("if", "input", "output", "export", "timeout", "then", "metadata")
    extra = dict.fromkeys(common, elsewhere)
    problems.keys(place, body, ("call", "with"), extra)
    if "call" not in body:
        problems.add(
            place, "needs `call`: a function is a call task, such as {call: http, with: …}"
        )
        return None
    return _call(compiler, place, body, Scope(), around)


def _arguments(
    compiler: Compiler, pointer: str, source: dict[str, Any], scope: Scope
) -> Template | None:
    """`with`: an object or an expression; None when it is not given."""
    if "with" not in source:
        return None
    value = source["with"]
    if type(value) is dict or (type(value) is str and strip_marks(value) is not None):
        return compiler.template(f"{pointer}/with", value, INSIDE, scope)
    compiler.problems.add(
        f"{pointer}/with", f"must be an object or an expression `${{ … }}`, found {kind_of(value)}"
    )
    return None
