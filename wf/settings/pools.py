"""Which pools of workers there are: the tables of [workers], and one per activity without."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from wf.errors import ConfigError
from wf.protocol.builtin_names import is_builtin, reserved
from wf.protocol.subjects import NAME_RULE, RESERVED_PREFIX, is_name
from wf.settings.models import (
    HttpSettings,
    PoolSettings,
    ScriptSettings,
    Settings,
    ShellSettings,
)
from wf.settings.problems import suggestion


@dataclass(slots=True, frozen=True)
class Builtin:
    """Activities that come with the program, and the pool that runs them."""

    name: str  # of the pool, and so of its table
    key: str  # of its settings in [builtin]
    activities: tuple[str, ...]
    module: str  # dotted, not a path

    def settings(self, settings: Settings) -> BuiltinKind:
        found: BuiltinKind = getattr(settings.builtin, self.key)
        return found


BuiltinKind = HttpSettings | ShellSettings | ScriptSettings

BUILTINS = (
    Builtin("wf-http", "http", ("wf-http", "wf-openapi"), "wf.builtin.http_calls"),
    Builtin("wf-shell", "shell", ("wf-shell",), "wf.builtin.programs.shell"),
    Builtin("wf-script", "script", ("wf-script",), "wf.builtin.programs.script"),
)


@dataclass(slots=True, frozen=True)
class Pool:
    """Worker processes that share activities and settings."""

    name: str
    activities: tuple[str, ...]  # sorted
    modules: tuple[str, ...]  # paths of the files that provide them, sorted
    settings: PoolSettings


def pools_for(settings: Settings, found: Iterable[tuple[str, str]]) -> list[Pool]:
    """Pools in the order of their tables, then a default pool per activity without a table.

    `found`: (activity, path of the module that provides it), duplicates included. The activities
    that are built in and enabled come with them, those of one kind in one pool. Raises ConfigError
    with every problem: an activity that two modules provide, a table whose activity no module
    provides, an invalid name.
    """
    own = [one for one in BUILTINS if one.settings(settings).enabled]
    providers: dict[str, list[str]] = {}
    for activity, module in [
        *found,
        *((name, one.module) for one in own for name in one.activities),
    ]:
        modules = providers.setdefault(activity, [])
        if module not in modules:
            modules.append(module)
    problems = _provider_problems(providers)
    pools: list[Pool] = []
    placed: set[str] = set()
    together = {one.name: list(one.activities) for one in own}
    for name, pool in settings.pools.items():
        wanted = pool.activities or together.get(name) or [name]
        for activity in wanted:
            if activity not in providers:
                problems.append(_missing(settings, name, activity, providers))
        placed.update(wanted)
        pools.append(_pool(name, wanted, providers, pool))
    rest = {activity: [activity] for activity in sorted(providers.keys() - placed)}
    for name, activities in together.items():
        left = [activity for activity in activities if rest.pop(activity, None)]
        if left:
            rest[name] = left
    for name, activities in rest.items():
        if name in settings.pools:
            problems.append(
                f"{settings.path}: workers.{name}: this pool is for other activities, so"
                f" activity `{activities[0]}` ({providers[activities[0]][0]}) has none: add it to"
                " the pool's activities, or rename the table"
            )
        pools.append(_pool(name, activities, providers, settings.worker_defaults))
    if problems:
        raise ConfigError(problems)
    return pools


def fingerprints(settings: Settings) -> dict[str, str]:
    """Module → what its workers must be replaced for, of the activities that are built in."""
    secrets = settings.secrets.model_dump_json()
    return {one.module: one.settings(settings).model_dump_json() + secrets for one in BUILTINS}


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
        elif activity.startswith(RESERVED_PREFIX):
            problems += [
                reserved(f"{module}: activity {activity!r}")
                for module in modules
                if not is_builtin(module)
            ]
        elif len(modules) > 1:
            problems.append(
                f"activity `{activity}` is provided by {' and by '.join(sorted(modules))}: rename"
                f' one of them, @activity(name="…")'
            )
    return problems


def _missing(settings: Settings, name: str, activity: str, providers: dict[str, list[str]]) -> str:
    for one in BUILTINS:
        if activity in one.activities:
            return (
                f"{settings.path}: workers.{name}: activity `{activity}` is built in and switched"
                f" off: say enabled = true in [builtin.{one.key}], or remove it here"
            )
    key = f"workers.{name}" + (".activities" if settings.pools[name].activities else "")
    what = ", ".join(f"{found} ({modules[0]})" for found, modules in sorted(providers.items()))
    return (
        f"{settings.path}: {key}: no module in {settings.activities_dir} provides activity"
        f" `{activity}`;{suggestion(activity, providers)} Found: {what or 'no activity at all'}"
    )
