"""Every way a command can end has its exit status and its sentence."""

import os
import subprocess
import sys
import time

import orjson
import pytest

from wf import errors
from wf.cli import exit_status
from wf.cli.main import main


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.BrokerError("away"), exit_status.NO_BROKER),
        (errors.ConfigError(["wrong key"]), exit_status.USAGE),
        (errors.NotEnded("not yet"), exit_status.NOT_ENDED),
        (errors.NotFound("none"), exit_status.FAILED),
        (errors.DefinitionConflict("differs"), exit_status.FAILED),
        (errors.WorkflowFaulted("broke", instance="a", error={}), exit_status.FAILED),
    ],
)
def test_each_error_has_its_exit_status(error, status):
    assert exit_status.status_of(error) == status


def test_only_a_completed_instance_is_a_success():
    assert exit_status.status_of_instance("completed") == 0
    assert exit_status.status_of_instance("faulted") == 1
    assert exit_status.status_of_instance("cancelled") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["no-such-command"],
        ["start"],
        ["start", "order", "--input", "{not json"],
        ["start", "order", "--timeout", "5s"],
        ["start", "order", "--wait", "--timeout", "soon"],
        ["start", "bad name"],
        ["start", "order", "--id", "a.b"],
        ["show", "a.b"],
        ["history", "a b"],
        ["cancel", "a.b"],
        ["signal", "order-1", ""],
        ["list", "--status", "unhappy"],
        ["list", "--limit", "0"],
        ["show", "order-1", "--config", "/no/such/pool.toml"],
    ],
)
def test_a_wrong_command_line_is_status_2_with_a_sentence_on_stderr(arguments, capsys):
    assert main(arguments) == exit_status.USAGE
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "rror" in printed.err
    assert "Traceback" not in printed.err


def test_an_unreachable_broker_is_status_3_soon_and_names_the_address(capsys):
    began = time.monotonic()
    status = main(["show", "order-1", "--server", "nats://127.0.0.1:1"])
    assert status == exit_status.NO_BROKER
    assert time.monotonic() - began < 6
    message = capsys.readouterr().err
    assert message.startswith("error: ")
    assert "nats://127.0.0.1:1" in message


def test_help_loads_neither_nats_nor_rich():
    program = (
        "import sys; from wf.cli.main import main; status = main(['--help']); "
        "print([m for m in ('nats', 'rich', 'pydantic') if m in sys.modules], file=sys.stderr); "
        "sys.exit(status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stderr.strip() == "[]"
    assert "deploy" in done.stdout


def wf(shell: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """`wf …` in a shell, with its redirections."""
    return subprocess.run(
        ["bash", "-c", f"{sys.executable} -m wf.cli.main {shell}"],
        capture_output=True,
        timeout=30,
        check=False,
        env={**os.environ, **environment},
    )


@pytest.mark.parametrize(
    ("shell", "status", "said"),
    [
        ("--version > /dev/full", exit_status.NOT_PRINTED, b"does not take the result"),
        ("--version >&-", exit_status.NOT_PRINTED, b"does not take the result"),
        ("--version 2>&-", exit_status.OK, b""),
        ("--version 2> /dev/full", exit_status.OK, b""),
        ("--version > /dev/full 2> /dev/full", exit_status.NOT_PRINTED, b""),
        ("--help > /dev/full", exit_status.FAILED, b"No space left"),
        (
            "explain {file} --input 7 > /dev/full",
            exit_status.NOT_PRINTED,
            b"does not take the result",
        ),
        ("start x --input - <&-", exit_status.USAGE, b"standard input cannot be read"),
        (r"""start x --input $'"\xff"'""", exit_status.USAGE, b"not JSON"),
        (r"start $'\xff'", exit_status.USAGE, b"not a valid name"),
        (r"validate $'/no/such/\xff.yaml'", exit_status.FAILED, b"No such file"),
        ("validate /tmp", exit_status.FAILED, b"Is a directory"),
        ("--version | true", exit_status.OK, b""),
    ],
)
def test_what_the_shell_makes_of_the_streams_never_shows_a_traceback(shell, status, said, tmp_path):
    file = tmp_path / "named-ü.yaml"
    file.write_text(
        "document: {dsl: 1.0.0, namespace: default, name: echo, version: 1.0.0}\n"
        "do: [{a: {set: {said: 'ü → 🎉'}}}]\n"
    )
    done = wf(shell.replace("{file}", str(file)))
    assert b"Traceback" not in done.stderr, done.stderr.decode()
    assert said in done.stderr
    assert done.returncode == status, done.stderr.decode()


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_json_is_json_in_every_encoding_of_the_terminal(encoding, tmp_path):
    file = tmp_path / "echo.yaml"
    file.write_text(
        "document: {dsl: 1.0.0, namespace: default, name: echo, version: 1.0.0}\n"
        "do: [{a: {set: {said: 'ü → 🎉'}}}]\n",
        encoding="utf-8",
    )
    done = wf(f"explain {file} --json", PYTHONIOENCODING=encoding)
    assert done.returncode == 0, done.stderr.decode()
    assert orjson.loads(done.stdout)["output"] == {"said": "ü → 🎉"}
    shown = wf(f"explain {file}", PYTHONIOENCODING=encoding)
    assert shown.returncode == 0
    assert b"Traceback" not in shown.stderr


def test_a_defect_of_wf_is_a_sentence_with_a_status_of_its_own(monkeypatch, capsys):
    def broken(*arguments: object, **more: object) -> int:
        raise LookupError("half of a pair: \ud83d")

    monkeypatch.setattr("wf.cli.deploy.validate", broken)
    assert main(["validate", "x.yaml"]) == exit_status.DEFECT
    assert "LookupError" in capsys.readouterr().err
