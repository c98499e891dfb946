"""Reaching the broker: from settings, or at addresses given directly."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from wf.jetstream.connection import Connection, from_settings
from wf.settings import find_config, load

if TYPE_CHECKING:
    from wf.jetstream.client import JetStream

ROLE = "client"
CONNECT_S = 3.0  # how long a client tries before it says that there is no broker


def connection_to(
    config: str | Path | None, servers: str | Sequence[str] | None, role: str = ROLE
) -> Connection:
    """Where to connect and as whom: `servers` (URLs, maybe with user:password@), else settings.

    `config` is the path of a pool.toml; without it and without `servers`: WF_CONFIG, ./pool.toml,
    ./config/pool.toml, /etc/wf-supervisor/pool.toml. Raises ConfigError when none is found or it
    is wrong, BrokerError when the embedded broker's files are missing.
    """
    if servers:
        return Connection(servers=(servers,) if isinstance(servers, str) else tuple(servers))
    return from_settings(load(find_config(config)), role)


async def dial(
    config: str | Path | None = None,
    servers: str | Sequence[str] | None = None,
    *,
    name: str = "wf-client",
    role: str = ROLE,
    timeout_s: float = CONNECT_S,
) -> JetStream:
    """Connect. Arguments and errors as for `connection_to`; BrokerError after `timeout_s`."""
    connection = connection_to(config, servers, role)
    from wf.jetstream.client import connect  # nats-py: not before it is known that it is needed

    return await connect(connection, role=role, name=name, timeout_s=timeout_s)
