"""A real pool whose activities note what they do, wait for each other, and kill their worker."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import orjson

from tests.support.pool import RealPool
from wf.client.blocking import BlockingClient
from wf.jetstream import topology

MODULE = """
import asyncio, ctypes, os, signal, time
from pathlib import Path
from wf import Context, activity

HERE = Path({here!r})

if (HERE / "deaf").exists():
    from wf.worker.puller import Puller

    async def pulls_nothing(self):
        (HERE / "deaf").unlink(missing_ok=True)  # only this one
        await asyncio.sleep(3600)

    Puller.run = pulls_nothing

def note(word, name, context):
    fd = os.open(HERE / "notes", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    line = f"{{word}} {{name}} {{context.attempt}} {{os.getpid()}} {{time.time()}}\\n"
    os.write(fd, line.encode())
    os.close(fd)

def there(name):
    return (HERE / name).exists()

@activity
async def job(name: str, how: str, context: Context) -> str:
    note("start", name, context)
    if how == "first-waits" and context.attempt == 1:
        await asyncio.sleep(3600)
    elif how == "waits":
        while not there(f"release-{{name}}"):
            await asyncio.sleep(0.005)
    elif how == "kills" or (how == "kills-in-company" and context.attempt == 1):
        while how == "kills-in-company" and not there("company"):
            await asyncio.sleep(0.005)
        os.kill(os.getpid(), signal.SIGKILL)
    elif how == "kills-always-after-company":
        while not there("company"):
            await asyncio.sleep(0.005)
        os.kill(os.getpid(), signal.SIGKILL)
    elif how == "exits":
        os._exit(3)
    elif how == "exits-well":
        os._exit(0)
    elif how == "faults":
        ctypes.string_at(0)
    elif how == "deaf":
        while not there(f"release-{{name}}"):
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                pass
    note("end", name, context)
    return name

@activity(timeout="1s")
async def brief(name: str, how: str, context: Context) -> str:
    note("start", name, context)
    if how == "blocks":
        time.sleep(3600)
    return name
"""

FLOW = """
document: {{dsl: 1.0.0, namespace: default, name: {name}, version: 1.0.0}}
do:
  - only: {{call: {activity}, with: {{name: "${{ .name }}", how: "${{ .how }}"}}}}
"""

CONFIG = """
activities_dir = "activities"
workflows_dir = "workflows"
[supervisor]
state_dir = "state"
log_format = "json"
grace = "2s"
[workers]
ack_wait = "60s"
max_ack_pending = 100
[workers.work]
activities = ["job", "brief"]
"""


@dataclass(frozen=True, slots=True)
class Note:
    """One line that an activity wrote."""

    word: str
    name: str
    attempt: int
    pid: int
    at: float


class MortalPool:
    """The pool, a client, and what the activities noted."""

    def __init__(self, root: Path, extra: str = "") -> None:
        self.root = root
        (root / "activities").mkdir()
        (root / "workflows").mkdir()
        (root / "activities" / "work.py").write_text(MODULE.format(here=str(root)))
        for name in ("job", "brief"):
            (root / "workflows" / f"{name}.yaml").write_text(FLOW.format(name=name, activity=name))
        (root / "pool.toml").write_text(CONFIG + extra)
        self.pool = RealPool(root / "pool.toml")
        self._client: BlockingClient | None = None

    @property
    def client(self) -> BlockingClient:
        if self._client is None:
            self._client = BlockingClient(self.root / "pool.toml")
        return self._client

    def start(self, name: str, how: str, workflow: str = "job") -> str:
        self.client.start(workflow, {"name": name, "how": how}, id=name)
        return name

    def notes(self, word: str = "", name: str = "") -> list[Note]:
        path = self.root / "notes"
        lines = path.read_text().splitlines() if path.exists() else []
        found = []
        for line in lines:
            kind, who, attempt, pid, at = line.split()
            if word in ("", kind) and name in ("", who):
                found.append(Note(kind, who, int(attempt), int(pid), float(at)))
        return found

    def until_started(self, name: str, attempt: int = 1) -> Note:
        def look() -> list[Note]:
            return [one for one in self.notes("start", name) if one.attempt == attempt]

        return cast(Note, self.pool.until(look, f"attempt {attempt} of {name} runs")[0])

    def until(self, look: Callable[[], Any], what: str) -> Any:
        return self.pool.until(look, what)

    def let(self, what: str) -> None:
        (self.root / what).touch()

    def logged(self, event: str) -> list[dict[str, Any]]:
        lines = self.pool.log.read_text(errors="replace").splitlines()
        parsed = [orjson.loads(line) for line in lines if line.startswith("{")]
        return [line for line in parsed if line["event"] == event]

    def letters(self) -> list[dict[str, Any]]:
        """The dead letters, subject included."""
        port = self.client._client.port
        found = self.client._run(port.scan(topology.DEAD_LETTERS, "dead.>"))
        return [{"subject": one.subject, **orjson.loads(one.data)} for one in found]

    def clean_up(self) -> None:
        if self._client is not None:
            self._client.close()
        self.pool.clean_up()
