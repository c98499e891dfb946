"""The port that the contract is about: on a real server, and in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.memory import MemoryBroker, MemoryPort, connect
from tests.support.server import make_settings
from wf.jetstream import topology
from wf.jetstream.port import Port


@pytest.fixture(params=["real", "memory"])
def port(request: pytest.FixtureRequest) -> Port:
    """Connected, all assets made and empty; no consumer of an activity yet."""
    return request.getfixturevalue({"real": "js", "memory": "memory"}[request.param])


@pytest.fixture
def memory(tmp_path: Path, runner: asyncio.Runner) -> Iterator[MemoryPort]:
    async def start() -> MemoryPort:
        port = await connect(MemoryBroker())
        await topology.ensure(port, make_settings(tmp_path))
        return port

    port = runner.run(start())
    yield port
    runner.run(port.close())
