"""Whether what the activities' modules imported from elsewhere has changed since: a package was
upgraded under a running worker, which goes on with the old code."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Collection, Iterable
from pathlib import Path

from loguru import logger

from wf.authoring.module_loading import folder_of
from wf.process.child import Child

LOOK_S = 10.0
Stamps = dict[str, tuple[int, int] | None]


class Imported:
    """The files of the modules that were imported after `before`, as they are now.

    Those below the folders of the `own` modules are left out: the supervisor follows them.
    """

    def __init__(self, before: Collection[str], own: Iterable[str]) -> None:
        folders = tuple(f"{folder_of(Path(path))}/" for path in own if path.endswith(".py"))
        self._packages = {
            file: name.partition(".")[0]
            for name, module in list(sys.modules.items())
            if name not in before
            and (file := getattr(module, "__file__", None)) is not None
            and not file.startswith(folders)
        }
        self._then: Stamps = {file: _stamp(file) for file in self._packages}

    def changed(self) -> list[str]:
        """The packages of which a file is another now, or gone."""
        files = (file for file, then in self._then.items() if _stamp(file) != then)
        return sorted({self._packages[file] for file in files})

    async def look(self, child: Child) -> None:
        """Tell the supervisor when something changes, without end."""
        told: list[str] = []
        while True:
            await asyncio.sleep(LOOK_S)
            changed = await asyncio.to_thread(self.changed)  # the files may be far away
            if changed != told:
                told = changed
                logger.bind(packages=changed).warning("worker.outdated")
                child.outdated(changed)


def _stamp(file: str) -> tuple[int, int] | None:
    try:
        status = Path(file).stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size
