"""wf: what activity modules and clients import.

from wf import activity, Context, Retry, NonRetryable, ActivityError, Client, on_start, on_stop
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from wf.authoring.activity import activity
from wf.authoring.context import Context
from wf.authoring.hooks import on_start, on_stop
from wf.authoring.retry import Retry
from wf.errors import ActivityError, NonRetryable

if TYPE_CHECKING:
    from wf.client.client import Client

__all__ = [
    "ActivityError",
    "Client",
    "Context",
    "NonRetryable",
    "Retry",
    "activity",
    "on_start",
    "on_stop",
]


def __getattr__(name: str) -> Any:
    # Client brings nats-py along: only those who use it pay for it.
    if name == "Client":
        from wf.client.client import Client

        return Client
    raise AttributeError(f"module 'wf' has no attribute {name!r}")
