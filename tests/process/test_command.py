"""`wf-supervisor`: --check, init, status, and what it says when it cannot start."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from pool_directory import PoolDirectory, command, replace, until


def embedded(pool: PoolDirectory) -> None:
    """With a broker of its own, that is, none that a check would ask."""
    old = 'embedded = false\nservers = ["nats://127.0.0.1:1"]'
    replace(pool.config, pool.config.read_text().replace(old, "port = 0"))


def test_check_says_what_would_be_started_and_starts_nothing(pool: PoolDirectory) -> None:
    pool.module("mail")
    pool.configure({"mail": 3})
    embedded(pool)
    checked = command("--config", pool.config, "--check")
    assert checked.returncode == 0
    assert "mail × 3" in checked.stdout
    assert not pool.state_dir.exists()


def test_settings_can_be_overridden_on_the_command_line(pool: PoolDirectory) -> None:
    pool.module("mail")
    pool.configure({"mail": 3})
    checked = command("--config", pool.config, "--check", "--set", "workers.mail.processes=5")
    assert "mail × 5" in checked.stdout
    wrong = command("--config", pool.config, "--check", "--set", "workers.mail.processes=x")
    assert wrong.returncode == 1
    assert "workers.mail.processes" in wrong.stderr
    assert "KEY=VALUE" in command("--config", pool.config, "--check", "--set", "port").stderr


def test_check_prints_every_problem(pool: PoolDirectory) -> None:
    pool.module("mail")
    pool.configure({"mail": 1}, extra='timeout = "soon"\nproceses = 3\n[nats2]\n')
    checked = command("--config", pool.config, "--check")
    assert checked.returncode == 1
    for word in ("timeout", "proceses", "nats2"):
        assert word in checked.stderr
    assert "Traceback" not in checked.stderr


def test_check_lists_what_was_found_for_a_table_without_a_module(pool: PoolDirectory) -> None:
    pool.module("mail")
    pool.configure({"nail": 1})
    checked = command("--config", pool.config, "--check")
    assert checked.returncode == 1
    assert "nail" in checked.stderr
    assert str(pool.root / "activities" / "mail.py") in checked.stderr


def test_check_fails_for_a_module_that_cannot_be_imported(pool: PoolDirectory) -> None:
    pool.module("mail")
    broken = pool.module("pdf", "import nonesuch\n")
    pool.configure({"mail": 1})
    checked = command("--config", pool.config, "--check")
    assert checked.returncode == 1
    assert "mail × 1" in checked.stdout
    assert f"{broken}: cannot be imported" in checked.stderr
    assert "No module named 'nonesuch'" in checked.stderr


def test_check_imports_the_modules_of_a_pool_together_as_its_workers_do(
    pool: PoolDirectory,
) -> None:
    claim = "import _names\n_names.claim('orders')\n"
    taken = "names = set()\ndef claim(n):\n    assert n not in names, 'taken'\n    names.add(n)\n"
    replace(pool.root / "activities" / "_names.py", taken)
    for name in ("count", "pay"):
        pool.module(name, claim + f"from wf import activity\n@activity\ndef {name}(): ...\n")
    pool.configure({}, '[workers.money]\nactivities = ["count", "pay"]\n')
    done = command("--config", pool.config, "--check")
    assert done.returncode == 1
    assert "pool money: count.py, pay.py cannot be imported together" in done.stderr
    assert "AssertionError: taken" in done.stderr


def test_check_fails_for_a_definition_that_would_be_refused(pool: PoolDirectory) -> None:
    pool.module("mail")
    pool.configure({"mail": 1})
    head = "document: {dsl: 1.0.3, namespace: default, name: good, version: 1.0.0}\n"
    good = pool.root / "workflows" / "good.yaml"
    good.write_text(head + "do:\n  - tell: {call: mail}\n")
    embedded(pool)
    checked = command("--config", pool.config, "--check")
    assert checked.returncode == 0, checked.stderr
    assert "workflow      good 1.0.0" in checked.stdout
    bad = pool.root / "workflows" / "bad.yaml"
    bad.write_text(head + "do:\n  - tell: {cal: mail}\n")
    checked = command("--config", pool.config, "--check")
    assert checked.returncode == 1
    assert f"{bad}:3:" in checked.stderr
    assert 'did you mean "call"' in checked.stderr


def test_a_bad_configuration_starts_nothing(pool: PoolDirectory) -> None:
    pool.configure({"mail": 1}, extra="colour = 3\n")
    refused = command("--config", pool.config)
    assert refused.returncode == 78
    assert "colour" in refused.stderr


def test_a_state_directory_that_cannot_be_written_is_named(pool: PoolDirectory) -> None:
    pool.module("mail")
    pool.configure({"mail": 1})
    pool.state_dir.write_text("a file where the directory should be")
    refused = command("--config", pool.config)
    assert refused.returncode == 78
    assert str(pool.state_dir) in refused.stderr
    assert "Traceback" not in refused.stderr


def test_status_without_a_supervisor_says_so(pool: PoolDirectory) -> None:
    pool.configure({})
    asked = command("--config", pool.config, "status")
    assert asked.returncode == 3
    assert "no wf-supervisor runs" in asked.stderr


def test_status_shows_processes_pools_and_broken_modules(pool: PoolDirectory) -> None:
    pool.module("mail")
    pool.module("pdf", "import nonesuch\nfrom wf import activity\n@activity\ndef pdf(): ...\n")
    pool.configure({"mail": 2, "pdf": 1})
    pool.start()
    until(lambda: len(pool.pids("mail")) == 2, "both workers are ready")
    shown = command("status", "--config", pool.config)
    assert shown.returncode == 4  # a pool cannot work
    assert "trouble: pool pdf: failed" in shown.stdout
    for text in ("worker mail #1", "2/2", "failed", "ModuleNotFoundError", "nats://127.0.0.1:1"):
        assert text in shown.stdout
    document = json.loads(command("--config", pool.config, "status", "--json").stdout)
    assert {p["pid"] for p in document["processes"] if p["pool"] == "mail"} == pool.pids("mail")


@pytest.mark.parametrize("broken", ["colour = 3\n", "[workers\n"])
def test_status_tells_of_a_pool_whose_settings_were_broken_later(
    pool: PoolDirectory, broken: str
) -> None:
    pool.module("mail")
    pool.configure({"mail": 1})
    pool.start()
    pool.configure({"mail": 1}, extra=broken)
    shown = command("status", "--config", pool.config)
    assert shown.returncode == 0, shown.stderr
    assert "worker mail #0" in shown.stdout
    assert str(pool.config) in shown.stderr + shown.stdout.partition("reload refused")[2]
    assert pool.stop() == 0
    assert command("status", "--config", pool.config).returncode == 1


def test_the_control_socket_is_for_its_owner_alone(pool: PoolDirectory) -> None:
    pool.module("mail")
    pool.configure({"mail": 1})
    pool.start()
    path = pool.state_dir / "control.sock"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert pool.stop() == 0
    assert not path.exists()


def test_init_makes_a_pool_that_checks_out_and_overwrites_nothing(tmp_path: Path) -> None:
    made = command("init", tmp_path / "mine")
    assert made.returncode == 0
    assert "--config" in made.stdout
    checked = command("--config", tmp_path / "mine" / "pool.toml", "--check")
    assert checked.returncode == 0, checked.stderr
    assert "hello × 2" in checked.stdout
    again = command("init", tmp_path / "mine")
    assert again.returncode == 1
    assert "exists already" in again.stderr


@pytest.mark.parametrize("arguments", [["--help"], ["status", "--help"], ["init", "--help"]])
def test_help_is_there(arguments: list[str]) -> None:
    shown = command(*arguments)
    assert shown.returncode == 0
    assert "Usage" in shown.stdout
