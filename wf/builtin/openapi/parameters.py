"""The parameters of an operation, as OpenAPI 3 and Swagger 2 describe them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from wf.builtin.openapi.references import JsonObject, Root, UnusableDocument, listed, mapping

PLACES = ("path", "query", "header", "cookie")
# OpenAPI has parameters of these names passed over: the request states them by itself.
UNHEARD = ("accept", "content-type", "authorization")

_STYLES = {
    "path": ("simple", "label", "matrix"),
    "query": ("form", "spaceDelimited", "pipeDelimited", "deepObject"),
    "header": ("simple",),
    "cookie": ("form",),
}
_DELIMITERS = {"spaceDelimited": " ", "pipeDelimited": "|"}
_COLLECTIONS = {"csv": ",", "ssv": " ", "tsv": "\t", "pipes": "|"}


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter, and how its value is written (styles.py)."""

    name: str
    place: str  # path, query, header, cookie; form: a field of Swagger 2's form
    required: bool = False
    style: str = "form"
    explode: bool = False
    delimiter: str = ","
    reserved: bool = False  # reserved characters of a query stand as they are
    json: bool = False  # the value is written as JSON
    refused: str = ""  # why no value can be sent

    @property
    def qualified(self) -> str:
        return f"{self.place}.{self.name}"


def parameters_of(root: Root, item: JsonObject, operation: JsonObject, swagger: bool) -> list[Any]:
    """The parameter objects of an operation; its own go before those of its path."""
    found: dict[tuple[Any, Any], JsonObject] = {}
    for given in (*listed(item.get("parameters")), *listed(operation.get("parameters"))):
        one = root.resolve(given)
        place, name = one.get("in"), one.get("name")
        if not isinstance(name, str) or not isinstance(place, str):
            raise UnusableDocument("a parameter has no `name`, or no `in`")
        found[(place, name)] = one
    if not swagger:
        unknown = [place for place, _ in found if place not in PLACES]
        if unknown:
            raise UnusableDocument(f"parameters in `{unknown[0]:.50}` are not known here")
    return list(found.values())


def parameter(one: JsonObject) -> Parameter | None:
    """A parameter of OpenAPI 3; None for one that is passed over."""
    name, place = one["name"], one["in"]
    if place == "header" and name.lower() in UNHEARD:
        return None
    required = place == "path" or one.get("required") is True
    if "schema" not in one and (content := mapping(one.get("content"))):
        kind = str(next(iter(content)))
        json = kind == "application/json" or kind.endswith("+json")
        refused = "" if json else f"a value of {kind:.100} cannot be written here"
        style = "simple" if place in ("path", "header") else "form"
        return Parameter(name, place, required, style, json=json, refused=refused)
    style, explode, delimiter, refused = styled(one, place)
    reserved = one.get("allowReserved") is True and place == "query"
    return Parameter(name, place, required, style, explode, delimiter, reserved, False, refused)


def styled(one: JsonObject, place: str) -> tuple[str, bool, str, str]:
    """(style, explode, delimiter, why it is refused) with the defaults of the place."""
    style = one.get("style", _STYLES[place][0])
    if style not in _STYLES[place]:
        known = ", ".join(_STYLES[place])
        return "form", False, ",", f"its style {style!r:.50} is none of {known}"
    explode = one.get("explode")
    exploded = explode if isinstance(explode, bool) else style == "form"
    if style in _DELIMITERS:
        return "form", exploded, _DELIMITERS[style], ""
    return style, exploded, ",", ""


def swagger_parameter(one: JsonObject) -> Parameter | None:
    """A parameter of Swagger 2 that is not the body; None for one that is passed over."""
    name, place = one["name"], one["in"]
    if place == "header" and name.lower() in UNHEARD:
        return None
    place = "form" if place == "formData" else place
    if place not in ("path", "query", "header", "form"):
        raise UnusableDocument(f"parameters in `{place:.50}` are not known here")
    required = place == "path" or one.get("required") is True
    style = "simple" if place in ("path", "header") else "form"
    collection = one.get("collectionFormat", "csv")
    refused = "files cannot be sent: use an activity" if one.get("type") == "file" else ""
    if collection == "multi" and place in ("query", "form"):
        return Parameter(name, place, required, style, True, refused=refused)
    delimiter = _COLLECTIONS.get(str(collection), "")
    if not delimiter:
        refused = f"its collectionFormat {collection!r:.50} is not known"
    return Parameter(name, place, required, style, False, delimiter, refused=refused)


def keys_of(root: Root, operation: JsonObject) -> list[Parameter]:
    """A parameter for each API key that the operation may be called with."""
    schemes = mapping(
        mapping(root.document.get("components")).get("securitySchemes")
        or root.document.get("securityDefinitions")
    )
    found: dict[str, Parameter] = {}
    for requirement in listed(operation.get("security", root.document.get("security"))):
        for name in mapping(requirement):
            scheme = root.resolve(schemes.get(name))
            key, place = scheme.get("name"), scheme.get("in")
            if scheme.get("type") != "apiKey" or not isinstance(key, str):
                continue
            if place in ("query", "header", "cookie"):
                style = "simple" if place == "header" else "form"
                found[f"{place}.{key}"] = Parameter(key, str(place), False, style)
    return list(found.values())
