"""Messages that leave an instance and are made from a command's body alone. Pure.

A `Send(kind, body)` of the machine is stored with the commit as it is; here each kind says which
stream its message goes to and what it looks like. Recovery builds the same bytes again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from wf.jetstream.port import Outgoing

JsonObject = dict[str, Any]

# (snapshot, body, message id) → (stream, message)
Builder = Callable[[JsonObject, JsonObject, str], tuple[str, Outgoing]]

BUILDERS: Mapping[str, Builder] = {}


def build(
    kind: str, snapshot: JsonObject, body: JsonObject, message_id: str
) -> tuple[str, Outgoing]:
    """The stream and the message of one send. Raises KeyError for a kind that nobody builds."""
    return BUILDERS[kind](snapshot, body, message_id)
