"""Register the files of `workflows_dir`: at start and on reload (SIGHUP)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from loguru import logger

from orchestrator.definition import canonical_bytes, parse
from wf.client.activities import unannounced
from wf.client.definitions import RegisteredDefinition, register
from wf.errors import DefinitionConflict, DefinitionError, Problem
from wf.jetstream.port import Port

SUFFIXES = frozenset({".yaml", ".yml", ".json"})


@dataclass(slots=True)
class Deployment:
    """What became of a directory's files; `problems` holds one text per refused file, `calls` the
    activities that each registered one needs, with the warnings where they have no worker."""

    created: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    calls: list[tuple[str, Mapping[str, Problem]]] = field(default_factory=list)

    @property
    def titles(self) -> list[str]:
        """Those that are registered now."""
        return [*self.created, *self.unchanged]

    def warn(self, announced: Collection[str]) -> None:
        """Log a warning for every activity that is not among the `announced` ones."""
        for title, calls in self.calls:
            for warning in unannounced(calls, announced):
                log = logger.bind(definition=title, problem=str(warning))
                log.warning("definition.activity_unannounced")


async def deploy_directory(port: Port, directory: Path) -> Deployment:
    """Register every definition in `directory`. A bad file harms no other, and nothing that is
    registered already. Raises BrokerError when the broker does not answer."""
    deployment = Deployment()
    for path in _files(directory):
        try:
            await _deploy(port, path, deployment)
        except (DefinitionError, DefinitionConflict, OSError, UnicodeDecodeError) as error:
            deployment.problems.append(f"{path}: {error}")
            logger.bind(file=str(path), error=str(error)).error("definition.refused")
    return deployment


def _files(directory: Path) -> list[Path]:
    if not directory.is_dir():
        return []
    return sorted(
        path for path in directory.iterdir() if path.suffix in SUFFIXES and path.is_file()
    )


async def _deploy(port: Port, path: Path, deployment: Deployment) -> None:
    definition = parse(path.read_text(encoding="utf-8"), str(path))
    registered = RegisteredDefinition(
        definition.namespace, definition.name, definition.version, canonical_bytes(definition)
    )
    outcome = await register(port, registered)
    deployment.calls.append((registered.title, definition.calls))
    for warning in definition.warnings:
        logger.bind(definition=registered.title, problem=str(warning)).warning(
            "definition.doubtful"
        )
    if outcome == "created":
        deployment.created.append(registered.title)
        logger.bind(definition=registered.title, file=str(path)).info("definition.registered")
    else:
        deployment.unchanged.append(registered.title)
