"""The names of a module's activities, read from its source without importing it."""

from __future__ import annotations

import ast
from pathlib import Path


def scan(path: str | Path) -> list[str]:
    """Names of the activities in a module's source, without importing it; of a package's
    __init__.py those of all its files.

    Sees `@activity` and `@activity(name="literal")` on functions at module level. Gives [] for
    what cannot be parsed.
    """
    path = Path(path)
    files = sorted(path.parent.rglob("*.py")) if path.name == "__init__.py" else [path]
    return list(dict.fromkeys(name for file in files for name in _scan(file)))


def _scan(path: Path) -> list[str]:
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return []
    plain, modules = _names_of_decorator(tree)
    names = []
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            for decorator in node.decorator_list:
                target = decorator.func if isinstance(decorator, ast.Call) else decorator
                if _is_decorator(target, plain, modules):
                    names.append(_stated_name(decorator) or node.name)
    return names


def _names_of_decorator(tree: ast.Module) -> tuple[set[str], set[str]]:
    """(names bound to `activity`, names bound to the module `wf`)."""
    plain: set[str] = set()
    modules: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module in ("wf", "wf.authoring.activity"):
            plain |= {a.asname or a.name for a in node.names if a.name == "activity"}
        elif isinstance(node, ast.Import):
            modules |= {a.asname or a.name for a in node.names if a.name == "wf"}
    return plain, modules


def _is_decorator(target: ast.expr, plain: set[str], modules: set[str]) -> bool:
    if isinstance(target, ast.Name):
        return target.id in plain
    return (
        isinstance(target, ast.Attribute)
        and target.attr == "activity"
        and isinstance(target.value, ast.Name)
        and target.value.id in modules
    )


def _stated_name(decorator: ast.expr) -> str | None:
    if isinstance(decorator, ast.Call):
        for keyword in decorator.keywords:
            value = keyword.value
            if keyword.arg == "name" and isinstance(value, ast.Constant):
                return value.value if isinstance(value.value, str) else None
    return None
