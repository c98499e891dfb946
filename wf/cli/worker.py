"""`wf worker`: a client worker, which needs no supervisor and may run on another host."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from pathlib import Path

from wf.cli import exit_status
from wf.cli.arguments import UsageError
from wf.cli.session import Target
from wf.process.child import EXIT_BROKER, EXIT_CONFIG, Child
from wf.settings import Settings, find_config, load

_STATUS = {EXIT_CONFIG: exit_status.USAGE, EXIT_BROKER: exit_status.NO_BROKER}


def work(target: Target, files: Sequence[str], only: Sequence[str], concurrency: int | None) -> int:
    """Serve the activities of `files` (those named in `only`) until SIGTERM or Ctrl-C."""
    modules = tuple(str(_module(file)) for file in files)
    settings = _settings(target, concurrency)
    from wf.worker.main import run

    child = Child(
        name=f"client worker on {socket.gethostname()}",
        role="worker",
        pool=None,
        index=0,
        settings=settings,
        activities=tuple(only),
        modules=modules,
    )
    status = run(child)
    return _STATUS.get(status, status)


def _module(file: str) -> Path:
    path = Path(file).resolve()
    if not path.is_file():
        raise UsageError(f"--activities {file}: there is no such file")
    return path


def _settings(target: Target, concurrency: int | None) -> Settings:
    overrides: dict[str, object] = {"workers.concurrency": concurrency}
    if not target.servers:
        return load(find_config(target.config), overrides)
    direct = {"nats.embedded": False, "nats.servers": list(target.servers)}
    return load(None, {**overrides, **direct})
