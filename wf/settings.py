"""Settings of the pool: pool.toml, the environment, the command line (first draft of the shape)."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RetrySettings(_Section):
    """Default retry policy of an activity, when no `try` governs the call."""

    max_attempts: int = 1
    delay: float = 1.0  # seconds
    backoff: Literal["constant", "linear", "exponential"] = "exponential"
    max_delay: float = 60.0
    jitter: float = 0.1


class SupervisorSettings(_Section):
    name: str = "wf"
    state_dir: Path = Path("state")
    grace: float = 30.0
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["text", "json"] = "text"


class NatsSettings(_Section):
    embedded: bool = True
    store_dir: Path = Path("state/jetstream")
    port: int = 4222  # 0: any free port
    sync: Literal["always", "interval"] = "always"
    max_store: int = 0  # bytes; 0: the server's own rule
    servers: list[str] = Field(default_factory=list)
    credentials: Path | None = None
    nkey: Path | None = None
    user: str | None = None
    password: str | None = None
    tls_ca: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    replicas: int = 1


class OrchestratorLimits(_Section):
    tasks_per_activity: int = 100_000
    pending_timers: int = 1_000_000
    snapshot: int = 4 * 1024 * 1024  # bytes
    expression_time: float = 1.0  # seconds
    expression_result: int = 4 * 1024 * 1024  # bytes
    jumps: int = 100_000
    retry_delay: float = 86_400.0


class OrchestratorSettings(_Section):
    processes: int = 1
    batch: int = 500
    history_max_age: float = 90 * 86_400.0
    completed_ttl: float = 86_400.0
    faulted_ttl: float = 30 * 86_400.0
    cache: int = 128 * 1024 * 1024  # bytes of snapshots kept in memory
    limits: OrchestratorLimits = OrchestratorLimits()


class PoolSettings(_Section):
    """One pool of workers: [workers] merged with its own table."""

    activities: list[str] = Field(default_factory=list)  # empty: the table's own name
    processes: int = 1
    concurrency: int = 10
    prefetch: int | Literal["auto"] = "auto"
    ack_wait: float = 30.0
    max_deliver: int = 20
    max_ack_pending: int = 10_000
    crash_limit: int = 3
    timeout: float = 300.0
    retry: RetrySettings = RetrySettings()
    max_tasks: int = 0  # 0: no limit
    max_memory: int = 0  # bytes; 0: no limit


class Settings(_Section):
    """All of it, resolved: paths absolute, durations in seconds, sizes in bytes."""

    path: Path  # the pool.toml it came from
    activities_dir: Path
    workflows_dir: Path
    supervisor: SupervisorSettings = SupervisorSettings()
    nats: NatsSettings = NatsSettings()
    orchestrator: OrchestratorSettings = OrchestratorSettings()
    worker_defaults: PoolSettings = PoolSettings()
    pools: dict[str, PoolSettings] = Field(default_factory=dict)  # tables of [workers.<name>]

    def pool(self, name: str) -> PoolSettings:
        """Settings of the pool `name`; the defaults where it has no table."""
        return self.pools.get(name, self.worker_defaults)
