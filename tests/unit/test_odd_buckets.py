"""`wf definitions`, `schedules` and `hosts` show what there is, whatever lies in the buckets."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import orjson
import pytest
from rich.console import Console, RenderableType

from orchestrator.main import now_ms
from orchestrator.registry.definitions import Definitions
from orchestrator.registry.schedules import Schedules
from tests.support.memory import MemoryBroker, MemoryPort, connect
from tests.support.server import make_settings
from tests.unit.test_cli_hosts import entry, pool
from wf.cli import hosts_view, json_documents, render
from wf.client import schedules
from wf.client.definitions import conflict_text, registered, version_key
from wf.jetstream import topology
from wf.jetstream.port import Outgoing
from wf.monitor.status import of_all_hosts

ODD = [
    b"",
    b"\xff\xfe garbage",
    b"17",
    b"null",
    b"[]",
    b"{}",
    b'{"v": 99}',
    b'{"v": 1}',
    b"[" * 5000,
    b'"' + b"x" * 100_000 + b'"',
    b'{"v": 1, "schedule": [], "due_ms": 1e300, "document": 3, "pools": 3}',
    b'{"v": 1, "schedule": "x", "due_ms": 99999999999999999, "pools": [1], "host": {}}',
    b'{"document": {"namespace": "default", "name": 5}, "schedule": {"on": 3}}',
]
GOOD = {
    "document": {"dsl": "1.0.3", "namespace": "default", "name": "good", "version": "1.0.0"},
    "schedule": {"every": {"hours": 1}},
    "do": [{"z": {"set": {"x": 1}}}],
}
NOW_MS = 1_700_000_000_000


async def broker(tmp_path: Path) -> MemoryPort:
    port = await connect(MemoryBroker())
    await topology.ensure(port, make_settings(tmp_path))
    return port


async def put(port: MemoryPort, stream: str, subject: str, data: bytes) -> None:
    await port.publish(stream, [Outgoing(subject, data)])


def shown(what: RenderableType) -> str:
    console = Console(width=300, file=io.StringIO(), highlight=False, markup=False)
    console.print(what)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


async def test_definitions_are_listed_with_what_is_none(tmp_path: Path) -> None:
    port = await broker(tmp_path)
    names = [f"default.odd{n}.1.0.0" for n in range(len(ODD))] + ["x", "a.b", "d.n." + "9" * 5000]
    for name, data in zip(names, [*ODD, b"{}", b"{}", b"{}"], strict=True):
        await put(port, "KV_WORKFLOW_DEFINITIONS", f"$KV.WORKFLOW_DEFINITIONS.{name}", data)
    good = "$KV.WORKFLOW_DEFINITIONS.default.good.1.0.0"
    await put(port, "KV_WORKFLOW_DEFINITIONS", good, orjson.dumps(GOOD))
    found = await registered(port)
    assert len(found) == len(names) + 1
    assert [one.name for one in found if not one.problem] == ["good"]
    assert schedules.triggered(found) == []
    assert shown(render.definitions_table(found, {})).count("unreadable: ") == len(names)
    assert all(json_documents.definition(one)["problem"] for one in found if one.name != "good")


async def test_schedules_are_listed_with_what_is_none_and_the_engine_mends_them(
    tmp_path: Path,
) -> None:
    port = await broker(tmp_path)
    good = "$KV.WORKFLOW_DEFINITIONS.default.good.1.0.0"
    await put(port, "KV_WORKFLOW_DEFINITIONS", good, orjson.dumps(GOOD))
    prefix = "workflow.timer.scheduled.start.default"
    for n, data in enumerate(ODD):
        await put(port, topology.WORKFLOW_TIMERS, f"{prefix}.odd{n}", data)
    await put(port, topology.WORKFLOW_TIMERS, f"{prefix}.good", b"garbage")
    found = await schedules.pending(port)
    assert len(found) == len(ODD) + 1
    assert shown(render.schedules_table(list(found.values()), NOW_MS)).count("unreadable: ") == (
        len(ODD) + 1
    )
    definitions = Definitions(port)
    await definitions.entries.refresh()
    await Schedules(port, definitions, now_ms).refresh()
    (left,) = (await schedules.pending(port)).values()
    assert (left.name, left.due_ms is not None) == ("good", True)


async def test_hosts_are_listed_with_what_is_none(tmp_path: Path) -> None:
    port = await broker(tmp_path)
    prefix = f"$KV.{topology.POOL_STATUS_BUCKET}."
    for n, data in enumerate(ODD):
        await put(port, topology.POOL_STATUS, f"{prefix}odd{n}", data)
    await put(port, topology.POOL_STATUS, f"{prefix}good", orjson.dumps(entry("h1", pool("a"))))
    found = await of_all_hosts(port)
    assert len(found) == len(ODD) + 1
    text = shown(hosts_view.view(found, NOW_MS))
    assert text.count("unreadable: ") == len(ODD)
    assert "h1" in text


@pytest.mark.parametrize("key", ["host", "pools", "backlog", "written_ms", "uptime_s", "state"])
@pytest.mark.parametrize("value", [None, {}, [[]], "x", 10**18])
def test_an_entry_of_a_wrong_shape_never_ends_the_view(key: str, value: Any) -> None:
    assert "h1" in shown(hosts_view.view([{**entry("h2"), key: value}, entry("h1")], NOW_MS))


def test_versions_of_any_length_can_be_sorted() -> None:
    assert sorted(["9" * 5000, "1.0.0", "x", "1.0.0-" + "9" * 5000], key=version_key)


async def test_a_definition_that_meets_garbage_is_a_conflict_in_words(tmp_path: Path) -> None:
    port = await broker(tmp_path)
    good = "$KV.WORKFLOW_DEFINITIONS.default.good.1.0.0"
    await put(port, "KV_WORKFLOW_DEFINITIONS", good, orjson.dumps(GOOD))
    (definition,) = await registered(port)
    for data in ODD:
        assert "is registered with another body" in conflict_text(definition, data)
    assert len(conflict_text(definition, orjson.dumps(list(range(200_000))))) < 1000
