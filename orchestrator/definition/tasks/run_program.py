"""run: shell and run: script, compiled to calls of their built-in activities (wf/builtin)."""

from __future__ import annotations

from typing import Any

from orchestrator.definition.compiler.compiler import INSIDE, Compiler, Scope
from orchestrator.definition.compiler.nodes import Call, Template
from orchestrator.definition.compiler.problems import kind_of
from orchestrator.definition.tasks.basic import entering
from orchestrator.definition.tasks.builtin_calls import builtin_call, constant, data, mapping
from orchestrator.definition.tasks.run_workflow import Options, Process
from orchestrator.expressions.jq import strip_marks

LANGUAGES = ("js", "python")
COMMON = ("arguments", "stdin", "environment")
KNOWN = INSIDE | {"secrets"}


def shell(
    compiler: Compiler, place: str, value: Any, options: Options, scope: Scope
) -> Process | None:
    """`shell`: command, arguments, stdin, environment."""
    problems = compiler.problems
    if problems.mapping(place, value, "`shell`") is None:
        return None
    problems.keys(place, value, ("command", *COMMON))
    if "command" not in value:
        problems.add(place, "needs `command`")
        return None
    at = f"{place}/command"
    if problems.text(at, value["command"], "`command`") is None:
        return None
    fields = {"command": data(compiler, at, value["command"], scope, KNOWN)}
    return _process(compiler, place, value, options, scope, "wf-shell", fields)


def script(
    compiler: Compiler, place: str, value: Any, options: Options, scope: Scope
) -> Process | None:
    """`script`: language, code, arguments, stdin, environment."""
    problems = compiler.problems
    if problems.mapping(place, value, "`script`") is None:
        return None
    elsewhere = "is not fetched: put the text into `code`, or an activity into activities/"
    problems.keys(place, value, ("language", "code", *COMMON), {"source": elsewhere})
    for key in ("language", "code"):
        if key not in value and "source" not in value:
            problems.add(place, f"needs `{key}`")
    language = value.get("language", LANGUAGES[0])
    if type(language) is not str or language not in LANGUAGES:
        problems.add(f"{place}/language", f"must be one of {', '.join(LANGUAGES)}")
    code = value.get("code")
    if code is None or problems.text(f"{place}/code", code, "`code`") is None:
        return None
    fields = {
        "language": constant(language),
        "code": data(compiler, f"{place}/code", code, scope, KNOWN),
    }
    return _process(compiler, place, value, options, scope, "wf-script", fields)


def _process(
    compiler: Compiler,
    place: str,
    value: dict[str, Any],
    options: Options,
    scope: Scope,
    activity: str,
    fields: dict[str, Template],
) -> Process:
    if not options.awaited:
        compiler.problems.add(
            f"{place.rpartition('/')[0]}/await",
            "a process of a worker is always awaited: put it into a workflow of its own, and run"
            " that with `await: false`",
        )
    if "arguments" in value:
        fields["arguments"] = _arguments(compiler, f"{place}/arguments", value["arguments"], scope)
    if "environment" in value:
        at = f"{place}/environment"
        fields["environment"] = mapping(compiler, at, value["environment"], scope, KNOWN)
    if "stdin" in value:
        compiler.problems.text(f"{place}/stdin", value["stdin"], "`stdin`")
        fields["stdin"] = data(compiler, f"{place}/stdin", value["stdin"], scope, KNOWN)
    fields["return"] = constant(options.returns)
    call: Call = builtin_call(compiler, activity, fields)
    used = frozenset() if call.deferred is None else call.deferred.variables
    return call, entering(call.arguments) | (used & {"task"})


def _arguments(compiler: Compiler, place: str, value: Any, scope: Scope) -> Template:
    """A list of texts and expressions, or one expression that gives it."""
    is_expression = type(value) is str and strip_marks(value) is not None
    if type(value) is not list and not is_expression:
        compiler.problems.add(
            place,
            f"must be a list, one argument per item, or an expression, found {kind_of(value)}",
        )
        return constant([])
    return data(compiler, place, value, scope, KNOWN)
