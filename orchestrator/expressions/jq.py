"""Runtime expressions: jq, checked at registration, compiled once, evaluated under limits.

The only place that knows purejq. An expression gives exactly one value; anything else is an
ExpressionError, which the machine turns into an `expression` fault. Paths such as `.a.b` or
`$context.a` are read directly, with purejq's own answer for everything that is not a plain hit.

The deadline counts this process's CPU time (ITIMER_VIRTUAL), so that a busy or stopped host does
not fault an innocent expression. Signals reach only the main thread: elsewhere there is none.
"""

from __future__ import annotations

import math
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import orjson
import purejq
from purejq import builtins, ops, parser
from purejq.errors import JqError

from orchestrator.expressions import messages
from orchestrator.expressions.address_space import address_space
from orchestrator.expressions.messages import shorten
from orchestrator.expressions.names import ExpressionRefused as ExpressionRefused
from orchestrator.expressions.names import Names
from orchestrator.expressions.regular_expressions import (
    Pattern,
    PatternRefused,
    compile_pattern,
)
from wf.protocol import gate
from wf.protocol.json_weight import exceeds

RECURSION_LIMIT = 10_000  # 100,000 overflows the C stack of CPython
MAX_SOURCE_CHARACTERS = 100_000
_TOO_DEEP = f"the value nests deeper than {gate.VALUE_DEPTH} levels"

_REFUSED_KEYWORDS = ("import", "include")

parse_jq: Callable[[str], Any] = parser.parse
compile_jq: Callable[[str], Any] = purejq.compile
jq_error: Callable[[str], Exception] = JqError
describe_value: Callable[[Any], str] = ops.describe


def _regular_expression(pattern: Any, flags: Any) -> tuple[Pattern, bool]:
    """What stands behind `test`, `match` and the like: jq's dialect, and bounded in time."""
    if type(pattern) is list and flags is None and 1 <= len(pattern) <= 2:
        pattern, flags = (*pattern, None)[:2]
    if type(pattern) is not str:
        raise jq_error(f"{describe_value(pattern)} cannot be matched, as it is not a string")
    if flags is not None and type(flags) is not str:
        raise jq_error(f"{describe_value(flags)} is not a string")
    try:
        found = compile_pattern(pattern, flags or "")
    except PatternRefused as refusal:
        raise jq_error(f"{refusal} (while regex-compiling {shorten(pattern)})") from None
    return found, found.is_global


builtins._compile_regex = _regular_expression

NOW = "__now_s"  # the variable behind `now`: seconds since 1970, the event's time
FACTS = frozenset({"deadline", "memory", "depth", "size"})


class ExpressionLimits(NamedTuple):
    deadline_s: float = 1.0
    max_result_bytes: int = 4 * 1024 * 1024


DEFAULT_LIMITS = ExpressionLimits()


class ExpressionError(Exception):
    """An evaluation failed. `fact` names what depended on the machine, None otherwise."""

    def __init__(self, detail: str, fact: str | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.fact = fact


def fact_error(fact: str, source: str) -> ExpressionError:
    """The error that a recorded fact stands for; the same text as when it first happened."""
    remedy = {
        "deadline": "took too long: narrow what it loops over",
        "memory": "needs too much memory: narrow what it builds",
        "depth": "nests too deeply: prefer `reduce` and `range` to recursion",
        "size": "gives too large a result: select what is needed",
    }.get(fact, f"failed ({fact})")
    return ExpressionError(f"expression `{shorten(source)}` {remedy}", fact)


class Expression:
    """One compiled expression. `variables`: the free ones, without `$`; `now` counts as NOW.
    `doubt`: what will fail, such as a regular expression that cannot be used; None if nothing."""

    __slots__ = ("_program", "doubt", "path", "root", "source", "variables")

    def __init__(
        self,
        source: str,
        program: Any,
        variables: tuple[str, ...],
        tree: Any,
        doubt: str | None = None,
    ) -> None:
        self.source = source
        self.doubt = doubt
        self.variables = variables
        self._program = program
        self.root, self.path = _as_path(tree)

    def evaluate(
        self,
        value: Any,
        variables: Mapping[str, Any],
        limits: ExpressionLimits = DEFAULT_LIMITS,
    ) -> Any:
        """The one result. Raises ExpressionError. `variables` holds at least `self.variables`."""
        path = self.path
        if path is not None:
            found = value if self.root is None else variables[self.root]
            for key in path:
                if type(found) is dict:
                    found = found.get(key)
                elif found is not None:
                    break  # an error, in purejq's words
            else:
                return found
        return self._run(value, variables, limits)

    def _run(self, value: Any, variables: Mapping[str, Any], limits: ExpressionLimits) -> Any:
        try:
            found = _one(self._program, value, variables, limits.deadline_s)
        except ExpressionError as error:
            if error.fact is not None:
                raise fact_error(error.fact, self.source) from None
            raise ExpressionError(f"expression `{shorten(self.source)}`: {error}") from None
        kind = type(found)
        if kind is bool or found is None or (kind is int and -(2**63) <= found < 2**63):
            return found
        return storable(found, limits.max_result_bytes, self.source)


def _as_path(tree: Any) -> tuple[str | None, tuple[str, ...] | None]:
    """(root variable or None, keys) when the tree is a chain of names, else (None, None)."""
    keys: list[str] = []
    while True:
        if tree[0] == "field":
            keys.append(tree[2])
        elif tree[0] == "index" and tree[2][0] == "const" and type(tree[2][1]) is str:
            keys.append(tree[2][1])
        elif tree == ("identity",):
            return None, tuple(reversed(keys))
        elif tree[0] == "var":
            return tree[1], tuple(reversed(keys))
        else:
            return None, None
        tree = tree[1]


# --- evaluation ---------------------------------------------------------------------------------


AGAIN_S = 0.1


class _Deadline(BaseException):
    """Raised by the timer's handler. Not an Exception, so that no handler of jq swallows it."""


class _Timer:
    """The one place that arms and disarms the deadline."""

    armed = False
    installed = False

    def install(self) -> None:
        signal.signal(signal.SIGVTALRM, self._expired)
        self.installed = True

    def _expired(self, _number: int, _frame: Any) -> None:
        if self.armed:
            raise _Deadline

    def call(self, function: Callable[[], list[Any]], deadline_s: float) -> list[Any]:
        """What `function` returns, or `_Deadline`."""
        if threading.current_thread() is not threading.main_thread():
            return function()
        if not self.installed:
            self.install()
        try:
            try:
                self.armed = True
                # Again and again: what is raised within a callback of the collector is swallowed.
                signal.setitimer(signal.ITIMER_VIRTUAL, deadline_s, AGAIN_S)
                return function()
            finally:
                self.armed = False
                signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        except _Deadline:
            self.armed = False  # it may have struck inside the `finally`
            raise


_timer = _Timer()


def _first_two(program: Any, value: Any, variables: Mapping[str, Any]) -> list[Any]:
    """At most two results, which are enough to know that one is not all. Much of the work may be
    done before the first is asked for."""
    found = []
    for result in program.run(value, vars=variables):
        found.append(result)
        if len(found) == 2:
            break
    return found


def _one(program: Any, value: Any, variables: Mapping[str, Any], deadline_s: float) -> Any:
    """The only result, with room for recursion while it is looked for."""
    usual = sys.getrecursionlimit()
    if usual < RECURSION_LIMIT:
        sys.setrecursionlimit(RECURSION_LIMIT)
    try:
        with address_space:
            found = _timer.call(lambda: _first_two(program, value, variables), deadline_s)
    except _Deadline:
        raise ExpressionError("deadline", "deadline") from None
    except RecursionError:
        raise ExpressionError("depth", "depth") from None
    except MemoryError:
        raise ExpressionError("memory", "memory") from None
    except Exception as error:  # noqa: BLE001 - whatever the interpreter raises is the author's fault
        raise ExpressionError(gate.text(error) or type(error).__name__) from None
    finally:
        if usual < RECURSION_LIMIT:
            sys.setrecursionlimit(usual)
    if len(found) == 1:
        return found[0]
    how_many = "no result" if not found else "more than one result"
    remedy = "use `// null` or `first(…)`" if not found else "collect them: `[ … ]`"
    raise ExpressionError(f"gives {how_many}, exactly one is needed: {remedy}")


def storable(value: Any, max_bytes: int, source: str) -> Any:
    """`value` as JSON can hold it: NaN is null, infinity the largest double, as jq prints them.

    Raises ExpressionError for integers past 64 bits, lone surrogates, depth and size.
    """
    kind = type(value)
    if kind is float:
        return value if math.isfinite(value) else _finite(value)
    if exceeds(value, max_bytes):
        raise fact_error("size", source)
    try:
        encoded = orjson.dumps(value)
    except (TypeError, RecursionError) as error:
        raise ExpressionError(
            f"expression `{shorten(source)}`: the result cannot be stored: {error}"
        ) from None
    if len(encoded) > max_bytes:
        raise fact_error("size", source)
    if kind is str:
        return value
    if gate.nests_deeper(value, encoded, gate.VALUE_DEPTH):
        raise ExpressionError(f"expression `{shorten(source)}`: {_TOO_DEEP}")
    return _without_nan(value) if b"null" in encoded else value


def check_event(event: Any) -> None:
    """Raise ExpressionError when `event` nests too deeply for a snapshot, or is no JSON."""
    _check(event, None, gate.MAX_DEPTH)


def check_composed(value: Any, limits: ExpressionLimits) -> None:
    """The same for a value, and when it is larger than one result may be."""
    _check(value, limits.max_result_bytes, gate.VALUE_DEPTH)


def composition_error() -> ExpressionError:
    """A value that is too large as a whole; the same text as when it first happened."""
    return ExpressionError(
        "the value is too large: select what is needed, or pass a reference", "size"
    )


def _check(value: Any, max_bytes: int | None, depth: int) -> None:
    if type(value) is not dict and type(value) is not list:
        return
    if max_bytes is not None and exceeds(value, max_bytes):
        raise composition_error()
    try:
        encoded = orjson.dumps(value)
    except (TypeError, RecursionError) as error:
        raise ExpressionError(f"the value cannot be stored: {error}") from None
    if max_bytes is not None and len(encoded) > max_bytes:
        raise composition_error()
    if gate.nests_deeper(value, encoded, depth):
        raise ExpressionError(f"the value nests deeper than {depth} levels")


def _finite(value: float) -> float | None:
    return None if math.isnan(value) else math.copysign(sys.float_info.max, value)


def _without_nan(value: Any) -> Any:
    """A copy where numbers that JSON lacks are replaced; depth is already known to be small."""
    if type(value) is float and not math.isfinite(value):
        return _finite(value)
    if type(value) is list:
        return [_without_nan(child) for child in value]
    if type(value) is dict:
        return {key: _without_nan(child) for key, child in value.items()}
    return value


# --- compilation --------------------------------------------------------------------------------


@lru_cache(maxsize=8192)
def compile_expression(source: str) -> Expression:
    """Compile and check `source` (jq, without `${}`). Raises ExpressionRefused.

    Whether its variables exist is for the caller to check: it knows the place.
    """
    if len(source) > MAX_SOURCE_CHARACTERS:
        raise ExpressionRefused(f"is longer than {MAX_SOURCE_CHARACTERS} characters")
    if not source.strip():
        raise ExpressionRefused("is empty: write a jq expression, such as `.name`")
    try:
        names = Names(parse_jq(source))
        prefix = f"def now: ${NOW}; " if names.uses_now else ""
        tree = parse_jq(source) if not prefix else parse_jq(prefix + source)
        program = compile_jq(prefix + source)
    except (RecursionError, MemoryError):
        raise ExpressionRefused("nests too deeply") from None
    except Exception as error:  # noqa: BLE001 - whatever the parser raises, the source is refused
        raise ExpressionRefused(_syntax(source, str(error))) from None
    names.check(_builtins())
    free = names.free | ({NOW} if names.uses_now else set())
    return Expression(source, program, tuple(sorted(free)), tree, names.doubt)


def _syntax(source: str, message: str) -> str:
    for keyword in _REFUSED_KEYWORDS:
        if f"'{keyword}'" in message and keyword in source:
            return f"uses `{keyword}`, which is refused: an expression stands alone"
    return f"is not valid jq: {messages.syntax(source, message)}"


@lru_cache(maxsize=1)
def _builtins() -> frozenset[str]:
    return frozenset(compile_jq("builtins").first())


def strip_marks(text: str) -> str | None:
    """The inside of `${ … }`, or None when `text` is not wholly an expression."""
    stripped = text.strip()
    if stripped.startswith("${") and stripped.endswith("}"):
        return stripped[2:-1]
    return None
