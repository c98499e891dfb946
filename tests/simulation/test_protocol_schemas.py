"""Everything that engine, workers and clients store in a simulated world is as the published
schemas say."""

from __future__ import annotations

from collections import Counter

import orjson
import pytest

from tests.simulation import world
from tests.simulation.ledger import Ledger
from tests.support import protocol_schemas
from tests.support.memory.stream import MemoryStream, Message


def test_what_is_stored_is_what_the_schemas_say(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: Counter[str | None] = Counter()
    problems: list[str] = []
    found: list[str] = []
    stored = Ledger.stored

    def checked(self: Ledger, stream: MemoryStream, message: Message) -> None:
        stored(self, stream, message)
        problem = protocol_schemas.problem(message.subject, message.data)
        if problem is not None:
            found.append(problem)
        elif message.data:
            seen[protocol_schemas.body_of(message.subject, orjson.loads(message.data))] += 1

    monkeypatch.setattr(Ledger, "stored", checked)
    for seed in range(1, 61):
        found.clear()
        plan = world.run(seed).plan
        if not plan.litter and not plan.spoiled:  # nobody else has written there
            problems += found
    assert not problems, problems[:3]
    for name in ("start", "task", "result", "command", "child", "timer", "history", "state"):
        assert seen[name] > 20, seen
    assert seen["cloud_event"] > 5, seen
    assert seen["listener"] > 5, seen
