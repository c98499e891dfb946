"""The activities behind `call: http` and `call: openapi`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from wf.authoring.activity import activity
from wf.authoring.context import Context
from wf.builtin.common import settings
from wf.builtin.common.deferred_expressions import Request, guarded

if TYPE_CHECKING:
    from wf.builtin.caller import Caller

JsonObject = dict[str, Any]


class _Worker:
    """What the calls of this process share, made at the first of them."""

    caller: Caller | None = None
    loop: asyncio.AbstractEventLoop | None = None


_worker = _Worker()


def caller() -> Caller:
    """The one of this worker; httpx is imported here, at the first call."""
    loop = asyncio.get_running_loop()
    if _worker.caller is None or _worker.loop is not loop:
        from wf.builtin.caller import Caller

        _worker.caller, _worker.loop = Caller(settings.settings().builtin.http), loop
    return _worker.caller


@activity(name="wf-http")
async def http(request: JsonObject, context: Context, deferred: JsonObject | None = None) -> Any:
    """`call: http`: one request, its answer checked and decoded."""
    call = Request(request, deferred)
    return await guarded(call, caller().http(call, context.idempotency_key))


@activity(name="wf-openapi")
async def openapi(request: JsonObject, context: Context, deferred: JsonObject | None = None) -> Any:
    """`call: openapi`: one operation of an OpenAPI document, as `call: http` would send it."""
    call = Request(request, deferred)
    return await guarded(call, caller().openapi(call, context.idempotency_key))
