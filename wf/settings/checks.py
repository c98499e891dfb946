"""Rules that no single key can state: what must hold between the settings."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from wf.protocol.durations import format_duration
from wf.protocol.subjects import NAME_RULE, is_name
from wf.settings.models import NatsSettings, OrchestratorSettings, PoolSettings
from wf.settings.sources import Key

# The keys a rule rests on, the first of them the one to blame; and what is wrong.
Finding = tuple[tuple[Key, ...], str]

HOUR = 3600.0


def check_nats(nats: NatsSettings, *, embedded_stated: bool) -> Iterator[Finding]:
    """`embedded_stated`: whether any source says embedded, or it is only the default."""
    embedded, servers = ("nats", "embedded"), ("nats", "servers")
    if nats.servers and nats.embedded and embedded_stated:
        yield (
            (servers, embedded),
            "embedded = true and servers exclude each other: remove servers to use the embedded"
            " broker, or say embedded = false",
        )
    if not nats.embedded and not nats.servers:
        yield (
            (embedded, servers),
            "embedded = false needs servers: say where the broker is,"
            ' servers = ["nats://host:4222"]',
        )
    for server in nats.servers:
        if problem := _server_problem(server):
            yield (servers,), problem
    if nats.embedded and not nats.servers:
        for name in ("credentials", "nkey", "user", "password", "tls_ca", "tls_cert", "tls_key"):
            if getattr(nats, name) is not None:
                yield (
                    (("nats", name), embedded),
                    "is only for servers: the embedded broker makes its own credentials",
                )
        if nats.replicas != 1:
            yield (
                (("nats", "replicas"), embedded),
                f"the embedded broker is one node and holds 1 replica; found {nats.replicas}",
            )
    yield from _check_credentials(nats)


def _server_problem(server: str) -> str | None:
    rule = 'write "nats://host:4222" or "tls://host:4222"'
    parts = urlsplit(server if "://" in server else f"nats://{server}")
    if parts.username or parts.password:
        # the address goes into logs; it is not repeated here for the same reason
        return "a server's address must not hold a password or token: use user and password"
    try:
        sound = parts.scheme in ("nats", "tls") and parts.hostname and parts.port != 0
    except ValueError:
        sound = False  # the port is not a number below 65536
    return None if sound else f"{server!r} is not a server's address: {rule}"


def _check_credentials(nats: NatsSettings) -> Iterator[Finding]:
    ways = [name for name in ("credentials", "nkey", "user") if getattr(nats, name) is not None]
    if len(ways) > 1:
        yield (
            tuple(("nats", name) for name in ways),
            f"choose one way to log in; found {' and '.join(ways)}",
        )
    for name, partner in (
        ("user", "password"),
        ("password", "user"),
        ("tls_cert", "tls_key"),
        ("tls_key", "tls_cert"),
    ):
        if getattr(nats, name) is not None and getattr(nats, partner) is None:
            yield (("nats", name), ("nats", partner)), f"needs {partner} as well"


def check_files(nats: NatsSettings) -> Iterator[Finding]:
    """Files that are named must be there. The only rule that looks at the disk."""
    for name in ("credentials", "nkey", "tls_ca", "tls_cert", "tls_key"):
        path: Path | None = getattr(nats, name)
        if path is not None and not os.path.isfile(path):
            yield (("nats", name),), f"there is no readable file at {path}"


def check_retention(
    orchestrator: OrchestratorSettings, ack_waits: Mapping[Key, float]
) -> Iterator[Finding]:
    """`ack_waits`: the key that states an ack_wait → its seconds."""
    completed = ("orchestrator", "completed_ttl")
    faulted = ("orchestrator", "faulted_ttl")
    history = ("orchestrator", "history_max_age")
    ttl = orchestrator.completed_ttl
    if ttl < HOUR:
        yield (
            (completed,),
            f"must be at least 1h, so that late duplicates still meet the snapshot;"
            f" found {format_duration(ttl)}",
        )
    for key, ack_wait in ack_waits.items():
        if ttl >= HOUR and ttl < 10 * ack_wait:
            yield (
                (completed, key),
                f"must be at least 10 × {'.'.join(key)} ({format_duration(10 * ack_wait)});"
                f" found {format_duration(ttl)}",
            )
    if orchestrator.faulted_ttl < ttl:
        yield (
            (faulted, completed),
            f"must be at least completed_ttl ({format_duration(ttl)}), because a faulted"
            f" instance can be retried; found {format_duration(orchestrator.faulted_ttl)}",
        )
    longest = max(ttl, orchestrator.faulted_ttl)
    if orchestrator.history_max_age < longest:
        yield (
            (history, completed, faulted),
            f"must be at least as long as the snapshots stay ({format_duration(longest)});"
            f" found {format_duration(orchestrator.history_max_age)}",
        )


def check_pool(
    pool: PoolSettings, where: Callable[..., Key], longest_delay: float
) -> Iterator[Finding]:
    """One pool, or the defaults. `where(*key)` names the table that states a key."""
    busy = pool.concurrency * max(pool.most, 1)
    if pool.max_ack_pending < busy:
        yield (
            (where("max_ack_pending"), where("concurrency"), where("processes")),
            f"must be at least processes × concurrency = {busy}, or workers stay idle;"
            f" found {pool.max_ack_pending}",
        )
    if pool.retry.max_delay < pool.retry.delay:
        yield (
            (where("retry", "max_delay"), where("retry", "delay")),
            f"must be at least delay ({format_duration(pool.retry.delay)});"
            f" found {format_duration(pool.retry.max_delay)}",
        )
    if pool.hang_timeout and pool.hang_timeout >= pool.ack_wait:
        yield (
            (where("hang_timeout"), where("ack_wait")),
            f"must be below ack_wait ({format_duration(pool.ack_wait)}), after which the tasks of a"
            f" hanging worker go to others while it still has them; found"
            f" {format_duration(pool.hang_timeout)}",
        )
    limit = ("orchestrator", "limits", "retry_delay")
    if pool.retry.max_delay > longest_delay:
        yield (
            (where("retry", "max_delay"), limit),
            f"must be at most orchestrator.limits.retry_delay ({format_duration(longest_delay)});"
            f" found {format_duration(pool.retry.max_delay)}",
        )


def check_pools(pools: Mapping[str, PoolSettings]) -> Iterator[Finding]:
    """Names, and that every activity is in one pool."""
    homes: dict[str, str] = {}
    for name, pool in pools.items():
        table: Key = ("workers", name)
        if not is_name(name):
            yield (table,), f"{name!r} is not a valid pool name: use {NAME_RULE}"
        key: Key = (*table, "activities") if pool.activities else table
        for activity in pool.activities or [name]:
            home = homes.setdefault(activity, name)
            if home != name:
                yield (
                    (key, ("workers", home)),
                    f"activity `{activity}` is in two pools, [workers.{home}] and"
                    f" [workers.{name}]: leave it in one",
                )
        for activity in {a for a in pool.activities if pool.activities.count(a) > 1}:
            yield (key,), f"activity `{activity}` is listed twice"
