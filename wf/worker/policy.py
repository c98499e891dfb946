"""What holds for one activity in one pool: its own table in pool.toml, else its decorator, else
[workers], else the built-in default. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from wf.authoring.activity import ActivityDefinition, Options
from wf.authoring.retry import policy as retry_policy
from wf.protocol.messages import JsonObject
from wf.settings import PoolSettings, Settings

CATALOG_VERSION = 1


@dataclass(frozen=True, slots=True)
class Policy:
    """The effective settings of one activity."""

    timeout_s: float
    retry: JsonObject  # wire form
    concurrency: int
    prefetch: int | None  # None: tuned to the measured duration
    ack_wait_s: float
    max_deliver: int
    max_ack_pending: int


def effective(settings: Settings, pool: str, options: Options) -> Policy:
    """The policy of an activity with `options` that runs in `pool`."""
    table = settings.pool(pool)
    timeout_s = table.timeout
    if options.timeout_s is not None and not settings.states(pool, "timeout"):
        timeout_s = options.timeout_s
    concurrency = table.concurrency
    if options.concurrency is not None and not settings.states(pool, "concurrency"):
        concurrency = options.concurrency
    retry = _of_table(table)
    if options.retry is not None and not settings.states(pool, "retry"):
        retry = options.retry.policy()
    return Policy(
        timeout_s=timeout_s,
        retry=retry,
        concurrency=concurrency,
        prefetch=None if table.prefetch == "auto" else table.prefetch,
        ack_wait_s=table.ack_wait,
        max_deliver=table.max_deliver,
        max_ack_pending=table.max_ack_pending,
    )


def catalog_entry(definition: ActivityDefinition, policy: Policy, owner: str) -> JsonObject:
    """What the catalogue says of an activity; `owner` is `<host>/<pool>`."""
    return {
        "v": CATALOG_VERSION,
        "name": definition.name,
        "input_schema": definition.signature.input_schema,
        "output_schema": definition.signature.output_schema,
        "timeout_s": policy.timeout_s,
        "retry": policy.retry,
        "consumer": {
            "ack_wait_s": policy.ack_wait_s,
            "max_deliver": policy.max_deliver,
            "max_ack_pending": policy.max_ack_pending,
        },
        "doc": definition.doc,
        "module": definition.path,
        "owner": owner,
    }


def _of_table(table: PoolSettings) -> JsonObject:
    return retry_policy(
        max_attempts=table.retry.max_attempts,
        delay_s=table.retry.delay,
        backoff=table.retry.backoff,
        max_delay_s=table.retry.max_delay,
        jitter=table.retry.jitter,
    )
