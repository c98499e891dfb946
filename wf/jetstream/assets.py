"""Streams and consumers as values: what is to be at the broker."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

Config = dict[str, Any]


@dataclass(frozen=True)
class ConsumerAsset:
    """A durable pull consumer; `config` as in the JetStream API."""

    stream: str
    name: str
    config: Config


@dataclass(frozen=True)
class StreamAsset:
    """A stream with its consumers; `config` as in the JetStream API, durations in ns."""

    name: str
    config: Config
    consumers: tuple[ConsumerAsset, ...] = field(default=())
    at_first: Config = field(default_factory=dict)  # what only a new one gets


class Api(Protocol):
    """What `ensure` needs of a connection."""

    async def api(self, subject: str, body: Config | None = None) -> Config: ...

    @property
    def server_version(self) -> str: ...
