"""Definitions that benchmarks deploy themselves, because their size is what is measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from wf.client.client import Client

JsonObject = dict[str, Any]


async def deploy(config: Path, name: str, tasks: list[JsonObject]) -> None:
    """Register `tasks` as version 1.0.0 of the workflow `name`."""
    header = {"dsl": "1.0.3", "namespace": "default", "name": name, "version": "1.0.0"}
    async with await Client.connect(config=config) as client:
        await client.deploy(json.dumps({"document": header, "do": tasks}))


def fork(branches: int) -> list[JsonObject]:
    """A fork of so many calls, joined."""
    call = {"call": "noop", "with": {"n": "${ .n }"}}
    return [{"all": {"fork": {"branches": [{f"b{n}": call} for n in range(branches)]}}}]
