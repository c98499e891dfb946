"""`schema` of input, output and export."""

from __future__ import annotations

from typing import Any

from orchestrator.definition.compiler.compiler import Compiler
from orchestrator.definition.compiler.problems import kind_of
from orchestrator.expressions.json_schema import Schema, SchemaRefused


def section_schema(
    compiler: Compiler, pointer: str, source: dict[str, Any], name: str
) -> Schema | None:
    """`<name>.schema` of a task or of the workflow, if given: `{format: json, document: …}`."""
    value = source.get(name)
    if type(value) is not dict or "schema" not in value:
        return None
    problems, place = compiler.problems, f"{pointer}/{name}/schema"
    found = problems.mapping(place, value["schema"], "a schema")
    if found is None:
        return None
    resource = "schemas are not fetched: write the schema itself in `document`"
    problems.keys(place, found, ("format", "document"), {"resource": resource})
    if found.get("format", "json") != "json":
        problems.add(f"{place}/format", f"must be json, found {kind_of(found['format'])}")
    if "document" not in found:
        if "resource" not in found:
            problems.add(place, "needs `document`: the JSON Schema itself")
        return None
    try:
        return Schema(found["document"])
    except SchemaRefused as refusal:
        problems.add(f"{place}/document", f"is no JSON Schema: {refusal}")
        return None
