"""The real supervisor; what it forks dies of certain inputs: `python poisonous_pool.py pool.toml`.

A start whose input has `poison` ends the process that applies it, or encodes its state, in the way
that it names. Each end is noted in the file `ends` beside pool.toml: how, and whose child it was.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from orchestrator.engine import apply as applying
from orchestrator.state import commit as records
from supervisor.main import run

WAYS = {
    "exit": lambda: os._exit(9),
    "exit-well": lambda: os._exit(0),
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "fault": lambda: ctypes.string_at(0),
    "leave": lambda: sys.exit(3),
    "hang": lambda: time.sleep(3600),
}


def be_poisonous(beside: Path) -> None:
    advance, seal = applying.advance, records.seal

    def die(how: str) -> None:
        fd = os.open(beside / "ends", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(fd, f"{how} {os.getppid()}\n".encode())
        os.close(fd)
        WAYS[how]()

    def poisoned(definition: Any, before: Any, event: Any, *more: Any, **options: Any) -> Any:
        if event["kind"] == "start" and "poison" in (event.get("input") or ()):
            die(event["input"]["poison"])
        return advance(definition, before, event, *more, **options)

    def sealed(snapshot: Any, *more: Any, **options: Any) -> Any:
        if "poison-state" in (snapshot.get("input") or ()):
            die(snapshot["input"]["poison-state"])
        return seal(snapshot, *more, **options)

    applying.advance = poisoned
    records.seal = sealed


if __name__ == "__main__":
    be_poisonous(Path(sys.argv[1]).parent)
    sys.exit(run(Path(sys.argv[1])))
