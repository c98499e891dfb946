"""Secrets: read anew for each call, from files or the environment, so that they may be changed.

`[secrets] dir`, then systemd's `$CREDENTIALS_DIRECTORY`, then the variable `WF_SECRET_<NAME>`.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import orjson

from wf.errors import NonRetryable
from wf.protocol import problem_details
from wf.protocol.subjects import is_name

MAX_BYTES = 1024 * 1024
VARIABLE = "WF_SECRET_"


class SecretUnusable(NonRetryable):
    """A secret is missing or not kept safely; says what to do."""

    def __init__(self, detail: str) -> None:
        super().__init__(
            detail, type=problem_details.AUTHORIZATION, title="Secret unusable", status=403
        )


def read_all(
    names: Iterable[str], directory: Path | None, environ: Mapping[str, str] = os.environ
) -> dict[str, Any]:
    """Name → value of each. Raises SecretUnusable."""
    return {name: read(name, directory, environ) for name in names}


def read(name: str, directory: Path | None, environ: Mapping[str, str] = os.environ) -> Any:
    """A text without its last line feed, or the object that a text of JSON holds."""
    if not is_name(name):
        raise SecretUnusable(f"{name!r} cannot name a secret")
    places = [directory] if directory is not None else []
    if given := environ.get("CREDENTIALS_DIRECTORY"):
        places.append(Path(given))
    for place in places:
        path = place / name
        try:
            return _parsed(_content(path))
        except FileNotFoundError:
            continue
        except (OSError, UnicodeDecodeError) as error:
            raise SecretUnusable(
                f"the secret {name} cannot be read from {path}: {_why(error)}"
            ) from None
    variable = VARIABLE + name.upper().replace("-", "_")
    if variable in environ:
        return _parsed(environ[variable])
    listed = [f"the file {place / name}" for place in places] or ["[secrets] dir in pool.toml"]
    raise SecretUnusable(
        f"the secret {name} is not there: provide {', or '.join(listed)}, or the environment"
        f" variable {variable} of the supervisor"
    )


def _content(path: Path) -> str:
    with path.open("rb") as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        if mode & 0o027:
            raise SecretUnusable(
                f"{path} may be read by everyone or written by its group (mode {mode:04o}):"
                " chmod 600"
            )
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise SecretUnusable(f"{path} is larger than {MAX_BYTES:,} bytes")
    return content.decode("utf-8")


def _parsed(text: str) -> Any:
    text = text.rstrip("\r\n")
    if text.startswith("{"):
        try:
            return orjson.loads(text)
        except orjson.JSONDecodeError:
            return text  # a text that only looks like JSON
    return text


def _why(error: Exception) -> str:
    # never the content
    return (error.strerror or "") if isinstance(error, OSError) else "it is not UTF-8 text"
