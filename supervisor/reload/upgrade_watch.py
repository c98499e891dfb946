"""Notice that the installed framework was upgraded under a running supervisor.

The supervisor forks its children from what it has imported, so it goes on with the old code; only
what is imported after the fork would be new. That is for a restart to mend, when it suits.
"""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path

PACKAGES = ("wf", "orchestrator", "supervisor")
LOOK_S = 10.0
_INSTALLED = (sysconfig.get_path("purelib"), sysconfig.get_path("platlib"))

Stamps = dict[str, tuple[int, int] | None]


class Installed:
    """The files of the framework's modules as they were when this was made."""

    def __init__(self, files: Iterable[str] | None = None) -> None:
        """`files`: those to look at; all that are imported from the framework if None."""
        self._then: Stamps = {file: _stamp(file) for file in files or imported_files()}
        self._next_look_s = 0.0
        self._changed = False

    def changed(self, now: float) -> bool:
        """Whether any of them is another now. Looks again only every ten seconds."""
        if now >= self._next_look_s:
            self._next_look_s = now + LOOK_S
            self._changed = any(_stamp(file) != then for file, then in self._then.items())
        return self._changed


def imported_files() -> list[str]:
    """The source files of the framework, and of what it needs, that this process has imported."""
    files = {name: getattr(one, "__file__", None) for name, one in list(sys.modules.items())}
    return [
        file
        for name, file in files.items()
        if file and (name.partition(".")[0] in PACKAGES or file.startswith(_INSTALLED))
    ]


def _stamp(file: str) -> tuple[int, int] | None:
    try:
        status = Path(file).stat()
    except OSError:
        return None  # gone: an upgrade is under way, or the package was removed
    return status.st_mtime_ns, status.st_size
