"""Running one command against the broker."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from wf.client import Client

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
        from wf.client import Client

        async with await Client.connect(target.config, target.servers or None, name="wf") as client:
            return await work(client)

    return asyncio.run(connected())


def _quieten() -> None:
    # Errors reach the user as one sentence; the library's own log lines would only repeat them.
    from loguru import logger

    from wf.cli.output import say

    logger.remove()
    logger.add(say, level="ERROR", format="{level}: {message} {extra}")
