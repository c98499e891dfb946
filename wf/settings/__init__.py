"""Settings of the pool: defaults < pool.toml < WF_… environment < command line."""

from wf.settings.load import find_config, load
from wf.settings.models import (
    NatsSettings,
    OrchestratorLimits,
    OrchestratorSettings,
    PoolSettings,
    RetrySettings,
    Settings,
    SupervisorSettings,
)

__all__ = [
    "NatsSettings",
    "OrchestratorLimits",
    "OrchestratorSettings",
    "PoolSettings",
    "RetrySettings",
    "Settings",
    "SupervisorSettings",
    "find_config",
    "load",
]
