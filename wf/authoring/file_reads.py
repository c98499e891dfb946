"""Which files beside its modules an import reads: modules, packages and data."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path

from wf.authoring.module_loading import folder_of

_WRITING = os.O_WRONLY | os.O_RDWR


class Reads:
    """Made before the import, asked after it. For a process that is soon to end: what listens to
    Python's audit events cannot be taken away again."""

    def __init__(self, modules: Iterable[Path]) -> None:
        folders = {folder_of(path) for path in modules if path.suffix == ".py"}  # not built in
        self._roots = tuple(os.path.join(os.path.abspath(folder), "") for folder in folders)
        self._opened: set[str] = set()
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[object, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if isinstance(path, str) and isinstance(flags, int) and not flags & _WRITING:
                self._opened.add(path)

    def files(self) -> list[str]:
        """Sorted; bytecode is left out, for its source is there."""
        modules = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
        paths = {path for path in (*self._opened, *modules) if isinstance(path, str)}
        return sorted(path for path in map(os.path.abspath, paths) if self._counts(path))

    def _counts(self, path: str) -> bool:
        bytecode = f"{os.sep}__pycache__{os.sep}" in path
        return path.startswith(self._roots) and not bytecode and os.path.isfile(path)
