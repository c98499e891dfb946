"""Built-in calls as one worker would run them."""

from __future__ import annotations

from typing import Any

from wf import Context
from wf.builtin import http_calls
from wf.errors import ActivityError

JsonObject = dict[str, Any]


async def outcomes(activity: Any, *inputs: JsonObject) -> list[Any]:
    """The activity's outputs or errors, one after the other, in one worker."""
    found: list[Any] = []
    try:
        for one in inputs:
            try:
                found.append(await activity(**one, context=Context(instance="order-1", run=7)))
            except ActivityError as error:
                found.append(error)
    finally:
        await http_calls.caller().close()
    return found
