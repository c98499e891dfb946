"""Notice that files changed: look once a second, and wait until they stop changing.

Polling rather than inotify: it also sees network file systems and editors that replace files, and
costs one stat per file.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from wf.authoring.module_loading import PACKAGE_FILE

DEFINITIONS = ("*.yaml", "*.yml", "*.json")
Stamp = tuple[int, int, int]  # mtime in ns, size, inode
Snapshot = dict[str, Stamp]


@dataclass(frozen=True, slots=True)
class Changes:
    """What kind of file changed. Paths are for the log."""

    configuration: tuple[str, ...] = ()  # pool.toml or activity modules: validate, then apply
    workflows: tuple[str, ...] = ()  # definitions: for the orchestrator to deploy

    def __bool__(self) -> bool:
        return bool(self.configuration or self.workflows)


class Watch:
    """Compares the files with how they were when last reported."""

    def __init__(
        self, config: Path, activities_dir: Path, workflows_dir: Path, read: Iterable[str] = ()
    ) -> None:
        """`read`: what modules read at their import, wherever it is."""
        self._read = [Path(file) for file in read]
        self._config = config
        self._activities_dir = activities_dir
        self._workflows_dir = workflows_dir
        self.accept()

    def accept(self) -> None:
        """The files as they are now are known; report only later changes."""
        self._known = self._look()
        self._last = self._known

    def paths(self) -> tuple[Path, Path, Path]:
        """What is watched."""
        return self._config, self._activities_dir, self._workflows_dir

    def follow(self, read: Iterable[str]) -> None:
        """Look at these files from here on; what changed among the others is still told."""
        before, self._read = self._read, [Path(file) for file in read]
        now, _ = self._look()
        for known in (self._known[0], self._last[0]):
            for path in map(str, before):
                if path not in now:
                    known.pop(path, None)
            for path in map(str, self._read):
                if path in now:
                    known.setdefault(path, now[path])

    def poll(self) -> Changes:
        """What changed since the last report, once two looks in a row agree on it."""
        now = self._look()
        settled = now == self._last
        self._last = now
        if not settled or now == self._known:
            return Changes()
        changed = [changed_paths(old, new) for old, new in zip(self._known, now, strict=True)]
        self._known = now
        return Changes(tuple(changed[0]), tuple(changed[1]))

    def _look(self) -> tuple[Snapshot, Snapshot]:
        modules = [self._config, *_glob(self._activities_dir, ["*.py", f"*/{PACKAGE_FILE}"])]
        modules += self._read
        return _stamps(modules), _stamps(_glob(self._workflows_dir, DEFINITIONS))


def changed_paths(old: Snapshot, new: Snapshot) -> list[str]:
    """Paths that are new, gone or different."""
    return sorted(path for path in old.keys() | new.keys() if old.get(path) != new.get(path))


def _glob(directory: Path, patterns: Iterable[str]) -> list[Path]:
    return [path for pattern in patterns for path in directory.glob(pattern)]


def _stamps(paths: Iterable[Path]) -> Snapshot:
    stamps: Snapshot = {}
    for path in paths:
        try:
            status = path.stat()
        except OSError:
            continue  # gone between listing and looking: the next look says so
        stamps[str(path)] = (status.st_mtime_ns, status.st_size, status.st_ino)
    return stamps
