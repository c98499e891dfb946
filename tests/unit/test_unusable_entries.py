"""What lies in the buckets and cannot be used is set aside once, and hides nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from orchestrator.definition.lookup import Unusable
from orchestrator.registry.activity_consumers import Catalog
from orchestrator.registry.definitions import Definitions
from tests.support.memory import MemoryBroker, MemoryPort, connect
from tests.support.server import make_settings
from wf.jetstream import topology
from wf.jetstream.port import Outgoing, Stored

GOOD = {
    "document": {"dsl": "1.0.3", "namespace": "default", "name": "good", "version": "1.0.0"},
    "do": [{"z": {"set": {"x": 1}}}],
}
BAD: dict[str, bytes] = {
    "nothing": b"",
    "bytes": b"\xff\xfe\x00garbage",
    "number": b"17",
    "list": b"[]",
    "deep": b"[" * 100_000,
    "other": orjson.dumps(GOOD),  # its document says that it is another
    "many": orjson.dumps({**GOOD, **{f"k{n}": n for n in range(60_000)}}),
    "lone": b'{"document": "\\ud83d"}',
}
KEYS = [f"default.{name}.1.0.0" for name in BAD] + ["x", "a.b", "a.b.", "default.n." + "9" * 5000]


async def broker(tmp_path: Path) -> MemoryPort:
    port = await connect(MemoryBroker())
    await topology.ensure(port, make_settings(tmp_path))
    return port


async def put(port: MemoryPort, bucket: str, key: str, data: bytes) -> None:
    await port.publish(f"KV_{bucket}", [Outgoing(f"$KV.{bucket}.{key}", data)])


async def letters(port: MemoryPort) -> list[Stored]:
    return await port.scan(topology.DEAD_LETTERS, "dead.message.>")


async def booted(port: MemoryPort) -> Definitions:
    definitions = Definitions(port)
    await definitions.entries.refresh()
    return definitions


async def test_definitions_that_cannot_be_used_are_set_aside_once(tmp_path: Path) -> None:
    port = await broker(tmp_path)
    bodies = [*BAD.values(), b"{}", b"{}", b"{}", orjson.dumps(GOOD)]
    for key, body in zip(KEYS, bodies, strict=True):
        await put(port, "WORKFLOW_DEFINITIONS", key, body)
    await put(port, "WORKFLOW_DEFINITIONS", "default.good.1.0.0", orjson.dumps(GOOD))
    for _ in range(3):
        definitions = await booted(port)
        assert definitions.get("default", "good", "1.0.0") is not None
        for name in BAD:
            for version in ("1.0.0", None):
                found = definitions.lookup("default", name, version)
                assert isinstance(found, Unusable), name
                assert found.reason
        assert len(await letters(port)) == len(KEYS)


async def test_what_replaces_an_unusable_definition_is_used(tmp_path: Path) -> None:
    port = await broker(tmp_path)
    await put(port, "WORKFLOW_DEFINITIONS", "default.good.1.0.0", b"17")
    definitions = await booted(port)
    assert isinstance(definitions.lookup("default", "good", "1.0.0"), Unusable)
    await port.purge("KV_WORKFLOW_DEFINITIONS")
    await put(port, "WORKFLOW_DEFINITIONS", "default.good.1.0.0", orjson.dumps(GOOD))
    await definitions.entries.refresh()
    assert definitions.lookup("default", "good", "1.0.0") is definitions.get(
        "default", "good", None
    )


@pytest.mark.parametrize(
    "entry",
    [
        b"",
        b"\xff",
        b"17",
        b"[]",
        b'{"v": 1}',
        b'{"v": 9}',
        b'{"v": 1, "consumer": {"ack_wait_s": 1e999}}',
    ],
)
async def test_announcements_that_cannot_be_used_are_set_aside_once(
    tmp_path: Path, entry: bytes
) -> None:
    port = await broker(tmp_path)
    await put(port, "ACTIVITY_CATALOG", "bad", entry)
    consumer: dict[str, Any] = {"ack_wait_s": 30.0, "max_deliver": 5, "max_ack_pending": 10}
    good = orjson.dumps({"v": 1, "consumer": consumer})
    await put(port, "ACTIVITY_CATALOG", "good", good)
    for _ in range(2):
        catalog = Catalog(port)
        await catalog.entries.refresh()
        assert list(catalog.activities) == ["good"]
        assert len(await letters(port)) == 1
