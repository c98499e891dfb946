"""Everything that can be wrong, checked before anything is started or changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from supervisor.policy.spec import ChildSpec, desired
from supervisor.reload.toml_file import refuse_half, settled
from wf.authoring.module_loading import module_name
from wf.authoring.module_probe import ModuleReport, probe
from wf.errors import ConfigError
from wf.settings import Settings, load
from wf.settings.pools import Pool, fingerprints, pools_for

IMPORT_S = 30.0  # of one module
IMPORTS_S = 60.0  # of all of them


@dataclass(frozen=True, slots=True)
class Configuration:
    """Settings, and what the activity modules provide; free of problems."""

    settings: Settings
    modules: tuple[ModuleReport, ...]
    pools: tuple[Pool, ...]
    text: bytes = b""  # of pool.toml

    def specs(self, counts: Mapping[str, int] | None = None) -> list[ChildSpec]:
        """Every place that is wanted. `counts`: pool → processes, where not as pool.toml says."""
        texts = {module.path: module.fingerprint for module in self.modules}
        return desired(self.settings, self.pools, texts | fingerprints(self.settings), counts)

    def stated_counts(self) -> dict[str, str]:
        """Pool → what pool.toml says of its processes, as text to compare."""
        return {pool.name: str(pool.settings.processes) for pool in self.pools}

    def broken(self) -> dict[str, str]:
        """Path of each module that cannot be imported → why."""
        return {module.path: module.error for module in self.modules if module.error}

    def files(self) -> tuple[str, ...]:
        """What the imports of the modules read, themselves included, below activities_dir."""
        return tuple(sorted({file for module in self.modules for file in module.files}))

    def late(self) -> list[str]:
        """Paths of the modules whose import was not done in time: they may be slow or hang."""
        return [module.path for module in self.modules if module.late]


# anew, given what is in force, and how many seconds the import of a module may take
Read = Callable[[Configuration, float], Configuration]


def read(
    path: Path,
    overrides: Mapping[str, object] | None = None,
    import_s: float = IMPORT_S,
    imports_s: float = IMPORTS_S,
) -> Configuration:
    """Load pool.toml and try every activity module, each in a process of its own, for `import_s`,
    and all of them for `imports_s` at most.

    Raises ConfigError with every problem. A module that cannot be imported is none: it stops only
    its own pool.
    """
    settings = load(path, overrides)
    if not settings.activities_dir.is_dir():
        raise ConfigError(
            [f"{path}: activities_dir: there is no directory {settings.activities_dir}: make it"]
        )
    text = path.read_bytes()
    modules = probe(settings.activities_dir, import_s, imports_s)
    found = [(name, module.path) for module in modules for name in module.activities]
    found += _presumed(settings, modules, {name for name, _ in found})
    return Configuration(settings, tuple(modules), tuple(pools_for(settings, found)), text)


def read_again(
    path: Path,
    overrides: Mapping[str, object] | None,
    before: Configuration,
    import_s: float = IMPORT_S,
) -> Configuration:
    """`read` for a reload, in a process that may wait: for files that are being replaced.

    Raises ConfigError as well for what looks like half of what was there `before`.
    """
    refuse_half(path, before.text, settled(path))
    new = read(path, overrides, import_s)
    if before.modules and not new.modules:
        raise ConfigError(
            [
                f"{new.settings.activities_dir}: there is no module any more, and there were"
                f" {len(before.modules)}: put them back, or restart the supervisor if that is meant"
            ]
        )
    return new


def _presumed(
    settings: Settings, modules: Sequence[ModuleReport], known: set[str]
) -> list[tuple[str, str]]:
    """Activities of modules that are too broken to name them.

    A table whose activity nobody provides is then taken to mean such a module (the one of the same
    name, else the first), so that a syntax error stops one pool and not the start of all.
    """
    nameless = [module.path for module in modules if module.error and not module.activities]
    if not nameless:
        return []
    wanted = [
        activity for name, pool in settings.pools.items() for activity in pool.activities or [name]
    ]
    return [
        (activity, next((path for path in nameless if module_name(path) == activity), nameless[0]))
        for activity in wanted
        if activity not in known
    ]
