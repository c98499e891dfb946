"""`@on_start` and `@on_stop`: what a worker process does before its first task and after its last.

    from wf import on_start, on_stop

    @on_start
    async def open_pool():
        global pool
        pool = await asyncpg.create_pool(DSN)

    @on_stop
    async def close_pool():
        await pool.close()

Both kinds may be `def` or `async def`, without parameters; they run on the event loop's thread, in
the order of their definition, `on_stop` in reverse.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from wf.authoring.source_location import location
from wf.errors import ConfigError

Hook = Callable[[], Any]
H = TypeVar("H", bound=Hook)

_starts: list[Hook] = []
_stops: list[Hook] = []


def on_start(function: H, /) -> H:
    """Run `function` in each worker process once its modules are loaded, before its first task.

    What it raises is a failed boot: the pool's status shows it, and the supervisor tries again
    later. Raises ConfigError for what is no function without parameters.
    """
    _starts.append(_checked(function, "on_start"))
    return function


def on_stop(function: H, /) -> H:
    """Run `function` when a worker ends in order, after its last task, within the pool's grace.

    Not after a crash or a kill. Raises ConfigError for what is no function without parameters.
    """
    _stops.append(_checked(function, "on_stop"))
    return function


def forget() -> None:
    """Before the modules of a worker are loaded: those of another do not count."""
    _starts.clear()
    _stops.clear()


def starts() -> list[Hook]:
    """In the order in which they are to run."""
    return list(_starts)


def stops() -> list[Hook]:
    """In the order in which they are to run."""
    return list(reversed(_stops))


async def call(hook: Hook) -> None:
    """Run one. Raises what it raises."""
    found = hook()
    if inspect.isawaitable(found):
        await found


def _checked(function: H, name: str) -> H:
    if not inspect.isroutine(function) or inspect.isasyncgenfunction(function):
        raise ConfigError([f"@{name} goes on a def or async def function, not on {function!r}"])
    where = location(function)
    if inspect.isgeneratorfunction(function):
        raise ConfigError([f"{where}: a function with @{name} cannot yield"])
    for parameter in inspect.signature(function).parameters.values():
        if parameter.default is parameter.empty and parameter.kind not in (
            parameter.VAR_POSITIONAL,
            parameter.VAR_KEYWORD,
        ):
            raise ConfigError(
                [f"{where}: @{name} calls it without arguments: give {parameter.name} a default"]
            )
    return function
