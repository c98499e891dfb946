"""Validators of plain JSON annotations, made directly.

pydantic's `TypeAdapter` inspects what it is given in many steps; in a freshly forked worker each
of them copies pages that were shared (1.7 MB in all) and takes milliseconds. `int`, `str`,
`list[str]`, `dict[str, Any]`, `X | None` and the like need none of that: their pydantic-core schema
is known. What comes out is the same, which a test holds against `TypeAdapter`.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic_core import SchemaSerializer, SchemaValidator, core_schema

from wf.protocol.messages import JsonObject


@dataclass(frozen=True, slots=True)
class PlainAdapter:
    """The part of `TypeAdapter` that is used here."""

    validator: SchemaValidator
    serializer: SchemaSerializer
    schema: JsonObject

    def json_schema(self, *, mode: str) -> JsonObject:
        """The JSON schema; the same in every mode."""
        return self.schema


_Shape = tuple[core_schema.CoreSchema, JsonObject]

_SCALARS: Mapping[Any, tuple[Callable[[], core_schema.CoreSchema], JsonObject]] = {
    int: (core_schema.int_schema, {"type": "integer"}),
    str: (core_schema.str_schema, {"type": "string"}),
    float: (core_schema.float_schema, {"type": "number"}),
    bool: (core_schema.bool_schema, {"type": "boolean"}),
    type(None): (core_schema.none_schema, {"type": "null"}),
    Any: (core_schema.any_schema, {}),
}


def value(kind: Any) -> PlainAdapter | None:
    """An adapter for values of `kind`; None when `kind` is more than plain."""
    shape = _shape(kind)
    return None if shape is None else _adapter(*shape)


def fields(
    kinds: Mapping[str, Any], optional: frozenset[str], *, extra: bool
) -> PlainAdapter | None:
    """An adapter for objects with these keys; None when one of them is more than plain.

    `kinds`: key → annotation; `optional`: keys that may be absent; `extra`: others may come too.
    """
    inner: dict[str, core_schema.TypedDictField] = {}
    properties: JsonObject = {}
    for name, kind in kinds.items():
        shape = _shape(kind)
        if shape is None:
            return None
        inner[name] = core_schema.typed_dict_field(shape[0], required=name not in optional)
        properties[name] = {"title": name.title().replace("_", " ").strip(), **shape[1]}
    schema: JsonObject = {"additionalProperties": extra, "properties": properties}
    required = [name for name in kinds if name not in optional]
    if required:
        schema["required"] = required
    core = core_schema.typed_dict_schema(inner, extra_behavior="allow" if extra else "forbid")
    return _adapter(core, {**schema, "title": "Input", "type": "object"})


def _adapter(core: core_schema.CoreSchema, schema: JsonObject) -> PlainAdapter:
    return PlainAdapter(SchemaValidator(core), SchemaSerializer(core), schema)


def _shape(kind: Any) -> _Shape | None:
    try:
        scalar = _SCALARS.get(type(None) if kind is None else kind)
    except TypeError:  # not hashable, such as Annotated with a list
        return None
    if scalar is not None:
        return scalar[0](), dict(scalar[1])
    origin, arguments = typing.get_origin(kind) or kind, typing.get_args(kind)
    if origin is list:
        return _list(arguments)
    if origin is dict:
        return _dict(arguments)
    if origin in (typing.Union, types.UnionType):
        return _optional(arguments)
    return None


def _list(arguments: tuple[Any, ...]) -> _Shape | None:
    item = _shape(arguments[0] if arguments else Any)
    if item is None:
        return None
    return core_schema.list_schema(item[0]), {"items": item[1], "type": "array"}


def _dict(arguments: tuple[Any, ...]) -> _Shape | None:
    key, of = arguments or (Any, Any)
    item = _shape(of)
    if item is None or key not in (str, Any) or (key is Any and arguments):
        return None
    core = core_schema.dict_schema(_SCALARS[key][0](), item[0])
    return core, {"additionalProperties": item[1] or True, "type": "object"}


def _optional(arguments: tuple[Any, ...]) -> _Shape | None:
    """`X | None` only: pydantic's choice between other members is its own business."""
    if len(arguments) != 2 or arguments[1] is not type(None):
        return None
    item = _shape(arguments[0])
    if item is None:
        return None
    return core_schema.nullable_schema(item[0]), {"anyOf": [item[1], {"type": "null"}]}
