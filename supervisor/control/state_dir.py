"""Where a running pool keeps its state, even when its pool.toml has been broken since it began."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path

from wf.errors import ConfigError
from wf.settings import SupervisorSettings, load

_DEFAULT = SupervisorSettings().state_dir
_VARIABLE = "WF_SUPERVISOR__STATE_DIR"


def state_dir_of(path: Path, environ: Mapping[str, str] = os.environ) -> tuple[Path, list[str]]:
    """(state_dir, problems of pool.toml). With problems the directory is only the likely one."""
    try:
        return load(path, environ=environ).supervisor.state_dir, []
    except ConfigError as error:
        stated = environ.get(_VARIABLE) or _written(path) or str(_DEFAULT)
        likely = os.path.abspath(path.parent / os.path.expanduser(stated))
        return Path(likely), error.problems


def _written(path: Path) -> str | None:
    """The value of the line `state_dir = …`; the other lines may be anything."""
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return None
    for line in lines:
        if line.partition("=")[0].strip() != "state_dir":
            continue
        try:
            value = tomllib.loads(line.strip())["state_dir"]
        except tomllib.TOMLDecodeError:
            continue
        if isinstance(value, str):
            return value
    return None
