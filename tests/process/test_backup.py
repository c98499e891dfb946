"""A copy of the broker's store is a backup: a pool over it goes on (docs/operations.md)."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.support.pool import RealPool
from wf.client.blocking import BlockingClient

SLOW_GREETING = """
document: {dsl: 1.0.0, namespace: default, name: slow_greeting, version: 1.0.0}
do:
  - pause: {wait: {seconds: 3}}
  - greet: {call: hello, with: {name: "${ .name }"}}
"""


def made(root: Path) -> RealPool:
    from supervisor.scaffold import make_pool

    make_pool(root)
    (root / "workflows" / "slow_greeting.yaml").write_text(SLOW_GREETING)
    return RealPool(root / "pool.toml")


def copy_store(pool: RealPool, target: Path) -> None:
    shutil.copytree(pool.root / "state" / "jetstream", target / "state" / "jetstream")


def asked(pool: RealPool, what: str, *arguments: Any, **options: Any) -> Any:
    os.environ.update({"WF_NATS__PORT": pool.environment["WF_NATS__PORT"]})
    with BlockingClient(pool.config) as client:
        return getattr(client, what)(*arguments, **options)


@pytest.mark.parametrize("kind", ["stopped", "running"])
def test_instances_of_a_backup_go_on_in_another_pool(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WF_NATS__PORT", "0")
    first, second = made(tmp_path / "first"), made(tmp_path / "second")
    try:
        first.start()
        deployed(first)
        asked(first, "start", "hello", {"name": "Ada"}, id="done-1")
        assert asked(first, "wait", "done-1", timeout_s=20)
        asked(first, "start", "slow_greeting", {"name": "Grace"}, id="open-1")
        if kind == "running":
            broker = json.loads((first.root / "state" / "broker.json").read_text())["pid"]
            os.kill(broker, signal.SIGSTOP)
            try:
                copy_store(first, second.root)
            finally:
                os.kill(broker, signal.SIGCONT)
        else:
            assert first.stop() == 0
            copy_store(first, second.root)
        second.start()
        assert asked(second, "wait", "open-1", timeout_s=30).output == {"greeting": "Hello, Grace!"}
        assert asked(second, "get", "done-1").status == "completed"
        assert second.stop() == 0
        if kind == "running":
            assert asked(first, "wait", "open-1", timeout_s=30)  # the original goes on as well
            assert first.stop() == 0
    finally:
        first.clean_up()
        second.clean_up()


def deployed(pool: RealPool) -> None:
    def look() -> bool:
        return any("slow_greeting" in str(one) for one in asked(pool, "definitions"))

    pool.until(look, "the definition is deployed")
