"""Fixtures for every tier. `async def` tests run on a uvloop of their own.

- `runner`: the test's event loop (asyncio.Runner); what fixtures make lives on the same loop.
- `nats_server`: one real server per xdist worker, shared.
- `js`: a connection to it as orchestrator, all assets made and empty.
- `broker`: a server of the test's own, to be killed and started again.
"""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

from tests.support.server import RealServer, delete_streams
from wf.jetstream import topology
from wf.jetstream.client import JetStream

RUNNER = pytest.StashKey[asyncio.Runner]()


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> object:
    """Run an `async def` test on the loop that its fixtures used."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = pyfuncitem._fixtureinfo.argnames
    arguments: dict[str, Any] = {name: pyfuncitem.funcargs[name] for name in names}
    runner = pyfuncitem.stash.get(RUNNER, None)
    if runner is not None:
        runner.run(pyfuncitem.obj(**arguments))
    else:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as own:
            own.run(pyfuncitem.obj(**arguments))
    return True


@pytest.fixture(autouse=True)
def _own_modules(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Activity modules have plain names: a test's own must not stay for the next."""
    before, path = set(sys.modules), list(sys.path)
    yield
    sys.path[:] = path
    base = str(tmp_path_factory.getbasetemp())
    for name in sys.modules.keys() - before:
        if (getattr(sys.modules[name], "__file__", None) or "").startswith(base):
            del sys.modules[name]


@pytest.fixture
def runner(request: pytest.FixtureRequest) -> Iterator[asyncio.Runner]:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        request.node.stash[RUNNER] = runner
        yield runner


@pytest.fixture(scope="session")
def nats_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    server = RealServer(tmp_path_factory.mktemp("nats"))
    server.start()
    yield server
    server.kill9()


@pytest.fixture
def js(nats_server: RealServer, runner: asyncio.Runner) -> Iterator[JetStream]:
    async def start() -> JetStream:
        connected = await nats_server.connect()
        await delete_streams(connected)
        settings = nats_server.settings()
        await topology.ensure(connected, settings)
        # Sequences begin again with the streams: an earlier engine's notes of them are void.
        for leftover in settings.supervisor.state_dir.glob("orchestrator-*"):
            leftover.unlink()
        return connected

    connected = runner.run(start())
    yield connected
    runner.run(connected.close())


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[RealServer]:
    server = RealServer(tmp_path / "broker")
    server.start()
    yield server
    server.kill9()
