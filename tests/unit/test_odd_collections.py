"""Events that start workflows are collected, whatever lies where they are kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from orchestrator.cloudevents.event_sets import Collector
from orchestrator.cloudevents.event_triggers import Triggers
from orchestrator.machine.events import trigger_sets
from orchestrator.machine.events.trigger_sets import Fit, Taken
from orchestrator.registry.definitions import Definitions
from tests.support.memory import MemoryBroker, connect
from tests.support.server import make_settings
from wf.jetstream import topology
from wf.jetstream.port import Accepted, Outgoing
from wf.protocol import subjects

KEY = "default.ship.t.all"
GOOD_SET: dict[str, Any] = {"values": {"order": 5}, "events": {"0": [1, {"id": "1"}]}}


@pytest.mark.parametrize(
    "change",
    [
        {"open": None},
        {"seen": 7},
        {"seen": [[1]]},
        {"seen": [["x", "y"]]},
        {"open": [7]},
        {"open": [{"values": {}}]},
        {"open": [{**GOOD_SET, "values": []}]},
        {"open": [{**GOOD_SET, "events": {"0": [1]}}]},
        {"open": [{**GOOD_SET, "events": {"x": [1, {}]}}]},
        {"done": {}},
        {"done": [GOOD_SET]},
        {"done": [{**GOOD_SET, "version": "1.0.0", "events": {}}]},
        {"done": [{**GOOD_SET, "version": 1}]},
    ],
)
async def test_events_are_collected_where_something_else_lies(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    port = await connect(MemoryBroker())
    await topology.ensure(port, make_settings(tmp_path))
    subject = subjects.collection(KEY)
    body = orjson.dumps({**trigger_sets.empty(), **change})
    (stored,) = await port.publish(topology.WORKFLOW_COLLECTIONS, [Outgoing(subject, body)])
    assert isinstance(stored, Accepted)
    collector = Collector(port, Triggers(Definitions(port)))
    taken = Taken([Fit(0, {})], 1, {"type": "paid"}, "1.0.0", 2)
    assert await collector.take({KEY: [taken]}) == []
    now = await port.last(topology.WORKFLOW_COLLECTIONS, subject, leader=True)
    assert now is not None
    state = orjson.loads(now.data)
    assert len(state["seen"]) == len(state["open"]) == 1
    assert state["done"] == []


def test_what_is_one_is_read_as_it_is() -> None:
    state = {**trigger_sets.empty(), "open": [GOOD_SET], "done": [{**GOOD_SET, "version": "1.0.0"}]}
    assert trigger_sets.checked(state) is state
