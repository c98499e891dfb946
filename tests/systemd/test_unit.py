"""The unit in a real systemd 252. Run by `make test-systemd`; skipped where it cannot be had."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # tests are not packages

from nspawn import PREFIX, Machine, booted, until, why_not

UNIT = "wf-supervisor"
LIMIT_S = 30.0
STATE = "/var/lib/wf-supervisor"
READY = "2/2 workers ready"  # hello's worker, and that of the built-in pool wf-http

pytestmark = [
    pytest.mark.skipif(why_not() is not None, reason=why_not() or ""),
    pytest.mark.timeout(360),
]


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with booted(tmp_path_factory.mktemp("systemd")) as one:
        configure(one)
        yield one


@pytest.fixture
def started(machine: Machine) -> Iterator[Machine]:
    machine.run("systemctl", "reset-failed", UNIT, check=False)
    machine.run("systemctl", "start", UNIT)
    yield machine
    machine.run("systemctl", "stop", UNIT)
    configure(machine)


SLOW = """
import time
from wf import activity

@activity
def slow(seconds: float) -> str:
    time.sleep(seconds)
    return "slowly done"
"""

SLOW_FLOW = """
document: {dsl: 1.0.0, namespace: default, name: slow_flow, version: 1.0.0}
do:
  - only: {call: slow, with: {seconds: 4}}
"""


def configure(
    machine: Machine, processes: int = 1, extra: str = "", folder: str = "", port: int = 4222
) -> None:
    """The pool.toml that README.md tells to write. `folder`: of an instance, with a slash."""
    text = (
        'activities_dir = "activities"\nworkflows_dir = "workflows"\n'
        f'[supervisor]\nstate_dir = "{STATE}{folder}"\n'
        f'[nats]\nport = {port}\nstore_dir = "{STATE}{folder}/jetstream"\n'
        f"[workers]\nprocesses = {processes}\n{extra}"
    )
    (machine.tree / f"etc/wf-supervisor{folder}/pool.toml").write_text(text)
    machine.run("chown", "-R", "root:wf-supervisor", "/etc/wf-supervisor")
    machine.run("chmod", "-R", "u=rwX,g=rX,o=", "/etc/wf-supervisor")


def shown(machine: Machine) -> dict[str, str]:
    lines = machine.run("systemctl", "show", UNIT).stdout.splitlines()
    return dict(line.split("=", 1) for line in lines)


def pids(machine: Machine) -> set[str]:
    """Every process of the service's user."""
    listed = machine.run("sh", "-c", "stat -c '%U %n' /proc/[0-9]*", check=False).stdout
    owners = (line.split() for line in listed.splitlines())
    return {path for owner, path in owners if owner == UNIT}


def status_text(machine: Machine, wanted: str) -> None:
    until(lambda: wanted in shown(machine)["StatusText"], lambda: str(shown(machine)), LIMIT_S)


def test_the_service_is_active_when_the_pool_works(started: Machine) -> None:
    state = shown(started)
    assert (state["Type"], state["ActiveState"], state["SubState"]) == (
        "notify",
        "active",
        "running",
    )
    assert READY in state["StatusText"]
    done = started.run(
        f"/{PREFIX}/bin/wf",
        "start",
        "hello",
        "--config=/etc/wf-supervisor/pool.toml",
        '--input={"name": "world"}',
        "--wait",
    )
    assert "hello" in done.stdout.lower()


def test_a_reload_applies_the_new_configuration(started: Machine) -> None:
    before = shown(started)["MainPID"]
    configure(started, processes=2)
    started.run("systemctl", "reload", UNIT)
    status_text(started, "4/4 workers ready")
    assert shown(started)["MainPID"] == before


def test_a_refused_reload_is_told_and_changes_nothing(started: Machine) -> None:
    configure(started, extra="nonsense = 1\n")
    started.run("systemctl", "reload", UNIT)
    status_text(started, "reload refused")
    assert READY in shown(started)["StatusText"]
    configure(started)
    started.run("systemctl", "reload", UNIT)
    until(
        lambda: "reload refused" not in shown(started)["StatusText"],
        lambda: str(shown(started)),
        LIMIT_S,
    )


def test_stopping_is_clean_and_leaves_nothing(started: Machine) -> None:
    assert pids(started)
    started.run("systemctl", "stop", UNIT)
    state = shown(started)
    assert (state["ActiveState"], state["Result"]) == ("inactive", "success")
    assert state["ExecMainStatus"] == "0"
    assert not pids(started)


def test_a_killed_supervisor_is_started_again_over_a_clean_house(started: Machine) -> None:
    before, old = shown(started)["MainPID"], pids(started)
    started.run("sh", "-c", f"kill -KILL {before}")
    until(
        lambda: (
            shown(started)["MainPID"] not in ("0", before)
            and shown(started)["ActiveState"] == "active"
        ),
        lambda: str(shown(started)),
        LIMIT_S,
    )
    assert shown(started)["NRestarts"] == "1"
    assert not old & pids(started)
    status_text(started, READY)


def test_a_supervisor_that_does_not_answer_is_killed_by_the_watchdog_and_started_again(
    started: Machine,
) -> None:
    before = shown(started)["MainPID"]
    old = pids(started)
    started.run("sh", "-c", f"kill -STOP {before}")
    until(
        lambda: (
            shown(started)["MainPID"] not in ("0", before)
            and shown(started)["ActiveState"] == "active"
        ),
        lambda: str(shown(started)),
        60.0,
    )
    told = started.run("journalctl", "--no-pager", "-u", UNIT).stdout
    assert "Watchdog timeout" in told
    assert not old & pids(started)
    status_text(started, READY)


def wf(machine: Machine, *arguments: str) -> str:
    config = "--config=/etc/wf-supervisor/pool.toml"
    return machine.run(f"/{PREFIX}/bin/wf", *arguments, config).stdout


def test_stopping_waits_for_the_task_that_runs_and_loses_none(started: Machine) -> None:
    (started.tree / "etc/wf-supervisor/activities/slow.py").write_text(SLOW)
    (started.tree / "etc/wf-supervisor/workflows/slow.yaml").write_text(SLOW_FLOW)
    configure(started)
    started.run("systemctl", "reload", UNIT)
    status_text(started, "3/3 workers ready")
    until(lambda: "slow_flow" in wf(started, "definitions"), lambda: "not deployed", LIMIT_S)
    wf(started, "start", "slow_flow", "--id", "order-1", "--input", "{}")
    top = f"/{PREFIX}/bin/wf-supervisor"
    until(
        lambda: (
            "slow"
            in started.run(
                top, "--config=/etc/wf-supervisor/pool.toml", "explain", "slow #0"
            ).stdout.partition("It runs ")[2]
        ),
        lambda: "the task does not run",
        LIMIT_S,
    )
    started.run("systemctl", "stop", UNIT)
    state = shown(started)
    assert (state["Result"], state["ExecMainStatus"]) == ("success", "0")
    told = started.run("journalctl", "--no-pager", "-u", UNIT).stdout
    assert "process.killed" not in told
    started.run("systemctl", "start", UNIT)
    until(lambda: "slowly done" in wf(started, "show", "order-1"), lambda: "not completed", LIMIT_S)


def test_systemctl_status_tells_an_operator_how_it_goes(started: Machine) -> None:
    told = started.run("systemctl", "status", "--no-pager", UNIT).stdout
    assert re.search(r'Status: "running: \d/\d workers ready', told), told
    assert "wf-supervisor" in told
    assert re.search(r"hello #0", told) or "python" in told


def test_an_instance_runs_beside_the_single_service(started: Machine) -> None:
    folder = "/etc/wf-supervisor/shop"
    started.run(f"/{PREFIX}/bin/wf-supervisor", "init", folder)
    configure(started, folder="/shop", port=4322)
    name = f"{UNIT}@shop"
    try:
        started.run("systemctl", "start", name)
        lines = started.run("systemctl", "show", name).stdout.splitlines()
        state = dict(line.split("=", 1) for line in lines)
        assert state["ActiveState"] == "active"
        assert READY in state["StatusText"]
        assert shown(started)["ActiveState"] == "active"
    finally:
        started.run("systemctl", "stop", name)


def test_a_wrong_configuration_is_not_tried_again(machine: Machine) -> None:
    configure(machine, extra="nonsense = 1\n")
    try:
        assert machine.run("systemctl", "start", UNIT, check=False).returncode != 0
        state = shown(machine)
        assert (state["ActiveState"], state["ExecMainStatus"]) == ("failed", "78")
        assert state["NRestarts"] == "0"
        assert "nonsense" in machine.run("journalctl", "--no-pager", "-u", UNIT).stdout
    finally:
        configure(machine)


@pytest.mark.parametrize("unit", [UNIT, f"{UNIT}@shop"])
def test_the_sandbox_is_tight(machine: Machine, unit: str) -> None:
    told = machine.run("systemd-analyze", "security", "--no-pager", f"{unit}.service").stdout
    [exposure] = re.findall(r"Overall exposure level for \S+: ([\d.]+)", told)
    assert float(exposure) < 2.0, told
