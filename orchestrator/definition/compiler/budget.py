"""How much work a definition may make: reading it must end soon, whatever is in it. Pure.

Counted, not timed, so that the verdict is the same on every machine. What was registered before may
be as large as earlier versions let it be.
"""

from __future__ import annotations

from typing import NamedTuple

MAX_PROBLEMS = 100  # told of one definition; the rest is for the next try
MAX_SHOWN = 20  # names that one problem lists
MAX_COMPARED = 1000  # names among which a similar one is looked for
EXPRESSION_COST = 2
CHARACTERS_PER_UNIT = 5  # of an expression


class Budget(NamedTuple):
    """Of one definition."""

    size: int  # bytes of its text
    values: int  # in the document, aliases counted as often as used
    pointers: int  # characters of the JSON pointers to all of them
    work: int  # values and expressions that are compiled, reused parts as often as used


NEW = Budget(2 * 1024 * 1024, 100_000, 64 * 1024 * 1024, 200_000)
REGISTERED = Budget(8 * 1024 * 1024, 200_000, 256 * 1024 * 1024, 400_000)


def too_large(size: int, budget: Budget) -> str | None:
    """Why a text of so many bytes is no definition."""
    if size <= budget.size:
        return None
    return (
        f"takes {size} bytes, a definition may take {budget.size}: split the workflow, "
        "or move data out of it"
    )
