"""Which pools of workers there are: the tables of [workers], and one per activity without."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from wf.errors import ConfigError
from wf.settings.models import PoolSettings, Settings
from wf.settings.problems import suggestion
from wf.subjects import NAME_RULE, is_name


@dataclass(slots=True, frozen=True)
class Pool:
    """Worker processes that share activities and settings."""

    name: str
    activities: tuple[str, ...]  # sorted
    modules: tuple[str, ...]  # paths of the files that provide them, sorted
    settings: PoolSettings


def pools_for(settings: Settings, found: Iterable[tuple[str, str]]) -> list[Pool]:
    """Pools in the order of their tables, then a default pool per activity without a table.

    `found`: (activity, path of the module that provides it), duplicates included. Raises
    ConfigError with every problem: an activity that two modules provide, a table whose activity
    no module provides, an invalid name.
    """
    providers: dict[str, list[str]] = {}
    for activity, module in found:
        modules = providers.setdefault(activity, [])
        if module not in modules:
            modules.append(module)
    problems = _provider_problems(providers)
    pools: list[Pool] = []
    placed: set[str] = set()
    for name, pool in settings.pools.items():
        wanted = pool.activities or [name]
        for activity in wanted:
            if activity not in providers:
                problems.append(_missing(settings, name, activity, providers))
        placed.update(wanted)
        pools.append(_pool(name, wanted, providers, pool))
    for activity in sorted(providers.keys() - placed):
        if activity in settings.pools:
            problems.append(
                f"{settings.path}: workers.{activity}: this pool is for other activities, so"
                f" activity `{activity}` ({providers[activity][0]}) has none: add it to the pool's"
                f" activities, or rename the table"
            )
        pools.append(_pool(activity, [activity], providers, settings.worker_defaults))
    if problems:
        raise ConfigError(problems)
    return pools


def _pool(
    name: str, activities: list[str], providers: dict[str, list[str]], settings: PoolSettings
) -> Pool:
    modules = {module for activity in activities for module in providers.get(activity, [])}
    return Pool(name, tuple(sorted(activities)), tuple(sorted(modules)), settings)


def _provider_problems(providers: dict[str, list[str]]) -> list[str]:
    problems = []
    for activity, modules in sorted(providers.items()):
        if not is_name(activity):
            problems.append(
                f"{modules[0]}: {activity!r} is not a valid activity name: use {NAME_RULE}"
            )
        if len(modules) > 1:
            problems.append(
                f"activity `{activity}` is provided by {' and by '.join(sorted(modules))}: rename"
                f' one of them, @activity(name="…")'
            )
    return problems


def _missing(settings: Settings, name: str, activity: str, providers: dict[str, list[str]]) -> str:
    key = f"workers.{name}" + (".activities" if settings.pools[name].activities else "")
    what = ", ".join(f"{found} ({modules[0]})" for found, modules in sorted(providers.items()))
    return (
        f"{settings.path}: {key}: no module in {settings.activities_dir} provides activity"
        f" `{activity}`;{suggestion(activity, providers)} Found: {what or 'no activity at all'}"
    )
