"""Running one command against the broker."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from wf.errors import BrokerError

if TYPE_CHECKING:
    from wf.client.client import Client
    from wf.jetstream.client import JetStream

T = TypeVar("T")


@dataclass(slots=True, frozen=True)
class Target:
    """Which broker the command line names; neither: the settings that are found."""

    config: str | None
    servers: tuple[str, ...]


def run(target: Target, work: Callable[[Client], Awaitable[T]]) -> T:
    """Connect, do `work`, close. Raises what either raises."""
    _quieten()

    async def connected() -> T:
        from wf.client.client import Client

        async with await Client.connect(target.config, target.servers or None, name="wf") as client:
            await _check_streams(client)
            return await work(client)

    return asyncio.run(connected())


def run_as_operator(target: Target, work: Callable[[JetStream], Awaitable[T]]) -> T:
    """The same with the engine's credentials, for what no client may do."""
    _quieten()

    async def connected() -> T:
        from wf.client.client import Client
        from wf.client.connect import dial

        js = await dial(target.config, target.servers or None, name="wf", role="orchestrator")
        async with Client(js) as client:
            await _check_streams(client)
            return await work(js)

    return asyncio.run(connected())


async def _check_streams(client: Client) -> None:
    """Raise BrokerError at once on a broker without a pool; else a read retries for 20 s."""
    from wf.jetstream import topology
    from wf.jetstream.api import STREAM_NOT_FOUND, ApiError

    try:
        await client.port.last_sequence(topology.WORKFLOW_HISTORY)
    except ApiError as error:
        if error.code != STREAM_NOT_FOUND:
            raise
        raise BrokerError(
            "the broker answers, but no pool has made its streams there: start wf-supervisor on "
            "it, or name another broker with --server or --config"
        ) from error


def _quieten() -> None:
    # Errors reach the user as one sentence; the library's own log lines would only repeat them.
    from loguru import logger

    from wf.cli.output import say

    logger.remove()
    logger.add(say, level="ERROR", format="{level}: {message} {extra}")
