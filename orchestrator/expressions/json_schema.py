"""JSON Schemas of definitions: checked at registration, compiled once, the same verdict anywhere.

The only place that knows jsonschema-rs, which is imported with the first schema: most pools have
none. Nothing is fetched: a `$ref` may only point into its own document. Patterns are matched in
linear time, so that no data can make a validation slow.
"""

from __future__ import annotations

from typing import Any

SHOWN = 3  # problems that one error tells


class SchemaRefused(Exception):
    """The document is no schema that can be used; the text says why."""


class Schema:
    """One compiled schema."""

    __slots__ = ("_validator", "document")

    def __init__(self, document: Any) -> None:
        """Raises SchemaRefused."""
        import jsonschema_rs

        self.document = document
        try:
            self._validator: Any = jsonschema_rs.validator_for(
                document, offline=True, pattern_options=jsonschema_rs.RegexOptions()
            )
        except (ValueError, jsonschema_rs.ReferencingError) as error:
            raise SchemaRefused(_reason(error)) from None

    def problem(self, value: Any) -> str | None:
        """What is wrong with `value`, each with its JSON pointer; None when nothing is."""
        if self._validator.is_valid(value):
            return None
        said: list[str] = []
        for error in self._validator.iter_errors(value):
            if len(said) == SHOWN:
                said.append("and more")
                break
            said.append(f"{_pointer(error.instance_path)}: {error.message:.200}")
        return "; ".join(said)


def _reason(error: Exception) -> str:
    """In one line, with its place in the schema where the library tells it."""
    path = getattr(error, "instance_path", None)
    text = getattr(error, "message", None) or str(error)
    line = str(text).splitlines()[0][:200]
    return f"at {_pointer(path)}: {line}" if path else line


def _pointer(path: list[Any]) -> str:
    return "/" + "/".join(str(part).replace("~", "~0").replace("/", "~1") for part in path)
