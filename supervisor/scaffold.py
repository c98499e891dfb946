"""`wf-supervisor init DIR`: a new pool directory that works as it is."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from wf.errors import ConfigError

_FILES = {
    "pool.toml": "pool.toml",
    "hello.py": "activities/hello.py",
    "hello.yaml": "workflows/hello.yaml",
}


def make_pool(directory: Path) -> str:
    """Write the files; what to do next. Raises ConfigError rather than overwrite anything."""
    taken = [target for target in _FILES.values() if _holds_something(directory / target)]
    if taken:
        raise ConfigError(
            [f"{directory / target} exists already: choose another directory" for target in taken]
        )
    templates = files("supervisor") / "templates"
    try:
        for template, target in _FILES.items():
            path = directory / target
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes((templates / template).read_bytes())
    except OSError as error:
        raise ConfigError([f"cannot write {error.filename}: {error.strerror}"]) from error
    return _next_steps(directory)


def _holds_something(path: Path) -> bool:
    try:
        return path.stat().st_size > 0
    except (FileNotFoundError, NotADirectoryError):
        return False


def _next_steps(directory: Path) -> str:
    config = directory / "pool.toml"
    return f"""\
Made {config}, with one activity and one workflow. Next:

  wf-supervisor --config {config} --check
  wf-supervisor --config {config}

and in another terminal:

  wf start hello --config {config} --input '{{"name": "world"}}' --wait"""
