"""Two supervisors on one broker: each can be seen from everywhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support.pool import ROOT, RealPool
from tests.support.server import RealServer

MODULE = "from wf import activity\n\n@activity\ndef {name}(x: int) -> int:\n    return x\n"


def pool_of(root: Path, name: str, activity: str, url: str) -> RealPool:
    (root / "activities").mkdir(parents=True)
    (root / "workflows").mkdir()
    (root / "activities" / f"{activity}.py").write_text(MODULE.format(name=activity))
    (root / "pool.toml").write_text(
        'activities_dir = "activities"\nworkflows_dir = "workflows"\n'
        f'[supervisor]\nname = "{name}"\nstate_dir = "state"\n'
        f'[nats]\nembedded = false\nservers = ["{url}"]\n'
        "[builtin.http]\nenabled = false\n"
    )
    return RealPool(root / "pool.toml")


@pytest.fixture
def pools(tmp_path: Path) -> Iterator[tuple[RealPool, RealPool]]:
    with ExitStack() as stack:
        server = RealServer(tmp_path / "nats")
        stack.callback(server.stop)
        server.start()
        made = (
            pool_of(tmp_path / "one", "east", "mail", server.url),
            pool_of(tmp_path / "two", "west", "pdf", server.url),
        )
        for pool in made:
            stack.callback(pool.clean_up)
            pool.start()
        yield made
        for pool in made:
            assert pool.stop() == 0


def wf(pool: RealPool, *arguments: str) -> str:
    command = [sys.executable, "-m", "wf.cli.main", *arguments, f"--config={pool.config}"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_host_is_seen_from_any(pools: tuple[RealPool, RealPool]) -> None:
    for pool in pools:

        def both(pool: RealPool = pool) -> list[Any]:
            found = json.loads(wf(pool, "hosts", "--json"))
            names = [one["name"] for one in found if one["state"] == "running"]
            return found if names == ["east", "west"] else []

        found = pool.until(both, "both supervisors are told of", 30.0)
        assert [[p["name"] for p in one["pools"] if p["role"] == "worker"] for one in found] == [
            ["mail"],
            ["pdf"],
        ]
        shown = wf(pool, "hosts")
        assert all(word in shown for word in ("east", "west", "mail", "pdf", "1/1"))
