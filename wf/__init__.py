"""wf: what activity modules and clients import.

from wf import activity, Context, Retry, NonRetryable, ActivityError, Client, on_start, on_stop
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from wf.activity import activity
from wf.context import Context
from wf.errors import ActivityError, NonRetryable
from wf.hooks import on_start, on_stop
from wf.retry import Retry

if TYPE_CHECKING:
    from wf.client import Client

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
        from wf.client import Client

        return Client
    raise AttributeError(f"module 'wf' has no attribute {name!r}")
