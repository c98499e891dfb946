"""What the pool needs at the broker comes again within seconds, whoever has taken it away."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from loguru import logger

from tests.integration.test_flow import LIMIT_S, Worker, worker
from tests.support.engine import Engine, ended, engine, start
from tests.support.server import RealServer
from tests.support.waiting import eventually
from wf.jetstream import topology
from wf.jetstream.api import ApiError
from wf.jetstream.client import JetStream
from wf.settings import OrchestratorSettings

FILE = """
document: {dsl: '1.0.0', namespace: default, name: flow, version: '1.0.0'}
do:
  - first: {call: a, with: {n: "${ .n }"}}
"""
TASKS, CONSUMER = topology.ACTIVITY_TASKS, topology.consumer_name("a")


@contextlib.asynccontextmanager
async def pool(broker: RealServer, folder: Path) -> AsyncIterator[tuple[Engine, Worker]]:
    """An engine with a definition in a file, and a worker process; one instance has run."""
    settings = broker.settings()
    settings.workflows_dir.mkdir(parents=True, exist_ok=True)
    (settings.workflows_dir / "flow.yaml").write_text(FILE)
    async with engine(broker, settings=settings) as one, worker(broker, folder) as two:
        await runs(one.js, "before")
        yield one, two


async def runs(js: JetStream, instance: str) -> None:
    await start(js, "flow", instance, {"n": 1})
    snapshot = await ended(js, instance, limit_s=LIMIT_S)
    assert snapshot["status"] == "completed", snapshot


async def _update(js: JetStream, **config: Any) -> None:
    current = (await js.api(f"CONSUMER.INFO.{TASKS}.{CONSUMER}"))["config"]
    body = {"stream_name": TASKS, "config": {**current, **config}, "action": "update"}
    await js.api(f"CONSUMER.CREATE.{TASKS}.{CONSUMER}", body)


async def _replace(js: JetStream) -> None:
    await js.api(f"CONSUMER.DELETE.{TASKS}.{CONSUMER}")
    config = {"durable_name": CONSUMER, "ack_policy": "none", "filter_subject": "activity.tasks.a"}
    body = {"stream_name": TASKS, "config": config, "action": ""}
    await js.api(f"CONSUMER.CREATE.{TASKS}.{CONSUMER}", body)


async def _pause(js: JetStream) -> None:
    await js.api(f"CONSUMER.PAUSE.{TASKS}.{CONSUMER}", {"pause_until": "2100-01-01T00:00:00Z"})


async def _limit(js: JetStream) -> None:
    config = (await js.api(f"STREAM.INFO.{TASKS}"))["config"]
    config |= {"max_msgs": 1, "discard_new_per_subject": False, "max_msg_size": 3, "no_ack": True}
    await js.api(f"STREAM.UPDATE.{TASKS}", config)


def _delete(name: str) -> Callable[[JetStream], Awaitable[Any]]:
    return lambda js: js.api(f"STREAM.DELETE.{name}")


def _drop(stream: str, consumer: str) -> Callable[[JetStream], Awaitable[Any]]:
    return lambda js: js.api(f"CONSUMER.DELETE.{stream}.{consumer}")


HARM: dict[str, Callable[[JetStream], Awaitable[Any]]] = {
    **{f"no {name}": _delete(name) for name in (
        topology.WORKFLOW_EVENTS, topology.ACTIVITY_TASKS, topology.WORKFLOW_TIMERS,
        topology.WORKFLOW_STATES, topology.WORKFLOW_DEFINITIONS, topology.WORKFLOW_HISTORY,
        topology.WORKFLOW_LISTENERS, topology.WORKFLOW_PLACES, topology.ACTIVITY_CATALOG,
        topology.CLOUD_EVENTS, topology.ADVISORIES, topology.DEAD_LETTERS,
    )},
    **{f"no consumer {name}": _drop(stream, name) for stream, name in (
        (TASKS, CONSUMER),
        (topology.WORKFLOW_EVENTS, topology.ORCHESTRATOR),
        (topology.WORKFLOW_TIMERS, topology.TIMERS),
        (topology.CLOUD_EVENTS, topology.LISTENERS),
        (topology.WORKFLOW_LISTENERS, topology.READ_BACK),
        (topology.WORKFLOW_PLACES, topology.ADMISSION),
        (topology.ADVISORIES, topology.ADVISORY_READER),
    )},
    "another filter": lambda js: _update(js, filter_subject="activity.tasks.other"),
    "several filters": lambda js: _update(
        js, filter_subject="", filter_subjects=["activity.tasks.b", "activity.tasks.c"]
    ),
    "headers only": lambda js: _update(js, headers_only=True),
    "one delivery": lambda js: _update(js, max_deliver=1, ack_wait=10**9, max_ack_pending=1),
    "paused": _pause,
    "another in its place": _replace,
    "limits of the stream": _limit,
}  # fmt: skip


async def shape(js: JetStream) -> dict[str, Any]:
    """Everything that is there, without what counts or moves; {} while something is missing."""
    try:
        return await _shape(js)
    except ApiError:
        return {}


async def _shape(js: JetStream) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in (await js.api("STREAM.NAMES"))["streams"]:
        config = (await js.api(f"STREAM.INFO.{name}"))["config"]
        found[name] = {key: value for key, value in config.items() if key != "first_seq"}
        for consumer in (await js.api(f"CONSUMER.NAMES.{name}"))["consumers"] or []:
            info = await js.api(f"CONSUMER.INFO.{name}.{consumer}")
            drop = {"metadata", "pause_until"}
            config = {key: value for key, value in info["config"].items() if key not in drop}
            found[f"{name}/{consumer}"] = {**config, "paused": info.get("paused", False)}
    for stream in (topology.ACTIVITY_CATALOG, topology.WORKFLOW_DEFINITIONS):
        found[f"{stream} keys"] = sorted(await js.subjects(stream, ">"))
    return found


async def test_whatever_is_taken_away_or_changed_comes_again_and_work_goes_on(
    broker: RealServer, tmp_path: Path
) -> None:
    async with pool(broker, tmp_path) as (one, _):
        whole = await shape(one.js)
        assert whole
        for number, (name, harm) in enumerate(HARM.items()):
            await harm(one.js)

            async def look() -> bool:
                return await shape(one.js) == whole

            await eventually(look, limit_s=LIMIT_S, what=f"all is there again after: {name}")
            await runs(one.js, f"after-{number}")


@pytest.fixture
def said() -> Any:
    lines: list[dict[str, Any]] = []
    sink = logger.add(
        lambda message: lines.append(
            {"event": message.record["message"], **message.record["extra"]}
        )
    )
    yield lines
    logger.remove(sink)


async def test_a_broker_that_comes_back_without_its_data_is_furnished_again_and_the_loss_is_said(
    broker: RealServer, tmp_path: Path, said: list[dict[str, Any]]
) -> None:
    async with pool(broker, tmp_path) as (one, _):
        broker.kill9()
        shutil.rmtree(broker.directory / "store")
        broker.start()

        async def is_said() -> bool:
            return any(line["event"] == "broker.data_lost" for line in said)

        await eventually(is_said, limit_s=LIMIT_S, what="the loss is said")
        await runs(one.js, "after")
        lost = [line for line in said if line["event"] == "broker.data_lost"]
        assert len(lost) == 1
        assert "every workflow instance (KV_WORKFLOW_STATES)" in lost[0]["reason"]
        assert (await one.js.api(f"STREAM.INFO.{topology.WORKFLOW_EVENTS}"))["state"][
            "first_seq"
        ] >= 1_000_000


async def test_an_older_backup_is_told_from_what_was_there_also_after_a_restart(
    broker: RealServer, tmp_path: Path, said: list[dict[str, Any]]
) -> None:
    async with pool(broker, tmp_path):
        pass
    broker.stop()
    shutil.copytree(broker.directory / "store", tmp_path / "backup")
    broker.start()
    async with engine(broker, settings=broker.settings()) as one, worker(broker, tmp_path):
        await runs(one.js, "later")
        await one.orchestrator._upkeep.look()
        one.orchestrator._upkeep._assurance._note(created=True)
    assert not [line for line in said if line["event"] == "broker.data_lost"]
    broker.stop()
    shutil.rmtree(broker.directory / "store")
    shutil.copytree(tmp_path / "backup", broker.directory / "store")
    broker.start()
    async with engine(broker, settings=broker.settings()) as one, worker(broker, tmp_path):
        await runs(one.js, "last")
    assert len([line for line in said if line["event"] == "broker.data_lost"]) == 1


async def test_a_flag_that_the_server_does_not_take_back_is_told(
    broker: RealServer, tmp_path: Path
) -> None:
    async with pool(broker, tmp_path) as (one, _):
        config = (await one.js.api(f"STREAM.INFO.{TASKS}"))["config"]
        await one.js.api(f"STREAM.UPDATE.{TASKS}", {**config, "deny_purge": True})

        async def is_told() -> bool:
            return any("deny_purge" in text for text in one.orchestrator._upkeep.problems)

        await eventually(is_told, limit_s=LIMIT_S, what="it is told")
        await runs(one.js, "after")


async def test_pools_with_other_settings_do_not_change_a_stream_back_for_ever(
    broker: RealServer, said: list[dict[str, Any]]
) -> None:
    other = broker.settings().model_copy(
        update={"orchestrator": OrchestratorSettings(history_max_age=3600.0)}
    )
    async with engine(broker) as one, engine(broker, settings=other) as two:

        async def is_told() -> bool:
            problems = [*one.orchestrator._upkeep.problems, *two.orchestrator._upkeep.problems]
            return any("changed back again and again (max_age)" in text for text in problems)

        await eventually(is_told, limit_s=LIMIT_S, what="it is told")
        changes = [line for line in said if line["event"] == "stream.updated"]
        assert len(changes) <= 8
