"""`run: shell` and `run: script`: real processes, with all that may happen to them."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.pool import runs
from tests.support.server import make_settings
from tests.support.waiting import eventually
from wf.authoring.context import Context
from wf.builtin.common import settings as configuration
from wf.builtin.programs.script import script
from wf.builtin.programs.shell import shell
from wf.errors import ActivityError, NonRetryable
from wf.protocol import problem_details
from wf.settings.models import BuiltinSettings, ScriptSettings, ShellSettings


def allow(tmp_path: Path, *commands: str, **script_settings: Any) -> None:
    builtin = BuiltinSettings(
        shell=ShellSettings(enabled=True, commands=commands, max_output=4096),
        script=ScriptSettings(enabled=True, max_output=4096, **script_settings),
    )
    settings = make_settings(tmp_path).model_copy(update={"builtin": builtin})
    configuration.use(settings)


async def sh(command: str, **request: Any) -> Any:
    return await shell({"command": command, "return": "stdout", **request}, Context())


async def python(code: str, **request: Any) -> Any:
    return await script(
        {"language": "python", "code": code, "return": "stdout", **request}, Context()
    )


@pytest.fixture(autouse=True)
def all_allowed(tmp_path: Path) -> None:
    allow(tmp_path, "*", python=sys.executable)


async def test_what_it_returns() -> None:
    line = "echo out; echo err >&2; exit 3"
    everything = {"code": 3, "stdout": "out\n", "stderr": "err\n"}
    assert await sh(line, **{"return": "all"}) == everything
    assert await sh(line, **{"return": "code"}) == 3
    assert await sh("echo out; echo err >&2", **{"return": "stderr"}) == "err\n"
    assert await sh("echo out", **{"return": "none"}) is None
    assert await sh("echo out") == "out\n"


async def test_a_failure_has_the_real_status_and_what_was_said() -> None:
    with pytest.raises(ActivityError) as raised:
        await sh("echo why >&2; exit 3")
    assert (raised.value.type, raised.value.title) == (problem_details.RUNTIME, "Exit status 3")
    assert "why" in raised.value.detail
    with pytest.raises(ActivityError, match="signal 9"):
        await sh("kill -9 $$")


async def test_it_gets_arguments_stdin_and_environment() -> None:
    given = {"arguments": ["a b", 2], "stdin": "in", "environment": {"NAME": "Ann"}}
    found = await sh('printf "%s|" "$1" "$2" "$NAME"; cat', **given)
    assert found == "a b|2|Ann|in"
    assert await sh("cat", stdin={"a": 1}) == '{"a":1}'
    assert await sh("true", stdin="x" * 1_000_000) == ""


async def test_its_environment_is_bare(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WF_SECRET_SHOP", "hush")
    found = await sh("env")
    assert "hush" not in found
    assert {line.partition("=")[0] for line in found.splitlines()} <= {
        "PATH", "HOME", "TMPDIR", "LANG", "PWD", "WF_IDEMPOTENCY_KEY", "SHLVL", "_", "OLDPWD",
    }  # fmt: skip


async def test_its_directory_is_its_own_and_goes_with_it() -> None:
    directory = (await sh("touch x; pwd")).strip()
    assert not Path(directory).exists()


async def test_only_what_is_allowed_runs(tmp_path: Path) -> None:
    allow(tmp_path, "/bin/echo")
    assert await sh("echo 'a b'", arguments=["$HOME"]) == "a b $HOME\n"
    for command in ("cat /etc/passwd", "echo a; cat /etc/passwd", "/bin/../bin/cat"):
        with pytest.raises(NonRetryable) as raised:
            await sh(command)
        assert raised.value.type == problem_details.CONFIGURATION
    with pytest.raises(NonRetryable, match="LD_PRELOAD"):
        await sh("echo a", environment={"LD_PRELOAD": "/tmp/x.so"})
    allow(tmp_path, "/nowhere/tool")
    with pytest.raises(NonRetryable, match="is not there"):
        await sh("tool")


async def test_a_script_in_the_language_that_is_allowed(tmp_path: Path) -> None:
    code = "import sys; print(sys.argv[1:], sys.stdin.read())"
    assert await python(code, arguments=["a", 1], stdin="in") == "['a', '1'] in\n"
    long = "x = 0\n" + "x += 1\n" * 50_000 + "print(x)\n"
    assert await python(long) == "50000\n"
    with pytest.raises(ActivityError, match="ZeroDivisionError"):
        await python("1 / 0")
    with pytest.raises(NonRetryable, match=r"\[builtin.script\] js"):
        await script({"language": "js", "code": "1", "return": "stdout"}, Context())


async def test_too_much_output_ends_it() -> None:
    with pytest.raises(NonRetryable, match="max_output"):
        await sh("yes")
    with pytest.raises(NonRetryable, match="base64"):
        await sh(r"printf '\377'")


async def test_a_timeout_kills_it_with_all_that_it_started(tmp_path: Path) -> None:
    note = tmp_path / "pids"
    line = f"sleep 60 & echo $! $$ > {note}; wait"
    task = asyncio.create_task(sh(line))

    async def noted() -> list[str]:
        return note.read_text().split() if note.exists() else []

    pids = [int(pid) for pid in await eventually(noted)]
    assert len(pids) == 2
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    async def gone() -> bool:
        return not any(runs(pid) for pid in pids)

    await eventually(gone)


async def test_what_it_left_running_is_ended(tmp_path: Path) -> None:
    found = await sh("sleep 60 > /dev/null 2>&1 & echo $!")

    async def gone() -> bool:
        return not runs(int(found))

    await eventually(gone)


async def test_secrets_do_not_come_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WF_SECRET_SHOP", "hush-hush")
    deferred = {"secrets": ["shop"], "expressions": {"/stdin": "$secrets.shop"}}
    request = {"command": "cat", "stdin": None, "return": "stdout"}
    assert await shell(request, Context(), deferred) == "***"
    assert os.environ["WF_SECRET_SHOP"] == "hush-hush"
