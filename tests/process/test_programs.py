"""`run: shell` in the real pool: off by default, and nothing outlives its worker."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.pool import ROOT, RealPool, runs

WORKFLOW = """
document: {dsl: 1.0.3, namespace: default, name: sleeper, version: 1.0.0}
do:
  - sleep:
      run:
        shell:
          command: |
            sleep 600 & echo $! >> "$1.more"
            pwd >> "$1.where"; echo $$ >> "$1"
            while [ ! -e "$1.go" ]; do sleep 0.05; done; echo woken
          arguments: ["${ .note }"]
"""
ALLOWED = '[builtin.shell]\nenabled = true\ncommands = ["*"]\n[workers.wf-shell]\nack_wait = "1s"\n'


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[RealPool]:
    for name in ("activities", "workflows"):
        (tmp_path / name).mkdir()
    (tmp_path / "workflows" / "sleeper.yaml").write_text(WORKFLOW)
    (tmp_path / "pool.toml").write_text(ALLOWED)
    made = RealPool(tmp_path / "pool.toml")
    made.start()
    yield made
    made.clean_up()


def wf(pool: RealPool, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "wf.cli.main", *arguments],
        env=pool.environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_process_dies_with_its_worker_and_is_run_again(pool: RealPool, tmp_path: Path) -> None:
    note = tmp_path / "pids"

    def pids() -> list[int]:
        return [int(pid) for pid in note.read_text().split()] if note.exists() else []

    assert wf(pool, "start", "sleeper", "--id", "s", "--input", json.dumps({"note": str(note)}))
    (first,) = pool.until(pids, "the process has begun")
    (worker,) = pool.processes("worker", "wf-shell")
    os.kill(worker["pid"], signal.SIGKILL)
    [more] = [int(pid) for pid in note.with_name("pids.more").read_text().split()]
    where = Path(note.with_name("pids.where").read_text().strip())
    pool.until(lambda: not runs(first), "the process of the dead worker is gone")
    pool.until(lambda: not runs(more), "so is what it has started")
    pool.until(lambda: not where.exists(), "so is its directory")
    pool.until(lambda: len(pids()) == 2, "the process is run again")
    note.with_name("pids.go").touch()
    shown = wf(pool, "start", "sleeper", "--id", "s", "--wait", "--json")
    assert json.loads(shown.stdout)["output"] == "woken\n", shown
    started = [*pids(), *map(int, note.with_name("pids.more").read_text().split())]
    pool.until(lambda: not any(runs(pid) for pid in started), "nothing of it is left")


def test_without_leave_there_is_no_such_pool(pool: RealPool) -> None:
    assert pool.processes("worker", "wf-script") == []
    told = wf(pool, "validate", "--online", str(pool.root / "workflows" / "sleeper.yaml"))
    assert told.returncode == 0, told
