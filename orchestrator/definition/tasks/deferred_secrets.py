"""Expressions that the engine must not evaluate, because their value must not be stored.

Secrets never enter a snapshot, history or a task message. So an expression over `$secrets` (or
`$authorization`, which is made of them) is cut out of the request and sent along as it is, with
the data that it needs; the worker evaluates it (wf/builtin/common/deferred_expressions.py).
"""

from __future__ import annotations

from orchestrator.definition.compiler.compiler import DEFERRED, NOTHING, Compiler
from orchestrator.definition.compiler.nodes import Deferred, Template
from orchestrator.definition.compiler.problems import escape
from orchestrator.expressions.jq import Expression


def cut(
    compiler: Compiler, template: Template, named: frozenset[str] = NOTHING
) -> tuple[Template, Deferred | None]:
    """`template` with null where such an expression was, and these expressions.

    `named`: secrets that the request needs by name, besides those of expressions.
    """
    found: list[tuple[str, Expression]] = []
    rest = _without(template, "", found)
    secrets = set(named)
    for _, expression in found:
        secrets |= _secrets_of(compiler, expression)
    if not found and not secrets:
        return rest, None
    variables = NOTHING.union(*(frozenset(expression.variables) for _, expression in found))
    return rest, Deferred(
        expressions=tuple(found),
        secrets=tuple(sorted(secrets)),
        variables=variables - DEFERRED,
        uses_input=any(not _is_path_of_variable(expression) for _, expression in found),
    )


def check(compiler: Compiler, pointer: str, template: Template) -> None:
    """Note each secret that an expression in `template` names and `use.secrets` does not."""
    found: list[tuple[str, Expression]] = []
    _without(template, pointer, found)
    for place, expression in found:
        if "secrets" in expression.variables:
            for name in _named(expression):
                declared(compiler, place, name)
            if not compiler.secrets:
                compiler.problems.add(place, "`$secrets` needs `use.secrets`: list their names")


def declared(compiler: Compiler, pointer: str, name: str) -> None:
    """Note a problem unless `use.secrets` lists the secret."""
    if name not in compiler.secrets:
        meant = compiler.problems.meant(name, compiler.secrets)
        compiler.problems.add(pointer, f'no secret "{name}" in `use.secrets`{meant}')


def _without(template: Template, pointer: str, found: list[tuple[str, Expression]]) -> Template:
    if template.expression is not None:
        if template.variables & DEFERRED:
            found.append((pointer, template.expression))
            return Template(NOTHING)
        return template
    if template.fields is not None:
        fields = tuple(
            (key, _without(child, f"{pointer}/{escape(key)}", found))
            for key, child in template.fields
        )
        return Template(NOTHING.union(*(child.variables for _, child in fields)), fields=fields)
    if template.items is not None:
        items = tuple(
            _without(child, f"{pointer}/{index}", found)
            for index, child in enumerate(template.items)
        )
        return Template(NOTHING.union(*(child.variables for child in items)), items=items)
    return template


def _secrets_of(compiler: Compiler, expression: Expression) -> set[str]:
    """The names that it needs: one when it is a plain path, else all that are declared."""
    if "secrets" not in expression.variables:
        return set()
    return set(_named(expression)) or set(compiler.secrets)


def _named(expression: Expression) -> tuple[str, ...]:
    if expression.root == "secrets" and expression.path:
        return expression.path[:1]
    return ()


def _is_path_of_variable(expression: Expression) -> bool:
    return expression.path is not None and expression.root is not None
