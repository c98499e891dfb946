"""Registered definitions, compiled and kept: a copy of WORKFLOW_DEFINITIONS in memory.

Deployments are noticed by the KV's own subject; what is asked for and not known is looked up at
once, so that a start right behind its deployment finds it.
"""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
from loguru import logger

from orchestrator.definition import Definition, parse, version_key
from orchestrator.inbound import Item
from orchestrator.record import ABSENT_HEADERS, Record
from wf.jetstream import topology
from wf.jetstream.port import Port, Stored

ALL = "$KV.WORKFLOW_DEFINITIONS.>"
PREFIX = "$KV.WORKFLOW_DEFINITIONS."
NOTICE_LIMIT_S = 5.0  # how long a notice may come before its message is stored


class Definitions:
    def __init__(self, port: Port) -> None:
        self._port = port
        self._known = 0  # stream sequence up to which the copy is complete
        self._versions: dict[tuple[str, str], dict[str, Definition]] = {}
        self._latest: dict[tuple[str, str], Definition] = {}
        self._refreshing = asyncio.Lock()

    def get(self, namespace: str, name: str, version: str | None) -> Definition | None:
        """That version, or the latest when `version` is None."""
        if version is None:
            return self._latest.get((namespace, name))
        return self._versions.get((namespace, name), {}).get(version)

    async def prepare(self, group: dict[str, list[Item]], records: dict[str, Record]) -> None:
        """Look up what the group needs and is not known; afterwards `get` is the truth."""
        for instance, record in records.items():
            source: dict[str, Any] | None = record.snapshot
            if source is None:
                source = group[instance][0].event
                if source["kind"] != "start":
                    continue
            version = source.get("version") or None
            if self.get(source["namespace"], source["workflow"], version) is None:
                await self.refresh()
                return

    async def refresh(self) -> None:
        """Read what was registered since the last time."""
        async with self._refreshing:
            while True:
                stored = await self._port.scan(
                    topology.WORKFLOW_DEFINITIONS, ALL, from_sequence=self._known + 1
                )
                if not stored:
                    return
                for message in stored:
                    self._take(message)
                    self._known = message.sequence

    def _take(self, stored: Stored) -> None:
        key = stored.subject.removeprefix(PREFIX).split(".", 2)
        if len(key) != 3:
            logger.bind(subject=stored.subject).error("definition.key.unusable")
            return
        namespace, name, version = key
        versions = self._versions.setdefault((namespace, name), {})
        if stored.headers and any(key in stored.headers for key in ABSENT_HEADERS):
            versions.pop(version, None)
        else:
            try:
                versions[version] = parse(orjson.loads(stored.data), stored.subject)
            except Exception as error:  # noqa: BLE001 — what was put there by hand stops no other
                log = logger.bind(subject=stored.subject, error=str(error))
                log.error("definition.unusable")
                return
        if versions:
            self._latest[namespace, name] = versions[max(versions, key=version_key)]
        else:
            self._latest.pop((namespace, name), None)

    async def noticed(self, subject: str, _data: bytes) -> None:
        """A definition is being registered: the notice may come before it is stored."""
        before = self._known
        loop = asyncio.get_running_loop()
        give_up = loop.time() + NOTICE_LIMIT_S
        while self._known == before and loop.time() < give_up:
            await self.refresh()
            if self._known == before:
                await asyncio.sleep(0.02)
        logger.bind(subject=subject.removeprefix(PREFIX)).debug("definition.noticed")
