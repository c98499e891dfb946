"""`wf-supervisor credentials`: what it writes, prints and refuses."""

from __future__ import annotations

import subprocess
from pathlib import Path

import orjson
import pytest
from typer.testing import CliRunner

from supervisor.main import app
from wf.jetstream.accounts import covers
from wf.jetstream.embedded import find_binary


def pool(tmp_path: Path, more: str = "") -> str:
    path = tmp_path / "pool.toml"
    path.write_text(f'[supervisor]\nstate_dir = "{tmp_path}/state"\n{more}')
    return str(path)


def run(*words: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["credentials", *words])
    return result.exit_code, result.stdout, result.stderr


def test_a_login_is_written_for_this_user_only_and_its_file_printed(tmp_path: Path) -> None:
    status, out, err = run("worker", "--activities", "mail,refund", "-c", pool(tmp_path))
    assert (status, "next start" in err) == (0, True)
    path = Path(out.strip())
    assert path.stat().st_mode & 0o777 == 0o600
    login = orjson.loads(path.read_bytes())
    assert (login["user"], login["activities"]) == ("worker-mail+refund", ["mail", "refund"])


@pytest.mark.parametrize("activities", ["no spaces", "a.b", "*", ">", "", ",", "x" * 65])
def test_what_names_no_activity_is_refused(tmp_path: Path, activities: str) -> None:
    status, out, err = run("worker", "--activities", activities, "-c", pool(tmp_path))
    assert (status, out) == (1, "")
    assert err
    assert not list(tmp_path.glob("state/credentials/*"))


def test_another_broker_is_not_ours_to_change(tmp_path: Path) -> None:
    config = pool(tmp_path, '[nats]\nembedded = false\nservers = ["nats://127.0.0.1:1"]\n')
    status, _, err = run("worker", "--activities", "mail", "-c", config)
    assert status == 1
    assert "credentials accounts" in err


def test_the_accounts_are_a_configuration_that_nats_server_takes(tmp_path: Path) -> None:
    status, out, _ = run("accounts")
    assert status == 0
    path = tmp_path / "nats.conf"
    path.write_text(f'jetstream {{ store_dir: "{tmp_path}" }}\n{out}')
    checked = subprocess.run(
        [str(find_binary()), "-t", "-c", str(path)], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize(
    ("wide", "narrow", "expected"),
    [
        ("a.*", "a.b", True),
        ("a.>", "a.b.c", True),
        ("a.>", "a", False),
        ("a.*", "a.b.c", False),
        ("a.b", "a.*", False),
        ("a.*", "a.*", True),
        ("a.*", "a.>", False),
        ("a.>", "a.>", True),
        ("a.*.c", "a.b.*", False),
        ("a", "b", False),
    ],
)
def test_which_subject_covers_another(wide: str, narrow: str, expected: bool) -> None:
    assert covers(wide, narrow) is expected
