"""The top level of a definition: document, input, use, do, output, evaluate."""

from __future__ import annotations

import re
from typing import Any

from orchestrator.definition.compiler.budget import Budget
from orchestrator.definition.compiler.compiler import (
    BEFORE,
    WORKFLOW_INPUT,
    WORKFLOW_OUTPUT,
    Compiler,
    Scope,
)
from orchestrator.definition.compiler.nodes import Workflow
from orchestrator.definition.compiler.problems import Problems, escape, kind_of
from orchestrator.definition.compiler.schemas import section_schema
from orchestrator.definition.compiler.versions import SEMANTIC, VERSION_RULE
from orchestrator.definition.extensions import extensions
from orchestrator.definition.scheduling import schedule, trigger
from orchestrator.definition.task_table import compile_task, section
from orchestrator.definition.tasks import authentications, call
from orchestrator.definition.tasks.basic import error_template
from orchestrator.definition.tasks.timeouts import timeout, timeout_body
from orchestrator.definition.tasks.try_ import retry_policy
from wf.protocol.subjects import NAME_RULE, is_name

_DSL = re.compile(r"1\.0\.[0-9]+(-[0-9A-Za-z.-]+)?(?:\+[0-9A-Za-z.-]+)?\Z")
TOP = ("document", "input", "use", "timeout", "do", "output", "schedule", "evaluate")
_USE_LATER = {
    "catalogs": "catalogs are not supported: call activities by their names",
    "extensions": "extensions are not supported: write the tasks where they belong",
}


def compile_workflow(document: dict[str, Any], problems: Problems, budget: Budget) -> Workflow:
    """The compiled tree; problems are noted, and then the tree is not to be used. Raises Enough
    when there are too many, or there is too much to compile."""
    compiler = Compiler(problems, compile_task, work=budget.work)
    problems.keys("", document, TOP)
    _document(problems, document.get("document"))
    beyond = extensions(compiler, document.get("document"))
    _use(compiler, document.get("use"))
    _evaluate(problems, document.get("evaluate"))
    scope = Scope()
    if "do" not in document:
        problems.add("", "needs `do`: the list of tasks")
    block = compiler.block("/do", document.get("do", [{}]), scope)
    limit = timeout(compiler, "", document, WORKFLOW_INPUT, scope)
    _unused(compiler)
    return Workflow(
        input_schema=section_schema(compiler, "", document, "input"),
        input_from=section(compiler, "", document, "input", "from", WORKFLOW_INPUT, scope),
        output_as=section(compiler, "", document, "output", "as", WORKFLOW_OUTPUT, scope),
        output_schema=section_schema(compiler, "", document, "output"),
        timeout=limit,
        block=block,
        nodes=compiler.nodes,
        schedule=schedule(problems, document.get("schedule"), beyond.zone),
        trigger=trigger(compiler, document.get("schedule")),
        concurrency=beyond.concurrency,
    )


def _document(problems: Problems, value: Any) -> None:
    if value is None:
        problems.add("", "needs `document` with dsl, namespace, name and version")
        return
    if problems.mapping("/document", value, "`document`") is None:
        return
    required = ("dsl", "namespace", "name", "version")
    problems.keys("/document", value, (*required, "title", "summary", "tags", "metadata"))
    for key in required:
        if key not in value:
            problems.add("/document", f"needs `{key}`{_example(key)}")
        else:
            _header(problems, key, value[key])
    for key in ("title", "summary"):
        if key in value and type(value[key]) is not str:
            problems.add(f"/document/{key}", f"must be a string, found {kind_of(value[key])}")
    for key in ("tags", "metadata"):
        if key in value:
            problems.mapping(f"/document/{key}", value[key], f"`{key}`")


def _example(key: str) -> str:
    examples = {"dsl": "'1.0.3'", "version": "'1.0.0'", "namespace": "default"}
    return f", such as {examples[key]}" if key in examples else ""


def _header(problems: Problems, key: str, value: Any) -> None:
    place = f"/document/{key}"
    if type(value) is not str:
        quote = ": put it in quotes" if type(value) in (int, float) else ""
        problems.add(place, f"must be a string, found {kind_of(value)}{quote}")
    elif key == "dsl":
        _dsl(problems, place, value)
    elif key == "version" and (not SEMANTIC.match(value) or len(value) > 64):
        problems.add(place, f'"{value}": {VERSION_RULE}')
    elif key in ("namespace", "name") and not is_name(value):
        problems.add(place, f'"{value}" is not a valid name: use {NAME_RULE}')


def _dsl(problems: Problems, place: str, value: str) -> None:
    found = _DSL.match(value)
    if found is None:
        problems.add(
            place, f"\"{value:.40}\" is not a version of the DSL that is known: write '1.0.3'"
        )
    elif found[1]:
        problems.warn(
            place,
            f'"{value:.40}" is a draft of the DSL, and is read as 1.0.3: what DSL 1.0 left out is'
            " refused; write '1.0.3'",
        )


def _use(compiler: Compiler, value: Any) -> None:
    """Collect the reusable parts."""
    if value is None:
        return
    problems = compiler.problems
    if problems.mapping("/use", value, "`use`") is None:
        return
    tables = {
        "errors": compiler.errors,
        "retries": compiler.retries,
        "timeouts": compiler.timeouts,
        "functions": compiler.functions,
        "authentications": compiler.authentications,
    }
    problems.keys("/use", value, (*tables, "secrets"), _USE_LATER)
    for key, parts in tables.items():
        found = problems.mapping(f"/use/{key}", value.get(key, {}), f"`{key}`")
        parts.update(found or {})
    _secrets(compiler, value.get("secrets", []))


def _secrets(compiler: Compiler, value: Any) -> None:
    """`use.secrets`: the names of what workers may be asked for."""
    if type(value) is not list:
        compiler.problems.add("/use/secrets", f"must be a list of names, found {kind_of(value)}")
        return
    for index, name in enumerate(value):
        place = f"/use/secrets/{index}"
        if compiler.problems.text(place, name, "a secret's name") is None:
            continue
        if not is_name(name):
            compiler.problems.add(place, f'"{name}" cannot name a secret: use {NAME_RULE}')
        compiler.secrets.append(name)


def _unused(compiler: Compiler) -> None:
    """Check the reusable parts that nothing refers to; the others were, where they are used."""
    scope = Scope(frozenset({"error"}))
    for name, body in compiler.errors.items():
        place = f"/use/errors/{escape(name)}"
        if place not in compiler.used:
            error_template(compiler, place, body, scope)
    for name, body in compiler.retries.items():
        place = f"/use/retries/{escape(name)}"
        if place not in compiler.used:
            retry_policy(compiler, place, body, scope)
    for name, body in compiler.timeouts.items():
        place = f"/use/timeouts/{escape(name)}"
        if place not in compiler.used:
            timeout_body(compiler, place, body, BEFORE, scope)
    call.functions(compiler)
    authentications.unused(compiler)


def _evaluate(problems: Problems, value: Any) -> None:
    if value is None:
        return
    if problems.mapping("/evaluate", value, "`evaluate`") is None:
        return
    problems.keys("/evaluate", value, ("language", "mode"))
    if value.get("language", "jq") != "jq":
        problems.add("/evaluate/language", "only jq is supported: remove it")
    if value.get("mode", "strict") != "strict":
        problems.add("/evaluate/mode", "only strict is supported: put expressions in `${ … }`")
