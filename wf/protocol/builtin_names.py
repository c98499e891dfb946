"""Names that only built-in activities may have. Pure."""

from __future__ import annotations

from wf.protocol import subjects


def is_builtin(module: str) -> bool:
    """Whether a module, by its dotted name, is one of our own activities."""
    return module.startswith("wf.builtin.")


def reserved(what: str) -> str:
    """The sentence for a name that only built-in activities may have."""
    return (
        f'{what}: names that begin with "{subjects.RESERVED_PREFIX}" belong to built-in'
        ' activities: give it another, as in @activity(name="charge_card")'
    )
