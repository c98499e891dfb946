"""An activity's annotations, turned once into validators and JSON schemas.

Input: `with` maps keys to parameters by name. A lone parameter annotated as a model or a dict
whose name is absent from the input gets the whole of it. `Context` is found by annotation. A
function without parameters ignores its input.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import difflib
import inspect
import types
import typing
from collections.abc import Callable
from typing import Any

import pydantic_core
import typing_extensions
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError, with_config
from pydantic.errors import PydanticUserError
from pydantic_core import to_jsonable_python

from wf.authoring import json_types
from wf.authoring.context import Context
from wf.authoring.json_data import check_lossless
from wf.authoring.source_location import location
from wf.errors import ConfigError, MessageError, NonRetryable
from wf.protocol import gate, problem_details
from wf.protocol.messages import JsonObject

_PROBLEMS_SHOWN = 20
_SCALARS = (str, int, float, types.NoneType)
Adapter = TypeAdapter[Any] | json_types.PlainAdapter


def _is_json(value: Any) -> bool:
    """Whether it is JSON data already: a quick look in C."""
    try:
        gate.encode(value)
    except MessageError:
        return False
    return True


class InvalidInput(NonRetryable):
    """The input does not fit the parameters."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail, type=problem_details.VALIDATION, title="Invalid input", status=400)


class InvalidOutput(NonRetryable):
    """The return value does not fit the return annotation, or is not JSON."""

    def __init__(self, detail: str) -> None:
        super().__init__(
            detail, type=problem_details.VALIDATION, title="Invalid output", status=400
        )


@dataclasses.dataclass(slots=True)
class Signature:
    """How to call one activity: `arguments` before, `result` after."""

    names: tuple[str, ...]  # parameters that take input
    context: str | None  # the parameter that takes the Context
    lone: str | None  # the only parameter, when there is just one
    takes_whole: bool  # the lone parameter is a model or a dict
    lone_has_default: bool
    takes_unknown: bool  # **kwargs
    validator: Any  # pydantic-core's;  None: no parameters
    returns: Adapter | None  # None: not annotated, or Any
    input_schema: JsonObject
    output_schema: JsonObject

    def arguments(self, given: Any) -> dict[str, Any]:
        """Keyword arguments for the function, without the Context. Raises InvalidInput."""
        if self.validator is None:
            return {}  # without `with` it is given the previous output, which it never asked for
        try:
            arguments: dict[str, Any] = self.validator.validate_python(self._by_name(given))
        except ValidationError as error:
            raise InvalidInput(self._explain(error)) from None
        return arguments

    def result(self, value: Any) -> Any:
        """`value`, checked against the return annotation, as JSON data. Raises InvalidOutput."""
        if self.returns is None:
            return value
        try:
            checked = self.returns.validator.validate_python(value)
            if not isinstance(checked, _SCALARS) and not _is_json(checked):
                check_lossless(checked, "return value")
            return self.returns.serializer.to_python(checked, mode="json", by_alias=True)
        except ValidationError as error:
            raise InvalidOutput("return value: " + _sentences(error)) from None
        except pydantic_core.PydanticSerializationError as error:
            raise InvalidOutput(f"return value is not JSON: {gate.text(error)}") from None
        except MessageError as error:
            raise InvalidOutput(str(error)) from None

    def _by_name(self, given: Any) -> dict[str, Any]:
        if isinstance(given, dict):
            if self.takes_whole and self.lone is not None and self.lone not in given:
                return {} if not given and self.lone_has_default else {self.lone: given}
            return given
        if given is None and (self.lone is None or self.lone_has_default):
            return {}
        if self.lone is not None:
            return {self.lone: given}
        raise InvalidInput(
            f"the input is {_kind(given)}, but there are several parameters"
            f" ({', '.join(self.names)}): give an object, with a key for each, in `with`"
        )

    def _explain(self, error: ValidationError) -> str:
        unknown = [str(e["loc"][0]) for e in error.errors() if _is_unknown_key(e)]
        parts = [self._unknown(unknown)] if unknown else []
        rest = _sentences(error, skip_unknown=True)
        return "; ".join([*parts, rest] if rest else parts)

    def _unknown(self, keys: list[str]) -> str:
        hints = []
        for key in keys[:_PROBLEMS_SHOWN]:
            near = difflib.get_close_matches(key, self.names, n=1)
            hints.append(f"{key!r}" + (f" (did you mean {near[0]!r}?)" if near else ""))
        return (
            f"unknown key {', '.join(hints)}: the parameters are {', '.join(self.names)};"
            " pass only these in `with`, or add **kwargs to the function"
        )


def read_signature(function: Callable[..., Any]) -> Signature:
    """Read the function's annotations. Raises ConfigError with file, line and remedy."""
    where = location(function)
    parameters = inspect.signature(function).parameters.values()
    hints = _hints(function, where)
    _refuse_unsupported(where, parameters)
    contexts = [p.name for p in parameters if _is_context(hints.get(p.name))]
    if len(contexts) > 1:
        raise ConfigError([f"{where}: two Context parameters ({', '.join(contexts)}): keep one"])
    taking = [p for p in parameters if p.name not in contexts and p.kind is not p.VAR_KEYWORD]
    takes_unknown = any(p.kind is p.VAR_KEYWORD for p in parameters)
    lone = taking[0] if len(taking) == 1 and not takes_unknown else None
    adapter = _input_adapter(where, taking, hints, takes_unknown)
    returns = _output_adapter(where, hints)
    return Signature(
        names=tuple(p.name for p in taking),
        context=contexts[0] if contexts else None,
        lone=lone.name if lone else None,
        takes_whole=lone is not None and _is_object(hints.get(lone.name)),
        lone_has_default=lone is not None and lone.default is not lone.empty,
        takes_unknown=takes_unknown,
        validator=_validator(adapter),
        returns=returns,
        input_schema=_input_schema(adapter, taking),
        output_schema=_schema(returns, "serialization") if returns is not None else {},
    )


def _hints(function: Callable[..., Any], where: str) -> dict[str, Any]:
    try:
        return typing.get_type_hints(inspect.unwrap(function), include_extras=True)
    except Exception as error:
        raise ConfigError(
            [f"{where}: an annotation cannot be resolved ({error}): import its type in the module"]
        ) from error


def _refuse_unsupported(where: str, parameters: typing.Iterable[inspect.Parameter]) -> None:
    problems = []
    for p in parameters:
        if p.kind is p.POSITIONAL_ONLY:
            problems.append(
                f"{where}: parameter {p.name!r} is positional-only, but inputs are given by name:"
                " remove the `/`"
            )
        if p.kind is p.VAR_POSITIONAL:
            problems.append(
                f"{where}: `*{p.name}` cannot take inputs, which are given by name:"
                f" use `{p.name}: list[…]`"
            )
    if problems:
        raise ConfigError(problems)


def _input_adapter(
    where: str, taking: list[inspect.Parameter], hints: dict[str, Any], takes_unknown: bool
) -> Adapter | None:
    if not taking and not takes_unknown:
        return None
    kinds = {p.name: hints.get(p.name, Any) for p in taking}
    optional = frozenset(p.name for p in taking if p.default is not p.empty)
    if (adapter := json_types.fields(kinds, optional, extra=takes_unknown)) is not None:
        return adapter
    fields = {
        name: typing_extensions.NotRequired[kind] if name in optional else kind
        for name, kind in kinds.items()
    }
    config = ConfigDict(extra="allow" if takes_unknown else "forbid")
    shape = with_config(config)(typing_extensions.TypedDict("Input", fields))  # type: ignore[operator]
    return _adapter(where, shape, "its parameters")


def _output_adapter(where: str, hints: dict[str, Any]) -> Adapter | None:
    kind = hints.get("return", Any)
    if kind is Any:
        return None
    return json_types.value(kind) or _adapter(where, kind, "its return value")


def _adapter(where: str, kind: Any, what: str) -> TypeAdapter[Any]:
    try:
        return TypeAdapter(kind)
    except PydanticUserError as error:
        reason = str(error).split("\n")[0]
        raise ConfigError(
            [f"{where}: the annotation of {what} cannot be checked as JSON ({reason}):"
             " use JSON types, dataclasses or pydantic models"]
        ) from error  # fmt: skip


def _validator(adapter: Adapter | None) -> Any:
    return adapter.validator if adapter is not None else None


def _input_schema(adapter: Adapter | None, taking: list[inspect.Parameter]) -> JsonObject:
    if adapter is None:
        return {}  # any input: it is ignored
    schema: JsonObject = _schema(adapter, "validation")
    for p in taking:
        if p.default is not p.empty and p.name in schema.get("properties", {}):
            try:
                schema["properties"][p.name]["default"] = to_jsonable_python(p.default)
            except pydantic_core.PydanticSerializationError:
                continue  # a default that JSON cannot show is still honoured
    return schema


def _schema(adapter: Adapter, mode: typing.Literal["validation", "serialization"]) -> JsonObject:
    try:
        return adapter.json_schema(mode=mode)
    except PydanticUserError:
        return {}  # a type without a JSON schema (a custom validator) is still validated


def _is_context(kind: Any) -> bool:
    if kind is Context:
        return True
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return any(_is_context(one) for one in typing.get_args(kind))
    return False


def _is_object(kind: Any) -> bool:
    """True for annotations that take a JSON object: models, dataclasses, TypedDicts, mappings."""
    origin = typing.get_origin(kind)
    if origin is typing.Annotated:
        return _is_object(typing.get_args(kind)[0])
    if origin in (typing.Union, types.UnionType):
        return any(_is_object(one) for one in typing.get_args(kind))
    kind = origin or kind
    if not isinstance(kind, type):
        return False
    if issubclass(kind, BaseModel | collections.abc.Mapping) or dataclasses.is_dataclass(kind):
        return True
    return typing_extensions.is_typeddict(kind)


def _is_unknown_key(error: Any) -> bool:
    return error["type"] == "extra_forbidden" and len(error["loc"]) == 1


def _sentences(error: ValidationError, *, skip_unknown: bool = False) -> str:
    """One sentence per problem; never the values themselves, which may be secret."""
    shown = [
        f"{_path(e['loc'])}{e['msg'][:300]}"
        for e in error.errors(include_url=False, include_context=False, include_input=False)
        if not (skip_unknown and _is_unknown_key(e))
    ]
    if len(shown) > _PROBLEMS_SHOWN:
        more = len(shown) - _PROBLEMS_SHOWN
        shown = [*shown[:_PROBLEMS_SHOWN], f"and {more} more problems"]
    return "; ".join(shown)


def _path(location: tuple[int | str, ...]) -> str:
    return ".".join(str(one) for one in location) + ": " if location else ""


def _kind(value: Any) -> str:
    names = {list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")
