"""`wf deploy` and its relatives with the real parser and a real broker, inside one process."""

import asyncio

import orjson
import pytest

from tests.support.server import delete_streams
from wf.cli.main import main
from wf.client import schedules
from wf.jetstream import topology
from wf.jetstream.port import Outgoing

DEFINITION = """\
document:
  dsl: "1.0.0"
  namespace: default
  name: greet
  version: "{version}"
do:
  - hello:
      set:
        text: {text}
"""


@pytest.fixture
def pool(nats_server):
    """A broker with empty streams; nothing stays connected, so that `main` has its own loop."""

    async def prepare():
        js = await nats_server.connect()
        await delete_streams(js)
        await topology.ensure(js, nats_server.settings())
        await js.close()

    asyncio.run(prepare())
    return nats_server.url


@pytest.fixture
def write(tmp_path):
    def written(name, text="hello", version="1.0.0"):
        path = tmp_path / name
        path.write_text(DEFINITION.format(text=text, version=version))
        return str(path)

    return written


def test_a_definition_is_created_then_unchanged_then_in_conflict(pool, write, capsys):
    file = write("greet.yaml")
    assert main(["deploy", file, "--server", pool]) == 0
    assert capsys.readouterr().out == "created: greet 1.0.0\n"
    assert main(["deploy", file, "--server", pool]) == 0
    assert capsys.readouterr().out == "unchanged: greet 1.0.0\n"
    assert main(["deploy", write("greet.yaml", "goodbye"), "--server", pool]) == 1
    said = capsys.readouterr().err
    assert "hello" in said
    assert "goodbye" in said
    assert "document.version" in said


def test_nothing_is_deployed_when_one_of_the_files_is_invalid(pool, write, tmp_path, capsys):
    broken = tmp_path / "broken.yaml"
    broken.write_text("do: []\n")
    assert main(["deploy", write("greet.yaml"), str(broken), "--server", pool]) == 1
    said = capsys.readouterr().err
    assert "broken.yaml" in said
    assert "nothing was deployed" in said
    assert main(["definitions", "--json", "--server", pool]) == 0
    assert orjson.loads(capsys.readouterr().out) == []


def test_definitions_are_listed_as_json_and_as_a_table(pool, write, capsys):
    for version in ("1.10.0", "1.9.0"):
        assert main(["deploy", write(f"{version}.yaml", version=version), "--server", pool]) == 0
    capsys.readouterr()
    assert main(["definitions", "--json", "--server", pool]) == 0
    listed = orjson.loads(capsys.readouterr().out)
    assert [(d["name"], d["version"]) for d in listed] == [("greet", "1.9.0"), ("greet", "1.10.0")]
    assert main(["definitions", "--server", pool]) == 0
    assert "1.10.0" in capsys.readouterr().out


def test_validate_needs_no_broker_and_reports_every_file(write, tmp_path, capsys):
    missing = str(tmp_path / "missing.yaml")
    assert main(["validate", write("greet.yaml"), missing, "--json"]) == 1
    checked = orjson.loads(capsys.readouterr().out)
    assert [one["valid"] for one in checked] == [True, False]
    assert checked[0]["version"] == "1.0.0"


def test_a_broker_without_a_pool_is_said_at_once(broker, capsys):
    assert main(["list", "--server", broker.url]) == 3
    assert "no pool has made its streams" in capsys.readouterr().err


CALLS = """\
document: {dsl: "1.0.3", namespace: default, name: pay, version: "1.0.0"}
do:
  - a: {call: charge_crad}
  - b: {call: mail}
  - c: {call: charge_crad}
"""


@pytest.fixture
def announced(pool, nats_server):
    """charge_card has a worker; one for `gone` was taken back."""

    async def put():
        js = await nats_server.connect()
        for name, data in (("charge_card", b'{"v":1}'), ("mail", b"{}")):
            message = Outgoing(f"$KV.ACTIVITY_CATALOG.{name}", data)
            await js.publish(topology.ACTIVITY_CATALOG, [message])
        marker = Outgoing("$KV.ACTIVITY_CATALOG.mail", b"", headers={"KV-Operation": "DEL"})
        await js.publish(topology.ACTIVITY_CATALOG, [marker])
        await js.close()

    asyncio.run(put())
    return pool


def test_activities_that_no_worker_has_announced_are_warned_of(announced, tmp_path, capsys):
    file = tmp_path / "pay.yaml"
    file.write_text(CALLS)
    for command in (["validate", str(file), "--online"], ["deploy", str(file)]):
        assert main([*command, "--server", announced]) == 0
        first, second = capsys.readouterr().err.splitlines()
        assert first.startswith(f"warning: {file}:3:9: /do/0/a/call: no worker has announced")
        assert 'did you mean "charge_card"?' in first
        assert '"mail"' in second
    assert main(["validate", str(file), "--online", "--json", "--server", announced]) == 0
    (shape,) = orjson.loads(capsys.readouterr().out)
    assert (shape["valid"], len(shape["warnings"])) == (True, 2)


def test_problems_have_parts_for_programs(tmp_path, capsys):
    file = tmp_path / "pay.yaml"
    file.write_text(CALLS.replace("call: mail", "cal: mail"))
    assert main(["validate", str(file), "--json"]) == 1
    (shape,) = orjson.loads(capsys.readouterr().out)
    (part,) = shape["details"]
    assert (part["line"], part["column"], part["pointer"]) == (4, 9, "/do/1/b/cal")
    assert shape["problems"] == [f"{file}:4:9: /do/1/b/cal: {part['problem']}"]


def test_what_starts_by_itself_is_listed_with_its_next_time(pool, nats_server, capsys):
    assert main(["schedules", "--server", pool]) == 0
    assert "no workflow is waiting" in capsys.readouterr().err

    async def prepare():
        js = await nats_server.connect()
        await js.publish(
            topology.WORKFLOW_TIMERS,
            [schedules.message("default", "greet", "every 1d", 4_000_000_000_000)],
        )
        await js.close()

    asyncio.run(prepare())
    assert main(["schedules", "--server", pool]) == 0
    assert "2096-10-02" in capsys.readouterr().out
    assert main(["schedules", "--server", pool, "--json"]) == 0
    assert orjson.loads(capsys.readouterr().out) == [
        {
            "namespace": "default",
            "name": "greet",
            "schedule": "every 1d",
            "next_ms": 4_000_000_000_000,
        }
    ]
