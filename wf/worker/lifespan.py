"""Running the hooks of the user's modules: `@on_start` before the work, `@on_stop` after it."""

from __future__ import annotations

import asyncio
import traceback

from loguru import logger

from wf.authoring import hooks
from wf.protocol import gate
from wf.worker.shutdown import Stopping

LEAST_S = 0.5  # for the hooks of a stop, however long the drain has taken


async def begin(stopping: Stopping) -> str | None:
    """Run the hooks of the start; the traceback of one that failed. A stop ends them."""
    for hook in hooks.starts():
        running = asyncio.ensure_future(hooks.call(hook))
        stop = asyncio.ensure_future(stopping.wait())
        await asyncio.wait({running, stop}, return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if not running.done():
            running.cancel()
            await asyncio.wait({running}, timeout=LEAST_S)
            return None
        error = running.exception() if not running.cancelled() else asyncio.CancelledError()
        if error is not None:
            return gate.text("".join(traceback.format_exception(error)))
    return None


async def end(limit_s: float) -> None:
    """Run the hooks of the stop, all within `limit_s`; one that fails keeps no other from it."""
    limit = asyncio.get_running_loop().time() + max(LEAST_S, limit_s)
    for hook in hooks.stops():
        log = logger.bind(hook=getattr(hook, "__qualname__", repr(hook)))
        try:
            async with asyncio.timeout_at(limit):
                await hooks.call(hook)
        except TimeoutError:
            log.error("worker.stop_hook.too_slow")
        except (Exception, SystemExit) as error:  # noqa: BLE001 - user code; the worker leaves anyway
            log.opt(exception=error).error("worker.stop_hook.failed")
