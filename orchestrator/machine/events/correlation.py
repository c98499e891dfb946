"""Which events may be for which listeners: keys of the index WORKFLOW_LISTENERS.

A key is `<type>.<hash>.<instance>.<listener>`. The hash stands for the values that a filter's
correlations expect and the expressions that find them in an event; without any it is a constant.
The type is encoded as in subjects; `=` alone stands for any type.
"""

from __future__ import annotations

from typing import NamedTuple

from wf.protocol.subjects import encoded

ANY_TYPE = "="  # no encoded type has this form


class Key(NamedTuple):
    """An entry of the index, taken apart."""

    type: str  # encoded, or ANY_TYPE
    hash: str
    instance: str
    listener: str

    @classmethod
    def parse(cls, text: str) -> Key:
        """Raises ValueError for what is no key."""
        type_, hash_, instance, listener = text.rsplit(".", 3)
        return cls(type_, hash_, instance, listener)

    def __str__(self) -> str:
        return ".".join(self)


def type_token(type_: str | None) -> str:
    """The first part of a key; None: any type."""
    return ANY_TYPE if type_ is None else encoded(type_)
