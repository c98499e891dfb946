"""What the README promises of a new pool, with the real commands and the embedded broker."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.pool import ROOT, RealPool

MINE = """
import time
from wf import activity

@activity
async def mine(name: str) -> str:
    return f"mine, {name}"

@activity
def slowly(name: str) -> str:
    time.sleep(0.3)
    return f"slowly, {name}"
"""

MY_FLOW = """
document: {dsl: 1.0.0, namespace: default, name: my_flow, version: 1.0.0}
do:
  - first: {call: mine, with: {name: "${ .name }"}}
  - second: {call: slowly, with: {name: "${ . }"}}
"""


@pytest.fixture
def story(tmp_path: Path) -> Iterator[RealPool]:
    """A pool that `wf-supervisor init` made, running."""
    made = command("supervisor.main", "init", str(tmp_path / "pool"))
    assert made.returncode == 0, made.stderr
    pool = RealPool(tmp_path / "pool" / "pool.toml")
    try:
        pool.start()
        yield pool
        assert pool.stop() == 0
    finally:
        pool.clean_up()


def command(module: str, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=ROOT,
        **options,
    )


def wf(pool: RealPool, *arguments: str) -> Any:
    """One `wf` command, as JSON."""
    done = command("wf.cli.main", *arguments, "--json", env=pool.environment)
    assert done.returncode == 0, f"{done.stderr}\n{pool.tail()}"
    return json.loads(done.stdout)


def start(pool: RealPool, workflow: str, name: str, *arguments: str) -> Any:
    input_ = json.dumps({"name": name})
    return wf(pool, "start", workflow, "--input", input_, *arguments)


def shown_processes(pool: RealPool, name: str) -> list[str]:
    """The pool's processes that are ready, as `wf-supervisor status` tells."""
    done = command(
        "supervisor.main", "--config", str(pool.config), "status", "--json", env=pool.environment
    )
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)["processes"]
    return [one["name"] for one in shown if one["pool"] == name and one["state"] == "ready"]


def edit(pool: RealPool, old: str, new: str) -> None:
    """As an editor does: the new file takes the old one's place."""
    text = pool.config.read_text()
    assert old in text
    draft = pool.config.with_name(".pool.toml.draft")
    draft.write_text(text.replace(old, new))
    draft.replace(pool.config)


def test_a_new_pool_runs_its_first_workflow(story: RealPool) -> None:
    done = start(story, "hello", "Ada", "--wait")
    assert (done["status"], done["output"]) == ("completed", {"greeting": "Hello, Ada!"})
    assert shown_processes(story, "hello") == ["worker hello #0", "worker hello #1"]


def test_a_dropped_module_and_a_definition_that_calls_it_work_without_a_restart(
    story: RealPool,
) -> None:
    supervisor = story.pid
    (story.root / "activities" / "mine.py").write_text(MINE)
    (story.root / "workflows" / "my_flow.yaml").write_text(MY_FLOW)
    story.until(
        lambda: any(one["name"] == "my_flow" for one in wf(story, "definitions")),
        "the definition is deployed",
    )
    done = start(story, "my_flow", "Ada", "--wait")
    assert (done["status"], done["output"]) == ("completed", "slowly, mine, Ada")
    assert story.status()["pid"] == supervisor
    assert "module.broken" not in story.log.read_text()
    assert story.processes("worker", "mine")
    assert [one["restarts"] for one in story.processes("orchestrator")] == [0]


def test_an_edited_process_count_is_followed_without_a_signal(story: RealPool) -> None:
    before = {one["pid"] for one in story.processes("worker", "hello")}
    edit(story, "[workers.hello]\nprocesses = 2", "[workers.hello]\nprocesses = 4")
    story.until(lambda: len(story.processes("worker", "hello")) == 4, "there are four workers")
    assert len(shown_processes(story, "hello")) == 4
    assert before < {one["pid"] for one in story.processes("worker", "hello")}
    assert start(story, "hello", "Ada", "--wait")["status"] == "completed"


def test_an_edited_process_count_is_followed_on_hup(story: RealPool) -> None:
    edit(story, "[workers.hello]\nprocesses = 2", "[workers.hello]\nprocesses = 4")
    os.kill(story.pid, signal.SIGHUP)
    story.until(lambda: len(story.processes("worker", "hello")) == 4, "there are four workers")
    edit(story, "[workers.hello]\nprocesses = 4", "[workers.hello]\nprocesses = 1")
    os.kill(story.pid, signal.SIGHUP)
    story.until(lambda: len(story.processes("worker", "hello")) == 1, "one is left")
    assert start(story, "hello", "Ada", "--wait")["status"] == "completed"


@pytest.mark.parametrize("role", ["orchestrator", "broker", "worker", "supervisor"])
def test_killing_any_process_does_not_keep_a_workflow_from_completing(
    story: RealPool, role: str
) -> None:
    # What a killed worker held comes again after its lease; nobody wants to wait for 30 s here.
    edit(story, "[workers]", '[workers]\nack_wait = "1s"')
    (story.root / "activities" / "mine.py").write_text(MINE)
    (story.root / "workflows" / "my_flow.yaml").write_text(MY_FLOW)
    story.until(lambda: story.processes("worker", "slowly"), "the new worker is ready")
    story.until(lambda: story.status()["state"] == "running", "the reload is through")
    started = start(story, "my_flow", "Ada")
    if role == "supervisor":
        orphans = story.kill9()
        story.start()
        orphans.gone_s()
    else:
        pool = "slowly" if role == "worker" else None
        [victim] = story.until(lambda: story.processes(role, pool), f"a {role}")
        os.kill(victim["pid"], signal.SIGKILL)

    def ended() -> Any:
        shown = command("wf.cli.main", "show", started["id"], "--json", env=story.environment)
        if shown.returncode != 0:  # the broker is on its way back
            return None
        snapshot = json.loads(shown.stdout)
        return snapshot if snapshot["status"] == "completed" else None

    assert story.until(ended, "the workflow has completed")["output"] == "slowly, mine, Ada"
