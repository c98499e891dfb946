"""References within a document, followed a bounded number of times."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

JsonObject = dict[str, Any]

MAX_STEPS = 32  # references that lead to references
BUDGET = 200_000  # things looked at in one document: small ones may stand for large ones


class UnusableDocument(Exception):
    """A document, or the part of it that an operation needs, cannot be gone by; says why."""


class Root:
    """One whole document, already parsed."""

    def __init__(self, document: JsonObject, budget: int = BUDGET) -> None:
        self.document = document
        self._budget = budget
        self.spent = 0

    def spend(self, amount: int = 1) -> None:
        """Count what is looked at. Raises UnusableDocument when it is too much."""
        self.spent += amount
        if self.exhausted:
            raise UnusableDocument(
                "the document is too large once its references are followed: serve one that has"
                " only the operations that are called"
            )

    @property
    def exhausted(self) -> bool:
        return self.spent > self._budget

    def resolve(self, value: Any) -> JsonObject:
        """The object that `value` is, or that its `$ref` leads to; {} for what is no object.
        Raises UnusableDocument."""
        seen: list[str] = []
        self.spend()
        while isinstance(value, dict) and "$ref" in value:
            reference = value["$ref"]
            if not isinstance(reference, str) or not reference.startswith("#"):
                raise UnusableDocument(
                    f"{reference!r:.200} refers to another document, which is not fetched: serve"
                    " the document with everything in it (bundled)"
                )
            if reference in seen:
                raise UnusableDocument(f"the reference {reference:.200} leads back to itself")
            seen.append(reference)
            if len(seen) > MAX_STEPS:
                raise UnusableDocument(
                    f"more than {MAX_STEPS} references lead from {seen[0]:.200} to one another"
                )
            self.spend()
            value = self._at(reference)
        return value if isinstance(value, dict) else {}

    def _at(self, reference: str) -> Any:
        """What a JSON pointer in a fragment points at."""
        value: Any = self.document
        pointer = unquote(reference[1:])
        if pointer and not pointer.startswith("/"):
            raise UnusableDocument(f"the reference {reference:.200} is no JSON pointer")
        for token in pointer.split("/")[1:]:
            key = token.replace("~1", "/").replace("~0", "~")
            if isinstance(value, dict) and key in value:
                value = value[key]
            elif isinstance(value, list) and key.isascii() and key.isdigit() and len(key) < 10:
                index = int(key)
                if index >= len(value):
                    raise UnusableDocument(f"the reference {reference:.200} leads nowhere")
                value = value[index]
            else:
                raise UnusableDocument(f"the reference {reference:.200} leads nowhere")
        return value


def mapping(value: Any) -> JsonObject:
    """`value` if it is an object, else {}: documents are not held to their schema here."""
    return value if isinstance(value, dict) else {}


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
