"""The body of listen: which events, until when, how they are read, what is done for each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.definition.compiler.compiler import (
    EXPORT,
    INSIDE,
    NOTHING,
    RESERVED,
    Compiler,
    Scope,
)
from orchestrator.definition.compiler.nodes import (
    Correlation,
    Filter,
    Iterator,
    Listen,
    Strategy,
    Template,
)
from orchestrator.definition.compiler.problems import escape, kind_of, no_pattern
from orchestrator.definition.tasks.emit import attributes
from orchestrator.expressions.jq import Expression, strip_marks

JsonObject = dict[str, Any]
Late = frozenset[str]

READ = ("data", "envelope", "raw")
STRATEGIES = ("one", "any", "all")
WHOLE = frozenset[str]()  # what `correlate.from` sees besides the event: nothing


def listen(
    compiler: Compiler, pointer: str, source: JsonObject, scope: Scope
) -> tuple[Listen, Late] | None:
    """`listen.to` and `listen.read`, and `foreach` beside `listen`."""
    problems, place = compiler.problems, f"{pointer}/listen"
    value = problems.mapping(place, source["listen"], "`listen`")
    if value is None:
        return None
    problems.keys(place, value, ("to", "read"))
    read = value.get("read", "data")
    if read not in READ:
        problems.add(f"{place}/read", f"must be data, envelope or raw, found {kind_of(read)}")
    foreach = None
    if "foreach" in source:
        foreach = _iterator(compiler, f"{pointer}/foreach", source["foreach"], scope)
    if "to" not in value:
        problems.add(place, "needs `to`: one, any or all with the events to wait for")
        return None
    to = problems.mapping(f"{place}/to", value["to"], "`to`")
    if to is None:
        return None
    found = strategy(compiler, f"{place}/to", to, scope, more=("until",))
    until, until_events, forever = _until(compiler, f"{place}/to", to, scope)
    if found is None:
        return None
    body = Listen(found, until, until_events, forever, str(read), foreach)
    return body, _late(body)


def strategy(
    compiler: Compiler,
    place: str,
    value: JsonObject,
    scope: Scope,
    *,
    known: Late = INSIDE,
    more: tuple[str, ...] = (),
    elsewhere: Mapping[str, str] | None = None,
) -> Strategy | None:
    """One, any or all, with filters that see the variables `known`. `more` are keys that the
    caller reads, `elsewhere` those that it refuses, each with the remedy."""
    problems = compiler.problems
    problems.keys(place, value, (*STRATEGIES, *more), elsewhere)
    found = [kind for kind in STRATEGIES if kind in value]
    if len(found) != 1:
        problems.add(place, "needs just one of `one`, `any` and `all`")
        return None
    kind, place = found[0], f"{place}/{found[0]}"
    given = value[kind]
    if kind == "one":
        filters = [_filter(compiler, place, given, scope, known)]
    elif type(given) is not list or (not given and kind == "all"):
        problems.add(place, f"must be a list of event filters, found {kind_of(given)}")
        return None
    else:
        filters = [
            _filter(compiler, f"{place}/{index}", item, scope, known)
            for index, item in enumerate(given)
        ]
    return Strategy(kind, tuple(one for one in filters if one is not None))


def _filter(compiler: Compiler, place: str, value: Any, scope: Scope, known: Late) -> Filter | None:
    problems = compiler.problems
    if problems.mapping(place, value, "an event filter") is None:
        return None
    problems.keys(place, value, ("with", "correlate"))
    wanted = value.get("with")
    if type(wanted) is not dict or not wanted:
        problems.add(place, "needs `with`: the attributes that an event must have, such as type")
        return None
    template = attributes(compiler, f"{place}/with", wanted, scope, known)
    for name, one in wanted.items():
        no_pattern(problems, f"{place}/with/{escape(name)}", one, '${ test("…") }')
    type_ = wanted.get("type")
    constant = type(type_) is str and strip_marks(type_) is None
    correlations = []
    if "correlate" in value:
        given = problems.mapping(f"{place}/correlate", value["correlate"], "`correlate`") or {}
        for name, one in given.items():
            at = f"{place}/correlate/{escape(name)}"
            found = _correlation(compiler, at, name, one, scope, known)
            if found is not None:
                correlations.append(found)
    return Filter(type_ if constant else None, template, tuple(correlations))


def _correlation(
    compiler: Compiler, place: str, name: str, value: Any, scope: Scope, known: Late
) -> Correlation | None:
    problems = compiler.problems
    if problems.mapping(place, value, f'the correlation "{name}"') is None:
        return None
    problems.keys(place, value, ("from", "expect"))
    source = problems.text(f"{place}/from", value.get("from"), "`from`")
    if source is None:
        return None
    compiled = compiler.expression(f"{place}/from", source, WHOLE, Scope())
    expect = None
    if "expect" in value:
        expect = compiler.template(f"{place}/expect", value["expect"], known, scope)
        instead = "`from` as an expression that gives true, such as `.data.id | test(…)`"
        no_pattern(problems, f"{place}/expect", value["expect"], instead)
    return None if compiled is None else Correlation(name, compiled, expect)


def _until(
    compiler: Compiler, place: str, to: JsonObject, scope: Scope
) -> tuple[Expression | None, Strategy | None, bool]:
    """(condition, events, whether it never ends by itself)."""
    if "until" not in to:
        return None, None, False
    problems, value = compiler.problems, to["until"]
    place = f"{place}/until"
    if "any" not in to:
        problems.add(place, "only `any` can have `until`: remove it, or listen to `any`")
    if type(value) is dict:
        return None, strategy(compiler, place, value, scope), False
    if value is True:
        problems.add(place, "true would end it at once: leave `until` out to wait for one event")
    condition = compiler.condition(place, value, INSIDE, scope)
    forever = condition is not None and condition.source == "false"
    return None if forever else condition, None, forever


def _iterator(compiler: Compiler, place: str, value: Any, scope: Scope) -> Iterator | None:
    problems = compiler.problems
    if problems.mapping(place, value, "`foreach`") is None:
        return None
    problems.keys(place, value, ("item", "at", "do", "output", "export"))
    names = {key: value.get(key, default) for key, default in (("item", "item"), ("at", "index"))}
    for key, name in names.items():
        if type(name) is not str or not name.isidentifier() or name in RESERVED:
            problems.add(f"{place}/{key}", f"cannot name a variable: {kind_of(name)}")
            names[key] = key
    if names["item"] == names["at"]:
        problems.add(place, f"`item` and `at` are both `{names['item']}`: rename one")
    inner = scope.defining(names.values())
    block = compiler.block(f"{place}/do", value["do"], inner) if "do" in value else None
    return Iterator(
        names["item"],
        names["at"],
        block,
        _part(compiler, place, value, "output", INSIDE, inner),
        _part(compiler, place, value, "export", EXPORT, inner),
    )


def _part(
    compiler: Compiler, place: str, value: JsonObject, name: str, known: Late, scope: Scope
) -> Template | None:
    if name not in value:
        return None
    place = f"{place}/{name}"
    found = compiler.problems.mapping(place, value[name], f"`{name}`")
    if found is None:
        return None
    unsupported = {"schema": "schemas are not supported in `foreach`: check the data in `do`"}
    compiler.problems.keys(place, found, ("as",), unsupported)
    if "as" not in found:
        return None
    return compiler.transformation(f"{place}/as", found["as"], known, scope)


def _late(body: Listen) -> Late:
    """What is used after entering, when events come."""
    used: set[str] = set() if body.until is None else set(body.until.variables)
    for _, strategy in body.parts:
        for one in strategy.filters:
            used.update(*(template.variables for _, template in one.attributes))
            expected = (c.expect for c in one.correlations if c.expect is not None)
            used.update(*(template.variables for template in expected))
    if body.foreach is not None:
        for part in (body.foreach.output_as, body.foreach.export_as):
            used.update(NOTHING if part is None else part.variables)
    return frozenset(used) & {"input", "task"}
