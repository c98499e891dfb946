"""Everything that the pool needs at the broker is there: looked at again and again.

A broker may come back without its data or with an older backup of it, and a stream or a consumer
may be deleted or changed by hand, while the pool runs or while it does not. What is missing is made
again, what differs is put right, and what cannot be put right is told. Streams are known again by
their time of creation and by their last sequence, which only grows: so a loss of data is seen, too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from loguru import logger

from wf.errors import BrokerError, BrokerRefused
from wf.jetstream import mending, topology
from wf.jetstream.assets import Api, StreamAsset
from wf.process import paths
from wf.settings import Settings

KEEP_S = 60.0  # how far a stream was is noted this often; when it was made, at once
MOST_CHANGES = 3  # of one stream, within CHANGES_S: somebody else wants it otherwise
CHANGES_S = 300.0
SEQUENCES_LEFT_OUT = 1_000_000  # more than a stream takes in between two notes

# What each stream that is lost takes with it; the others hold nothing that is missed.
HOLDS = {
    topology.WORKFLOW_STATES: "every workflow instance",
    topology.WORKFLOW_EVENTS: "starts, results and signals that were not applied yet",
    topology.ACTIVITY_TASKS: "tasks that were not done yet",
    topology.WORKFLOW_TIMERS: "timers that had not fired yet",
    topology.WORKFLOW_DEFINITIONS: "definitions that are not files of workflows_dir",
    topology.WORKFLOW_HISTORY: "the history of instances",
    topology.WORKFLOW_PLACES: "the line of instances that wait for a place",
    topology.WORKFLOW_COLLECTIONS: "events that were collected for a start",
    topology.CLOUD_EVENTS: "events that nobody had listened for yet",
    topology.DEAD_LETTERS: "dead letters",
}


@dataclass(frozen=True, slots=True)
class Mark:
    """By what a stream is known again."""

    created: str  # as the server says it
    last_seq: int


@dataclass(frozen=True, slots=True)
class Found:
    """What one look has found. Names are those of streams, or `<stream>/<consumer>`."""

    changed: tuple[str, ...]  # made, or put right
    renewed: frozenset[str]  # streams that are not what they were: made anew, or gone back
    problems: tuple[str, ...]  # what could not be put right, each with its remedy


def is_renewed(known: Mark, now: Mark) -> bool:
    """Whether it is another stream, or an older state of the same."""
    return known.created != now.created or now.last_seq < known.last_seq


def loss(renewed: Iterable[str]) -> str:
    """What is gone with these streams, in a sentence; "" when nothing is missed."""
    gone = [f"{HOLDS[name]} ({name})" for name in HOLDS if name in set(renewed)]
    if not gone:
        return ""
    return (
        "the broker has lost data, or has an older state of it, than this pool has seen: gone are "
        f"{'; '.join(gone)}. Restore a backup (docs/operations.md), or start again what is missed"
    )


class Assurance:
    """Looks at all streams, buckets and fixed consumers. One `look` at a time."""

    def __init__(self, js: Api, settings: Settings, index: int = 0) -> None:
        """`index`: of the orchestrator whose notes are used; they lie in state_dir."""
        self._js = js
        self._assets = topology.assets(settings)
        self._path = paths.assets_file(settings, index)
        self._marks = _read(self._path)
        self._kept_s = 0.0
        self._changes: dict[str, list[float]] = {}  # stream → when it was put right
        self._looking = asyncio.Lock()

    async def look(self, *, strict: bool = False) -> Found:
        """See that all is there and as it should be. Raises BrokerError without an answer, and,
        when `strict`, BrokerRefused for what the server refuses to make or to change."""
        async with self._looking:
            topology.check_version(self._js.server_version)
            changed, renewed, problems = list[str](), set[str](), list[str]()
            infos = await asyncio.gather(
                *(mending.stream_info(self._js, asset.name) for asset in self._assets)
            )
            for asset, info in zip(self._assets, infos, strict=True):
                try:
                    changed += await self._mend(asset, info, renewed)
                except BrokerRefused as error:
                    if strict:
                        raise
                    problems.append(str(error))
                if info is not None and (problem := mending.unmendable(asset, info)):
                    problems.append(problem)
            self._note(created=bool(renewed) or bool(changed))
            return Found(tuple(changed), frozenset(renewed), tuple(problems))

    async def _mend(self, asset: StreamAsset, info: Any, renewed: set[str]) -> list[str]:
        changed = []
        known = self._marks.get(asset.name)
        self._refuse_to_fight(asset, info)
        first_seq = known.last_seq + SEQUENCES_LEFT_OUT if known is not None else 0
        answer = await mending.mend_stream(self._js, asset, info, first_seq=first_seq)
        if answer is not None:
            changed.append(asset.name)
        mark = _mark(answer or info)
        if known is not None and is_renewed(known, mark):
            renewed.add(asset.name)
        self._marks[asset.name] = mark
        consumers = await asyncio.gather(
            *(mending.ensure_consumer(self._js, consumer) for consumer in asset.consumers)
        )
        for consumer, done in zip(asset.consumers, consumers, strict=True):
            if done:
                changed.append(f"{consumer.stream}/{consumer.name}")
        return changed

    def _refuse_to_fight(self, asset: StreamAsset, info: Any) -> None:
        """Raise BrokerRefused for a stream that is changed back again and again, as by another pool
        whose settings differ: each would put it right for ever."""
        if info is None or not (changes := mending.differences(info["config"], asset.config)):
            return
        now_s = asyncio.get_running_loop().time()
        recent = [one for one in self._changes.get(asset.name, []) if now_s - one < CHANGES_S]
        self._changes[asset.name] = recent
        if len(recent) >= MOST_CHANGES:
            raise BrokerRefused(
                f"the stream {asset.name} is changed back again and again ({', '.join(changes)}): "
                "give all pools of this broker the same [orchestrator] and [nats] replicas, or see "
                "which tool does it"
            )
        recent.append(now_s)

    def _note(self, *, created: bool) -> None:
        """Write down what was seen, so that a loss is seen after a restart, too."""
        now_s = asyncio.get_running_loop().time()
        if not created and now_s - self._kept_s < KEEP_S:
            return
        self._kept_s = now_s
        marks = {name: [mark.created, mark.last_seq] for name, mark in self._marks.items()}
        try:
            paths.write_private(self._path, orjson.dumps(marks))
        except BrokerError as error:  # the pool can do without it
            logger.bind(error=str(error)).warning("streams.not_noted")


def _mark(info: Mapping[str, Any]) -> Mark:
    return Mark(str(info.get("created", "")), int(info["state"]["last_seq"]))


def _read(path: Path) -> dict[str, Mark]:
    """The notes of the last run; none when there are none, or when they cannot be read."""
    try:
        found = orjson.loads(path.read_bytes())
        return {name: Mark(str(created), int(last)) for name, (created, last) in found.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        logger.bind(file=str(path), error=str(error)).warning("streams.notes_unreadable")
        return {}
