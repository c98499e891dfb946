"""How the engine asks for a definition, and what it may get."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from orchestrator.definition import Definition


class Unusable(NamedTuple):
    """A definition that is registered and cannot be used."""

    reason: str


Lookup = Callable[[str, str, str | None], Definition | Unusable | None]
