"""`@activity`: marks a function as an activity, and does no more.

The mark is an attribute of the function; there is no registry. `wf.authoring.module_probe` finds
marked
functions in modules, and `wf.authoring.signature` reads their annotations.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, overload

from wf.authoring.retry import Duration, Retry, seconds
from wf.authoring.source_location import location
from wf.errors import ConfigError
from wf.protocol import subjects
from wf.protocol.builtin_names import is_builtin, reserved

if TYPE_CHECKING:
    from wf.authoring.signature import Signature

MARK = "__wf_activity__"
Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Options:
    """What the decorator was given; None: not stated, so settings decide."""

    name: str
    timeout_s: float | None = None
    retry: Retry | None = None
    concurrency: int | None = None


@dataclass(frozen=True, slots=True)
class ActivityDefinition:
    """One activity, ready to be called."""

    name: str
    function: Callable[..., Any]
    is_async: bool
    options: Options
    signature: Signature
    doc: str
    path: str  # of the module that provides it
    line: int


@overload
def activity(function: Function, /) -> Function: ...
@overload
def activity(
    *,
    name: str | None = None,
    timeout: Duration | None = None,
    retry: Retry | None = None,
    concurrency: int | None = None,
) -> Callable[[Function], Function]: ...


def activity(
    function: Function | None = None,
    /,
    *,
    name: str | None = None,
    timeout: Duration | None = None,
    retry: Retry | None = None,
    concurrency: int | None = None,
) -> Function | Callable[[Function], Function]:
    """Mark a `def` or `async def` function as an activity; it stays callable as it is.

    `name`: the function's own name unless given. `timeout`: seconds or a text such as "30s".
    `retry`: holds when no `try` of the workflow governs the call. `concurrency`: how many calls
    one worker process serves at once. Settings in the activity's own table of pool.toml win.
    Raises ConfigError with file and line.
    """

    def mark(target: Function) -> Function:
        where = location(target)
        if not inspect.isfunction(target) or inspect.isasyncgenfunction(target):
            raise ConfigError([f"{where}: @activity goes on a def or async def function"])
        if inspect.isgeneratorfunction(target):
            raise ConfigError([f"{where}: an activity returns its output; it cannot yield"])
        options = _options(where, name or target.__name__, timeout, retry, concurrency)
        if options.name.startswith(subjects.RESERVED_PREFIX) and not is_builtin(target.__module__):
            raise ConfigError([reserved(f"{where}: activity {options.name!r}")])
        setattr(target, MARK, options)
        return target

    return mark if function is None else mark(function)


def _options(
    where: str,
    name: str,
    timeout: Duration | None,
    retry: Retry | None,
    concurrency: int | None,
) -> Options:
    problems = []
    timeout_s = None
    if not isinstance(name, str) or not subjects.is_name(name):
        problems.append(
            f"{where}: activity name {name!r} is not valid: use {subjects.NAME_RULE},"
            ' as in @activity(name="charge_card")'
        )
    if timeout is not None:
        try:
            timeout_s = seconds(timeout, "timeout")
        except ValueError as error:
            problems.append(f"{where}: {error}")
        if timeout_s == 0:
            problems.append(f"{where}: timeout must be above 0")
    if retry is not None and not isinstance(retry, Retry):
        problems.append(f"{where}: retry must be a wf.Retry, found {type(retry).__name__}")
    if concurrency is not None and (not isinstance(concurrency, int) or concurrency < 1):
        problems.append(f"{where}: concurrency must be an integer of 1 or more")
    if problems:
        raise ConfigError(problems)
    return Options(name=name, timeout_s=timeout_s, retry=retry, concurrency=concurrency)
