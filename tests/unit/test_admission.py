"""Who is told of a place, on a broker in memory: what is at hand may be behind what is stored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from orchestrator.concurrency import admission
from orchestrator.concurrency.admission import Admission
from orchestrator.definition import canonical_bytes, parse
from orchestrator.dispatch.effects import leave_place
from orchestrator.registry.definitions import Definitions
from tests.support.machine import HEADER
from tests.support.memory import MemoryBroker, MemoryPort, connect
from tests.support.port_cases import take
from tests.support.server import make_settings
from wf.errors import BrokerError
from wf.jetstream import topology
from wf.jetstream.port import Accepted, Delivery, Outgoing, Rejected, Stored
from wf.protocol import subjects

ROW = "default.flow.all"


def key(instance: str, turn: int = 1) -> str:
    return f"{ROW}.{instance}.{turn}"


async def broker(tmp_path: Path) -> MemoryPort:
    port = await connect(MemoryBroker())
    await topology.ensure(port, make_settings(tmp_path))
    return port


async def deploy(port: MemoryPort, version: str, limit: int | None) -> None:
    metadata = {} if limit is None else {"metadata": {"wf": {"concurrency": limit}}}
    document = {**HEADER, "version": version, **metadata}
    definition = parse({"document": document, "do": [{"only": {"set": {"n": 1}}}]})
    subject = subjects.definition("default", "flow", version)
    data = canonical_bytes(definition)
    await port.publish(topology.WORKFLOW_DEFINITIONS, [Outgoing(subject, data)])


async def ask(port: MemoryPort, *keys: str) -> list[Any]:
    entries = [Outgoing(subjects.place(one), b'{"v":1}', expected=0) for one in keys]
    return await port.publish(topology.WORKFLOW_PLACES, entries)


async def leave(port: MemoryPort, one: str) -> None:
    await port.publish(topology.WORKFLOW_PLACES, [leave_place(one)])


async def changes(port: MemoryPort, count: int) -> list[Delivery]:
    pull = await port.pull(topology.WORKFLOW_PLACES, topology.ADMISSION, window=100)
    taken = await take(pull, count)
    await pull.stop()
    return taken


async def told(port: MemoryPort) -> list[str]:
    stored = await port.scan(topology.WORKFLOW_EVENTS, "workflow.engine.place.>")
    return [orjson.loads(one.data)["entry"] for one in stored]


async def state(port: MemoryPort, instance: str, status: str, turn: int = 1) -> None:
    names = {"workflow": "flow", "namespace": "default", "version": "1.0.0"}
    tables: dict[str, dict[str, int]] = {"frames": {}, "runs": {}, "timers": {}}
    commit = {"number": 1, "token": "t", "events": []}
    whole = {"id": instance, "status": status, **names, **tables, "commit": commit}
    data = orjson.dumps({**whole, "slot": {"turn": turn}})
    await port.publish(topology.WORKFLOW_STATES, [Outgoing(subjects.state(instance), data)])


async def test_the_first_are_told_and_who_leaves_makes_room(tmp_path: Path) -> None:
    port = await broker(tmp_path)
    await deploy(port, "1.0.0", 1)
    one = Admission(port, Definitions(port), batch=10)
    await ask(port, key("a"), key("b"))
    taken = await changes(port, 2)
    await one._admit(taken)
    await one._admit(taken)
    assert await told(port) == [key("a")]
    await leave(port, key("a"))
    await one._admit(await changes(port, 1))
    assert await told(port) == [key("a"), key("b")]


async def test_an_entry_is_stored_once_and_never_comes_back(tmp_path: Path) -> None:
    port = await broker(tmp_path)
    (first,) = await ask(port, key("a"))
    assert isinstance(first, Accepted)
    for _ in range(2):
        (again,) = await ask(port, key("a"))
        assert isinstance(again, Rejected)
        await leave(port, key("a"))
    (last,) = await port.scan(topology.WORKFLOW_PLACES, admission.ALL)
    assert last.is_marker


async def test_a_version_that_is_not_known_yet_lets_nobody_in(tmp_path: Path) -> None:
    """A copy of the definitions that has no limit is made sure of before all are let in."""
    port = await broker(tmp_path)
    await deploy(port, "1.0.0", None)
    definitions = Definitions(port)
    await definitions.entries.refresh()
    await deploy(port, "2.0.0", 1)
    one = Admission(port, definitions, batch=10)
    await ask(port, key("a"), key("b"))
    await one._admit(await changes(port, 2))
    assert await told(port) == [key("a")]
    await deploy(port, "3.0.0", None)
    await definitions.entries.refresh()
    await one.refresh()
    assert await told(port) == [key("a"), key("b")]


async def test_a_change_that_the_copy_lacks_is_not_dealt_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = await broker(tmp_path)
    await deploy(port, "1.0.0", 1)
    one = Admission(port, Definitions(port), batch=10)
    await ask(port, key("a"))
    taken = await changes(port, 1)

    async def nothing(*_: Any, **__: Any) -> list[Stored]:
        return []

    with monkeypatch.context() as behind:
        behind.setattr(port, "scan", nothing)
        with pytest.raises(BrokerError, match="does not have"):
            await one._admit(taken)
    await leave(port, key("a"))
    await one._admit(taken)
    assert await told(port) == []


async def test_what_is_no_entry_is_passed_over(tmp_path: Path) -> None:
    port = await broker(tmp_path)
    await deploy(port, "1.0.0", 1)
    one = Admission(port, Definitions(port), batch=10)
    await ask(port, "odd", "a.b.c.d.e", key("a"))
    await one._admit(await changes(port, 3))
    assert await told(port) == [key("a")]


async def test_a_place_is_taken_back_after_two_looks_from_one_that_is_gone(tmp_path: Path) -> None:
    port = await broker(tmp_path)
    await deploy(port, "1.0.0", 4)
    one = Admission(port, Definitions(port), batch=10)
    names = ("absent", "ended", "again", "alive", "waits")
    await ask(port, *(key(name) for name in names))
    await one._admit(await changes(port, 5))
    await state(port, "ended", "completed")
    await state(port, "again", "pending", turn=2)
    await state(port, "alive", "suspended")
    await one.audit()
    await one.clear_vacant()
    assert not one._vacant
    await state(port, "absent", "waiting")  # its snapshot was not seen yet
    await one.audit()
    await one.clear_vacant()
    gone = await changes(port, 2)
    assert [one.subject.split(".")[-2] for one in gone] == ["again", "ended"]
    await one._admit(gone)
    assert (await told(port))[-1] == key("waits")


async def test_nobody_is_looked_at_where_nobody_waits(tmp_path: Path) -> None:
    port = await broker(tmp_path)
    await deploy(port, "1.0.0", 4)
    one = Admission(port, Definitions(port), batch=10)
    await ask(port, key("absent"))
    await one._admit(await changes(port, 1))
    for _ in range(2):
        await one.audit()
    assert not one._vacant


async def test_a_long_front_is_looked_at_in_turns(tmp_path: Path) -> None:
    port = await broker(tmp_path)
    await deploy(port, "1.0.0", 120)
    one = Admission(port, Definitions(port), batch=10)
    names = [f"i{n}" for n in range(121)]
    for name in names[:-1]:
        if name != "i110":
            await state(port, name, "running")
    await ask(port, *(key(name) for name in names))
    await one._admit(await changes(port, 121))
    for _ in range(5):
        await one.audit()
    assert one._vacant == {key("i110")}
