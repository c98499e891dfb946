"""All assets of the wire protocol, made and updated on a real server."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.server import RealServer, make_settings
from wf.errors import BrokerError, MessageError
from wf.jetstream import topology
from wf.jetstream.client import JetStream
from wf.jetstream.own_subjects import own_from
from wf.jetstream.port import Accepted, Delivery, Outgoing, Rejected
from wf.protocol import subjects
from wf.settings import OrchestratorLimits, OrchestratorSettings

EVENTS = topology.WORKFLOW_EVENTS
TIMERS = topology.WORKFLOW_TIMERS

ALL_STREAMS = {
    "WORKFLOW_EVENTS",
    "ACTIVITY_TASKS",
    "WORKFLOW_TIMERS",
    "KV_WORKFLOW_STATES",
    "KV_WORKFLOW_DEFINITIONS",
    "WORKFLOW_HISTORY",
    "KV_WORKFLOW_LISTENERS",
    "KV_WORKFLOW_COLLECTIONS",
    "KV_WORKFLOW_PLACES",
    "KV_ACTIVITY_CATALOG",
    "KV_POOL_STATUS",
    "DEAD_LETTERS",
    "CLOUD_EVENTS",
    "ADVISORIES",
}


async def test_every_asset_of_the_protocol_is_made(js: JetStream) -> None:
    assert set((await js.api("STREAM.NAMES"))["streams"]) == ALL_STREAMS
    for name in ALL_STREAMS:
        config = (await js.api(f"STREAM.INFO.{name}"))["config"]
        assert config["storage"] == "file"
        assert config["allow_atomic"] is True
        assert config["allow_direct"] is True
        assert config["retention"] == "limits"
    for stream, consumer in [
        (EVENTS, topology.ORCHESTRATOR),
        (TIMERS, topology.TIMERS),
        (topology.ADVISORIES, topology.ADVISORY_READER),
    ]:
        config = (await js.api(f"CONSUMER.INFO.{stream}.{consumer}"))["config"]
        assert config["max_deliver"] == -1
        assert config["ack_policy"] == "explicit"


async def test_making_them_again_changes_nothing(js: JetStream, nats_server: RealServer) -> None:
    assert await topology.ensure(js, nats_server.settings()) == []


async def test_several_may_make_them_at_once(broker: RealServer) -> None:
    several = [await broker.connect() for _ in range(4)]
    await asyncio.gather(*(topology.ensure(js, broker.settings()) for js in several))
    assert set((await several[0].api("STREAM.NAMES"))["streams"]) == ALL_STREAMS
    for js in several:
        await js.close()


async def test_changed_settings_are_applied_to_what_exists(
    js: JetStream, nats_server: RealServer
) -> None:
    changed = nats_server.settings().model_copy(
        update={
            "orchestrator": OrchestratorSettings(
                history_max_age=3600.0, limits=OrchestratorLimits(tasks_per_activity=7)
            )
        }
    )
    assert await topology.ensure(js, changed) == ["ACTIVITY_TASKS", "WORKFLOW_HISTORY"]
    tasks = (await js.api("STREAM.INFO.ACTIVITY_TASKS"))["config"]
    history = (await js.api("STREAM.INFO.WORKFLOW_HISTORY"))["config"]
    assert tasks["max_msgs_per_subject"] == 7
    assert history["max_age"] == 3600 * 10**9
    assert await topology.ensure(js, changed) == []


async def test_what_an_operator_added_is_left_as_it_is(
    js: JetStream, nats_server: RealServer
) -> None:
    config = (await js.api(f"STREAM.INFO.{EVENTS}"))["config"]
    await js.api(f"STREAM.UPDATE.{EVENTS}", {**config, "description": "ours", "max_msgs": 5})
    assert await topology.ensure(js, nats_server.settings()) == [EVENTS]
    config = (await js.api(f"STREAM.INFO.{EVENTS}"))["config"]
    assert config["description"] == "ours"
    assert config["max_msgs"] == topology.MAX_EVENTS


async def test_events_get_their_partition_and_starts_do_not(js: JetStream) -> None:
    published = [
        subjects.start("default", "order"),
        subjects.start("shop", "order"),
        subjects.completed("order-1", "charge"),
        subjects.signal("order-1", "paid"),
        subjects.command("order-1", "cancel"),
        "workflow.child.completed.order-1.3",
    ]
    await js.publish(EVENTS, [Outgoing(subject, b"{}") for subject in published])
    stored = [found.subject for found in await js.scan(EVENTS, "workflow.>")]
    assert stored[:2] == published[:2]
    partitions = set()
    for before, after in zip(published[2:], stored[2:], strict=True):
        assert after.rpartition(".")[0] == before
        partitions.add(after.rpartition(".")[2])
        assert subjects.parse_inbound(after) == subjects.parse_inbound(before)
    assert len(partitions) == 1  # of one instance
    assert 0 <= int(partitions.pop()) < topology.PARTITIONS


async def test_a_timer_fires_into_its_own_stream_and_its_schedule_is_gone(js: JetStream) -> None:
    pull = await js.pull(TIMERS, topology.TIMERS, window=10)
    await js.publish(TIMERS, [scheduled("order-1", "4", 0.2)])
    assert await js.last_sequence(EVENTS) == 0
    (fired,) = await next_of(pull)
    assert fired.subject == subjects.timer_fired("order-1", "4")
    assert fired.data == b'{"v":1,"timer":4}'
    assert await js.subjects(TIMERS, topology.SCHEDULED_TIMERS) == {}
    await pull.stop()


async def test_timers_are_made_in_a_batch_and_cancelled_by_a_purge(js: JetStream) -> None:
    pull = await js.pull(TIMERS, topology.TIMERS, window=10)
    messages = [scheduled("order-1", "1", 0.4), scheduled("order-1", "2", 0.5)]
    assert isinstance(await js.publish_batch(TIMERS, messages), Accepted)
    assert await js.purge(TIMERS, subject=subjects.timer_scheduled("order-1", "1")) == 1
    (fired,) = await next_of(pull)
    assert fired.subject == subjects.timer_fired("order-1", "2")
    await pull.stop()


async def next_of(pull: object) -> list[Delivery]:
    async with asyncio.timeout(10):
        return await pull.next(10)  # type: ignore[attr-defined]


def scheduled(instance: str, timer: str, after_s: float) -> Outgoing:
    at = datetime.now(UTC) + timedelta(seconds=after_s)
    return Outgoing(
        subjects.timer_scheduled(instance, timer),
        f'{{"v":1,"timer":{timer}}}'.encode(),
        headers={
            "Nats-Schedule": f"@at {at.isoformat().replace('+00:00', 'Z')}",
            "Nats-Schedule-Target": subjects.timer_fired(instance, timer),
        },
    )


async def test_events_and_timers_share_no_subject(tmp_path: Path) -> None:
    by_name = {asset.name: asset.config for asset in topology.assets(make_settings(tmp_path))}
    assert not any(subject.startswith("workflow.timer") for subject in by_name[EVENTS]["subjects"])
    assert by_name[TIMERS]["subjects"] == [topology.SCHEDULED_TIMERS, topology.FIRED_TIMERS]


async def test_a_refused_shape_says_what_to_compare(js: JetStream, nats_server: RealServer) -> None:
    with pytest.raises(BrokerError, match="replicas"):
        await topology.ensure(js, nats_server.settings(replicas=3))


async def test_a_task_consumer_is_made_once_and_changed_in_place(js: JetStream) -> None:
    name = topology.consumer_name("charge_card")

    async def ensure(ack_wait_s: float) -> dict[str, object]:
        await js.ensure_task_consumer(
            "charge_card", ack_wait_s=ack_wait_s, max_deliver=20, max_ack_pending=50
        )
        return await js.api(f"CONSUMER.INFO.ACTIVITY_TASKS.{name}")

    first = await ensure(10)
    second = await ensure(20.5)
    assert first["created"] == second["created"]
    config = second["config"]
    assert isinstance(config, dict)
    assert config["ack_wait"] == 20_500_000_000
    assert config["filter_subject"] == "activity.tasks.charge_card"


def test_consumer_names_are_readable_and_never_shared() -> None:
    names = ["a", "A", "a-b", "a_b", "activity-a", "x" * 64]
    made = [topology.consumer_name(name) for name in names]
    assert len(set(made)) == len(names)
    assert [topology.activity_of(consumer) for consumer in made] == names
    assert topology.activity_of("orchestrator") is None
    with pytest.raises(MessageError, match="valid name"):
        topology.consumer_name("a.b")


@pytest.mark.parametrize("version", ["2.14.9", "v2.9.1", "1.99", "", "nonsense"])
def test_a_server_that_is_too_old_is_refused_with_the_remedy(version: str) -> None:
    with pytest.raises(BrokerError, match=r"2\.15 or newer is needed.*install"):
        topology.check_version(version)


@pytest.mark.parametrize("version", ["2.15.0", "2.15.1", "v2.16", "3.0.0-beta"])
def test_a_newer_server_is_taken(version: str) -> None:
    topology.check_version(version)


# What no header and no request may do, whoever sends it


def put(subject: str, **more: Any) -> Outgoing:
    return Outgoing(subject, b"{}", **more)


@pytest.mark.parametrize(
    ("stream", "subject"),
    [
        ("KV_WORKFLOW_DEFINITIONS", "$KV.WORKFLOW_DEFINITIONS.default.evil.1.0.0"),
        ("KV_ACTIVITY_CATALOG", "$KV.ACTIVITY_CATALOG.evil"),
        ("KV_POOL_STATUS", "$KV.POOL_STATUS.host.evil"),
        ("WORKFLOW_EVENTS", "workflow.signal.received.evil.x"),
        ("ACTIVITY_TASKS", "activity.tasks.evil"),
        ("WORKFLOW_HISTORY", "workflow.history.evil"),
        ("CLOUD_EVENTS", "cloudevents.evil"),
        ("DEAD_LETTERS", "dead.message.evil"),
    ],
)
@pytest.mark.parametrize("rollup", ["all", "sub"])
async def test_a_stream_that_others_write_to_takes_no_rollup(
    js: JetStream, stream: str, subject: str, rollup: str
) -> None:
    [outcome] = await js.publish(stream, [put(subject, headers={"Nats-Rollup": rollup})])
    assert isinstance(outcome, Rejected)
    assert outcome.description == "rollup not permitted"


@pytest.mark.parametrize(
    "stream", sorted(ALL_STREAMS - {"DEAD_LETTERS"})
)  # `wf dead-letters drop` deletes those
async def test_single_messages_are_never_deleted(js: JetStream, stream: str) -> None:
    with pytest.raises(BrokerError, match="not permitted"):
        await js.api(f"STREAM.MSG.DELETE.{stream}", {"seq": 1})


async def test_a_version_of_a_definition_is_stored_once_and_never_changed(js: JetStream) -> None:
    subject = subjects.definition("default", "once", "1.0.0")
    bucket = topology.WORKFLOW_DEFINITIONS
    [first] = await js.publish(bucket, [put(subject)])
    assert isinstance(first, Accepted)
    attempts = [
        put(subject),
        put(subject, expected=first.sequence),
        put(subject, ttl_s=1),
        put(subject, headers={"KV-Operation": "DEL"}),
        put(subject, headers={"KV-Operation": "PURGE"}),
        put(subject, headers={"KV-Operation": "PURGE", "Nats-Rollup": "sub"}),
    ]
    assert all(isinstance(one, Rejected) for one in await js.publish(bucket, attempts))
    batched = await js.publish_batch(bucket, [put(subject), put(f"{subject}.1")])
    assert isinstance(batched, Rejected)
    stored = await js.last(bucket, subject)
    assert stored is not None
    assert stored.sequence == first.sequence


async def test_buckets_of_an_earlier_version_are_closed_in_place(
    js: JetStream, nats_server: RealServer
) -> None:
    subject = subjects.definition("default", "kept", "1.0.0")
    await js.publish(topology.WORKFLOW_DEFINITIONS, [put(subject)])
    names = ["KV_WORKFLOW_DEFINITIONS", "KV_ACTIVITY_CATALOG", "KV_POOL_STATUS"]
    for name in names:
        config = (await js.api(f"STREAM.INFO.{name}"))["config"]
        open_ones = {
            "allow_rollup_hdrs": True,
            "subject_delete_marker_ttl": topology.nanoseconds(topology.MARKER_TTL_S),
            "discard_new_per_subject": False,
        }
        await js.api(f"STREAM.UPDATE.{name}", {**config, **open_ones})
    assert await topology.ensure(js, nats_server.settings()) == names
    assert await js.last(topology.WORKFLOW_DEFINITIONS, subject) is not None
    [outcome] = await js.publish(
        topology.WORKFLOW_DEFINITIONS, [put(f"{subject}.2", headers={"Nats-Rollup": "all"})]
    )
    assert isinstance(outcome, Rejected)


async def test_from_where_on_the_engines_subjects_are_its_own_is_kept_with_the_stream(
    js: JetStream, nats_server: RealServer
) -> None:
    assert await own_from(js) == 1  # of a stream that this version has made
    config = (await js.api(f"STREAM.INFO.{EVENTS}"))["config"]
    await js.api(f"STREAM.UPDATE.{EVENTS}", {**config, "metadata": {}})
    old = [Outgoing(subjects.start("default", "order"), b"{}") for _ in range(7)]
    await js.publish(EVENTS, old)
    assert await own_from(js) == 8
    await js.publish(EVENTS, old)
    assert await own_from(js) == 8
    assert await topology.ensure(js, nats_server.settings()) == []
    assert await own_from(js) == 8
