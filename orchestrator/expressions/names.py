"""The names that an expression uses and defines, and which of them it may not have. Pure."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from orchestrator.expressions import messages
from orchestrator.expressions.regular_expressions import FUNCTIONS, problem

# What would make an evaluation depend on the process, the host or other evaluations.
REFUSED = {
    "env": "the environment of the engine is not readable",
    "input": "there is one input only: use `.` or `$input`",
    "inputs": "there is one input only: use `.` or `$input`",
    "input_filename": "there is no input file",
    "input_line_number": "there is no input file",
    "debug": "the engine's log is not writable",
    "stderr": "the engine's log is not writable",
    "halt": "an expression cannot stop the engine: use `raise` or `then: end`",
    "halt_error": "an expression cannot stop the engine: use `raise`",
    "localtime": "it depends on the host's time zone: use `gmtime`",
    "strflocaltime": "it depends on the host's time zone: use `strftime`",
}
_REFUSED_VARIABLES = {"ENV": REFUSED["env"], "__prog_args": "there are no program arguments"}


class ExpressionRefused(Exception):
    """The source is not an expression that may be registered; the text says why."""


class Names:
    """The functions and variables that a tree uses and defines, wherever in it."""

    def __init__(self, tree: Any) -> None:
        self.calls: set[str] = set()
        self.used: set[str] = set()
        self.functions: set[str] = set()
        self.bound: set[str] = {"__loc__"}
        self._patterns: list[tuple[str, str, str]] = []  # function, pattern, flags
        pending = [tree]
        while pending:
            node = pending.pop()
            if type(node) is list:
                pending.extend(node)
            elif type(node) is tuple and node:
                pending.extend(self._visit(node))

    def _visit(self, node: tuple[Any, ...]) -> tuple[Any, ...]:
        kind = node[0]
        if kind == "const":
            return ()
        if kind == "call":
            self.calls.add(f"{node[1]}/{len(node[2])}")
            self._pattern(node[1], node[2])
            return (node[2],)
        if kind == "var":
            self.used.add(node[1])
            return ()
        if kind == "pvar":
            self.bound.add(node[1])
            return ()
        if kind == "funcdef":
            self._define(node[1], node[2])
            return node[3:]
        return node if type(kind) is tuple else node[1:]

    def _pattern(self, name: str, arguments: list[Any]) -> None:
        """Note the pattern and the flags that are constants."""
        key = (name, len(arguments))
        if key in FUNCTIONS:
            at = FUNCTIONS[key]
            pattern = _constant(arguments[0])
            flags = "" if at is None else _constant(arguments[at])
            if pattern is not None or flags:
                self._patterns.append((f"{name}/{len(arguments)}", pattern or "", flags or ""))

    @property
    def doubt(self) -> str | None:
        """Of the regular expressions; those of a function of the author's own are none."""
        for function, pattern, flags in self._patterns:
            if function not in self.functions and (found := problem(pattern, flags)):
                return found
        return None

    def _define(self, name: str, parameters: list[str]) -> None:
        self.functions.add(f"{name}/{len(parameters)}")
        for parameter in parameters:
            bare = parameter.removeprefix("$")
            self.functions.add(f"{bare}/0")
            if bare is not parameter:
                self.bound.add(bare)

    @property
    def uses_now(self) -> bool:
        return "now/0" in self.calls

    @property
    def free(self) -> set[str]:
        return self.used - self.bound

    def check(self, builtins: Collection[str]) -> None:
        """Raise ExpressionRefused for what may not or cannot be called. `builtins`: each as
        `name/number of arguments`.

        What is refused is refused under that name even when the expression defines it: scopes
        are not looked at here, and a definition elsewhere must not open a way round.
        """
        for variable in sorted(self.used & _REFUSED_VARIABLES.keys()):
            raise ExpressionRefused(
                f"uses `${variable}`, which is refused: {_REFUSED_VARIABLES[variable]}"
            )
        for call in sorted(self.calls):
            name = call.partition("/")[0]
            if name in REFUSED:
                raise ExpressionRefused(f"uses `{name}`, which is refused: {REFUSED[name]}")
            if call not in self.functions and call not in builtins:
                known = [one for one in builtins if one.partition("/")[0] not in REFUSED]
                raise ExpressionRefused(messages.unknown_function(call, [*known, *self.functions]))


def _constant(node: Any) -> str | None:
    return node[1] if node[0] == "const" and type(node[1]) is str else None
