"""What `--check` tells: what would be started, and which modules and definitions are broken.

A running pool leaves those out and goes on; a check of a change has to fail for them.
"""

from __future__ import annotations

from pathlib import Path

from supervisor.reload.configuration import IMPORT_S, IMPORTS_S, Configuration
from supervisor.reload.file_watch import DEFINITIONS
from wf.authoring.module_probe import try_together
from wf.errors import DefinitionError
from wf.process.engine_functions import resolve


def check(configuration: Configuration) -> tuple[list[str], list[str]]:
    """(what would run, what is broken), a line each, for people. Asks an external broker."""
    titles, problems = _definitions(configuration.settings.workflows_dir)
    for path, error in configuration.broken().items():
        first, *rest = error.rstrip().splitlines()
        problems += [f"{path}: cannot be imported: its pool would not run: {first}", *rest]
    problems += _together(configuration)
    facts, wrong = _broker(configuration)
    problems += wrong
    verdict = "good" if not problems else "not good"
    lines = [f"{configuration.settings.path}: {verdict}", *_processes(configuration)]
    lines += [f"  broker        {fact}" for fact in facts]
    return lines + [f"  workflow      {title}" for title in titles], problems


def _together(configuration: Configuration) -> list[str]:
    """Modules that work alone, but not in one process, as their workers import them."""
    broken = configuration.broken()
    pools = [
        pool
        for pool in configuration.pools
        if len(pool.modules) > 1 and not any(path in broken for path in pool.modules)
    ]
    errors = try_together([pool.modules for pool in pools], IMPORT_S, IMPORTS_S)
    problems: list[str] = []
    for pool, error in zip(pools, errors, strict=True):
        if error is not None:
            names = ", ".join(Path(path).name for path in pool.modules)
            problems += [
                f"pool {pool.name}: {names} cannot be imported together, as its workers do:"
            ]
            problems += error.rstrip().splitlines()
    return problems


def _broker(configuration: Configuration) -> tuple[list[str], list[str]]:
    settings = configuration.settings
    if settings.nats.embedded:
        return [], []
    activities = {one for pool in configuration.pools for one in pool.activities}
    facts, problems = resolve("broker.inspect")(settings, len(activities))
    where = ", ".join(server.rpartition("@")[2] for server in settings.nats.servers)
    return facts, [one if where in one else f"broker {where}: {one}" for one in problems]


def _definitions(directory: Path) -> tuple[list[str], list[str]]:
    titles: list[str] = []
    problems: list[str] = []
    for path in sorted(path for pattern in DEFINITIONS for path in directory.glob(pattern)):
        try:
            definition = resolve("definition.parse")(path.read_text(encoding="utf-8"), str(path))
            titles.append(f"{definition.qualified} {definition.version}")
        except DefinitionError as error:
            problems += error.problems
        except (OSError, UnicodeDecodeError) as error:
            problems.append(f"{path}: cannot read it: {error}")
    return titles, problems


def _processes(configuration: Configuration) -> list[str]:
    settings = configuration.settings
    if settings.nats.embedded:
        lines = [f"  broker        embedded, port {settings.nats.port or 'any free one'}"]
    else:
        lines = [f"  broker        {', '.join(settings.nats.servers)}"]
    lines.append(f"  orchestrator  × {settings.orchestrator.processes}")
    for pool in configuration.pools:
        activities = ", ".join(pool.activities)
        lines.append(f"  worker        {pool.name} × {pool.settings.processes}: {activities}")
    return lines
