"""Reaching the broker: from settings, or from addresses given directly."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from wf.errors import BrokerError
from wf.jetstream.port import Port

CONNECT_S = 3.0  # how long a client tries before it says that there is no broker


async def dial(
    config: str | Path | None = None,
    servers: str | Sequence[str] | None = None,
    *,
    role: str = "client",
    name: str = "wf-client",
    timeout_s: float = CONNECT_S,
) -> Port:
    """Connect to `servers` (URLs), or else as the pool's settings say.

    `config` is the path of a pool.toml; without it and without `servers`: WF_CONFIG, ./pool.toml,
    ./config/pool.toml, /etc/wf-supervisor/pool.toml. Raises ConfigError when none is found or it
    is wrong, BrokerError when no server answers within `timeout_s`.
    """
    raise BrokerError("")
