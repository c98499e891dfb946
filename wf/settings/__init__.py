"""Settings of the pool: defaults < pool.toml < WF_… environment < command line."""

from wf.settings.load import find_config, load
from wf.settings.models import (
    BuiltinSettings,
    HttpSettings,
    NatsSettings,
    OrchestratorLimits,
    OrchestratorSettings,
    PoolSettings,
    RetrySettings,
    SecretsSettings,
    Settings,
    SupervisorSettings,
)

__all__ = [
    "BuiltinSettings",
    "HttpSettings",
    "NatsSettings",
    "OrchestratorLimits",
    "OrchestratorSettings",
    "PoolSettings",
    "RetrySettings",
    "SecretsSettings",
    "Settings",
    "SupervisorSettings",
    "find_config",
    "load",
]
