"""Every way a command can end has its exit status and its sentence."""

import subprocess
import sys
import time

import pytest

from wf import errors
from wf.cli import exits
from wf.cli.main import main


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.BrokerError("away"), exits.NO_BROKER),
        (errors.ConfigError(["wrong key"]), exits.USAGE),
        (errors.NotEnded("not yet"), exits.NOT_ENDED),
        (errors.NotFound("none"), exits.FAILED),
        (errors.DefinitionConflict("differs"), exits.FAILED),
        (errors.WorkflowFaulted("broke", instance="a", error={}), exits.FAILED),
    ],
)
def test_each_error_has_its_exit_status(error, status):
    assert exits.status_of(error) == status


def test_only_a_completed_instance_is_a_success():
    assert exits.status_of_instance("completed") == 0
    assert exits.status_of_instance("faulted") == 1
    assert exits.status_of_instance("cancelled") == 1


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
    assert main(arguments) == exits.USAGE
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "rror" in printed.err
    assert "Traceback" not in printed.err


def test_an_unreachable_broker_is_status_3_soon_and_names_the_address(capsys):
    began = time.monotonic()
    status = main(["show", "order-1", "--server", "nats://127.0.0.1:1"])
    assert status == exits.NO_BROKER
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
