"""The body of try: what it catches, and its retry policy."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from orchestrator.definition.compiler.compiler import INSIDE, NOTHING, Compiler, Scope
from orchestrator.definition.compiler.nodes import Block, Duration, Retry, Template, Try
from orchestrator.definition.compiler.problems import escape, kind_of, no_pattern
from orchestrator.definition.tasks import for_
from orchestrator.definition.tasks.timeouts import limit
from orchestrator.expressions.jq import Expression

_CATCH_KEYS = ("errors", "as", "when", "exceptWhen", "retry", "do", "then")
_FILTER_KEYS = ("type", "status", "title", "detail", "instance")
_RETRY_KEYS = ("when", "exceptWhen", "delay", "backoff", "limit", "jitter")
_BACKOFFS = ("constant", "linear", "exponential")


def try_(
    compiler: Compiler, pointer: str, source: dict[str, Any], scope: Scope
) -> tuple[Try, frozenset[str]] | None:
    block = compiler.block(f"{pointer}/try", source["try"], replace(scope, governed=True))
    if "catch" not in source:
        compiler.problems.add(pointer, "needs `catch`: say which errors to handle, and how")
        return None
    place = f"{pointer}/catch"
    value = compiler.problems.mapping(place, source["catch"], "`catch`")
    if value is None:
        return None
    compiler.problems.keys(place, value, _CATCH_KEYS)
    variable = for_.variable(compiler, f"{place}/as", value.get("as", "error"), "error")
    inner = scope.defining((variable,))
    catch = _Catch(compiler, place, value, inner)
    then = value.get("then")
    body = Try(
        block=block,
        errors=catch.errors(),
        variable=variable,
        when=catch.condition("when"),
        except_when=catch.condition("exceptWhen"),
        retry=catch.retry(),
        catch=catch.handler(),
        then=then if type(then) is str else None,
    )
    return body, _late(body)


def _late(body: Try) -> frozenset[str]:
    """What the parts that are evaluated after entering need besides the input, which a try
    keeps in any case."""
    parts: list[Expression | Template | None] = [body.errors, body.when, body.except_when]
    retry = body.retry
    if retry is not None:
        durations = [retry.delay, retry.duration, retry.attempt_duration, *(retry.jitter or ())]
        parts += [retry.when, retry.except_when]
        parts += [part.template for part in durations if part is not None]
    used = NOTHING.union(*(frozenset(part.variables) for part in parts if part is not None))
    return used & {"task"}


class _Catch:
    """Compiles the parts of one `catch`."""

    def __init__(self, compiler: Compiler, place: str, value: dict[str, Any], scope: Scope) -> None:
        self.compiler = compiler
        self.problems = compiler.problems
        self.place = place
        self.value = value
        self.scope = scope

    def condition(self, key: str) -> Expression | None:
        if key not in self.value:
            return None
        return self.compiler.condition(f"{self.place}/{key}", self.value[key], INSIDE, self.scope)

    def handler(self) -> Block | None:
        if "do" not in self.value:
            return None
        return self.compiler.block(f"{self.place}/do", self.value["do"], self.scope)

    def errors(self) -> Template | None:
        """`errors.with`: the properties that an error must have to be caught."""
        if "errors" not in self.value:
            return None
        place = f"{self.place}/errors"
        value = self.problems.mapping(place, self.value["errors"], "`errors`")
        if value is None:
            return None
        self.problems.keys(place, value, ("with",))
        place = f"{place}/with"
        wanted = self.problems.mapping(place, value.get("with", {}), "`with`")
        if wanted is None:
            return None
        self.problems.keys(place, wanted, _FILTER_KEYS)
        for key, value in wanted.items():
            instead = f'`when: ${{ $error.{key} | test("…") }}` beside `errors`'
            no_pattern(self.problems, f"{place}/{escape(key)}", value, instead)
        return self.compiler.template(place, wanted, INSIDE, self.scope)

    def retry(self) -> Retry | None:
        """`retry`: a policy, or the name of one in `use.retries`."""
        if "retry" not in self.value:
            return None
        value, place = self.value["retry"], f"{self.place}/retry"
        if type(value) is str:
            if value not in self.compiler.retries:
                meant = self.problems.meant(value, self.compiler.retries)
                self.problems.add(place, f'no retry policy "{value}" in `use.retries`{meant}')
                return None
            self.compiler.used.add(f"/use/retries/{escape(value)}")
            value, place = self.compiler.retries[value], f"/use/retries/{escape(value)}"
        return retry_policy(self.compiler, place, value, self.scope)


def retry_policy(compiler: Compiler, place: str, value: Any, scope: Scope) -> Retry | None:
    """A retry policy, in a catch or in `use.retries`."""
    problems = compiler.problems
    if problems.mapping(place, value, "a retry policy") is None:
        return None
    problems.keys(place, value, _RETRY_KEYS)
    conditions = [
        compiler.condition(f"{place}/{key}", value[key], INSIDE, scope) if key in value else None
        for key in ("when", "exceptWhen")
    ]
    delay = Duration()
    if "delay" in value:
        delay = compiler.duration(f"{place}/delay", value["delay"], INSIDE, scope)
    attempts, duration, attempt_duration = _limit(
        compiler, f"{place}/limit", value.get("limit", {}), scope
    )
    return Retry(
        when=conditions[0],
        except_when=conditions[1],
        delay=delay,
        backoff=_backoff(compiler, f"{place}/backoff", value.get("backoff")),
        attempts=attempts,
        duration=duration,
        attempt_duration=attempt_duration,
        jitter=_jitter(compiler, f"{place}/jitter", value.get("jitter"), scope),
    )


def _backoff(compiler: Compiler, place: str, value: Any) -> str:
    if value is None:
        return "constant"
    problems = compiler.problems
    if problems.mapping(place, value, "`backoff`") is None:
        return "constant"
    problems.keys(place, value, _BACKOFFS)
    found = [name for name in _BACKOFFS if name in value]
    if len(found) != 1:
        problems.add(place, f"must have exactly one of {', '.join(_BACKOFFS)}")
        return "constant"
    if value[found[0]] not in (None, {}):
        problems.add(f"{place}/{found[0]}", "takes no settings: write {}")
    return found[0]


def _limit(
    compiler: Compiler, place: str, value: Any, scope: Scope
) -> tuple[int | None, Duration | None, Duration | None]:
    """(attempts in all, duration of all, duration of each)."""
    problems = compiler.problems
    if problems.mapping(place, value, "`limit`") is None:
        return None, None, None
    problems.keys(place, value, ("attempt", "duration"))
    duration = None
    if "duration" in value:
        duration = compiler.duration(f"{place}/duration", value["duration"], INSIDE, scope)
    attempt = problems.mapping(f"{place}/attempt", value.get("attempt", {}), "`attempt`")
    if attempt is None:
        return None, duration, None
    problems.keys(f"{place}/attempt", attempt, ("count", "duration"))
    count = attempt.get("count")
    if count is not None and (type(count) is not int or count < 1):
        problems.add(
            f"{place}/attempt/count",
            f"must be an integer from 1, which counts the first attempt too: {kind_of(count)}",
        )
        count = None
    if count == 1:
        problems.warn(
            f"{place}/attempt/count",
            "counts attempts, the first one included: with 1 nothing is tried again; write 2 for"
            " one retry",
        )
    each = None
    if "duration" in attempt:
        each = limit(compiler, f"{place}/attempt/duration", attempt["duration"], INSIDE, scope)
    return count, duration, each


def _jitter(
    compiler: Compiler, place: str, value: Any, scope: Scope
) -> tuple[Duration, Duration] | None:
    if value is None:
        return None
    problems = compiler.problems
    if problems.mapping(place, value, "`jitter`") is None:
        return None
    problems.keys(place, value, ("from", "to"))
    if "from" not in value or "to" not in value:
        problems.add(place, "needs `from` and `to`, both durations")
        return None
    first = compiler.duration(f"{place}/from", value["from"], INSIDE, scope)
    last = compiler.duration(f"{place}/to", value["to"], INSIDE, scope)
    if first.template is None and last.template is None and first.ms > last.ms:
        problems.add(place, "`from` is longer than `to`: exchange them")
    return first, last
