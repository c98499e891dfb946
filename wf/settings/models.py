"""The shape of the settings: one class per table of pool.toml, defaults included.

Durations are floats in seconds and sizes are ints in bytes, however they were written.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import orjson
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator

from wf.protocol.durations import parse_duration, parse_size
from wf.protocol.subjects import NAME_RULE, is_name


def _whole(value: object) -> object:
    # pydantic reads true as 1, which is never what `processes = true` meant
    if isinstance(value, bool):
        raise ValueError(f"expected a whole number; found {str(value).lower()}")  # noqa: TRY004
    return value


MOST_PROCESSES = 1024


def _processes(value: object) -> object:
    """A whole number, or `{ min = …, max = … }`."""
    if not isinstance(value, dict):
        return _process_count(value)
    unknown = sorted(set(value) - {"min", "max"})
    if unknown or "max" not in value:
        what = f"found `{unknown[0]}`" if unknown else "max is missing"
        raise ValueError(f"a range is written {{ min = 1, max = 8 }}; {what}")
    fewest, most = _process_count(value.get("min", 1)), _process_count(value["max"])
    if not fewest <= most or most == 0:
        raise ValueError(f"min must not be above max, and max at least 1; found {fewest} to {most}")
    return ProcessRange(fewest, most)


def _process_count(value: object) -> int:
    try:
        number = int(value) if isinstance(value, (int, str)) and value is not True else None
    except ValueError:
        number = None
    if number is None or isinstance(value, bool):
        found = str(value).lower() if isinstance(value, bool) else repr(value)
        raise ValueError(f"expected a whole number, or {{ min = 1, max = 8 }}; found {found}")
    if not 0 <= number <= MOST_PROCESSES:
        limit = f"at least 0; found {number}" if number < 0 else f"at most {MOST_PROCESSES}"
        raise ValueError(f"must be {limit}")
    return number


@dataclass(frozen=True, slots=True)
class ProcessRange:
    """A pool that follows its load has from `fewest` to `most` processes."""

    fewest: int
    most: int

    def __str__(self) -> str:
        return f"{self.fewest} to {self.most}"


def _prefetch(value: object) -> object:
    if value == "auto":
        return value
    try:
        number = int(value) if isinstance(value, (int, str)) and value is not True else -1
    except ValueError:
        number = -1
    if not 0 <= number <= 10_000:
        raise ValueError(f'expected "auto" or a whole number from 0 to 10000; found {value!r}')
    return number


def _listed(value: object) -> object:
    """A list, or the text that an environment variable gives: JSON or comma-separated."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        try:
            return orjson.loads(value)
        except orjson.JSONDecodeError as error:
            raise ValueError(f"expected a list; found {value!r}") from error
    return [item.strip() for item in value.split(",") if item.strip()]


def _upper(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


def _named(value: object) -> object:
    if not isinstance(value, str) or not is_name(value):
        raise ValueError(f"{value!r} is not a valid name: use {NAME_RULE}")
    return value


Duration = Annotated[float, BeforeValidator(parse_duration)]
Size = Annotated[int, BeforeValidator(parse_size)]
Whole = Annotated[int, BeforeValidator(_whole)]
Processes = Annotated[int | ProcessRange, PlainValidator(_processes)]
Name = Annotated[str, BeforeValidator(_named)]
Names = Annotated[list[Name], BeforeValidator(_listed)]
Texts = Annotated[list[str], BeforeValidator(_listed)]


def _program(value: str) -> str:
    if not value.startswith("/") or value.endswith("/"):
        raise ValueError('must be the absolute path of a program, such as "/usr/bin/jq"')
    return value


def _command(value: str) -> str:
    return value if value == "*" else _program(value)


Program = Annotated[str, AfterValidator(_program)]
Command = Annotated[str, AfterValidator(_command)]  # a program, or "*": anything, by /bin/sh
Prefetch = Annotated[int | Literal["auto"], BeforeValidator(_prefetch)]
Level = Annotated[
    Literal["DEBUG", "INFO", "WARNING", "ERROR"],
    BeforeValidator(_upper),
]


SHORTEST_HANG_S = 2.0  # a busy host may keep a healthy process waiting for as long


class Section(BaseModel):
    """A table of pool.toml: unknown keys are refused, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class RetrySettings(Section):
    """Default retry policy of an activity, when no `try` governs the call."""

    max_attempts: Whole = Field(default=1, ge=1, le=1000)
    delay: Duration = 1.0  # seconds
    backoff: Literal["constant", "linear", "exponential"] = "exponential"
    max_delay: Duration = 60.0
    jitter: float = Field(default=0.1, ge=0, le=1)


class SupervisorSettings(Section):
    """The daemon itself."""

    name: Name = "wf"
    state_dir: Path = Path("state")
    grace: Duration = 30.0
    log_level: Level = "INFO"
    log_format: Literal["text", "json"] = "text"


class NatsSettings(Section):
    """The broker: embedded (a child of the supervisor), or servers that run elsewhere."""

    embedded: bool = True
    store_dir: Path = Path("state/jetstream")
    port: Whole = Field(default=4222, ge=0, le=65_535)  # 0: any free port
    sync: Literal["always", "interval"] = "always"
    max_store: Size = 0  # bytes; 0: the server's own rule
    servers: Texts = Field(default_factory=list)
    credentials: Path | None = None
    nkey: Path | None = None
    user: str | None = None
    password: str | None = Field(default=None, repr=False)
    tls_ca: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    replicas: Whole = Field(default=1, ge=1, le=5)


class OrchestratorLimits(Section):
    """What one instance, or one activity's queue, may take."""

    tasks_per_activity: Whole = Field(default=100_000, ge=1)
    pending_timers: Whole = Field(default=1_000_000, ge=1)
    snapshot: Size = Field(default=4 * 1024 * 1024, ge=64 * 1024, le=8_000_000)  # bytes
    expression_time: Duration = Field(default=1.0, gt=0)  # seconds
    expression_result: Size = Field(default=4 * 1024 * 1024, ge=1024, le=8_000_000)  # bytes
    memory: Size = Field(default=4 * 1024**3, ge=512 * 1024 * 1024)  # bytes of address space
    jumps: Whole = Field(default=100_000, ge=1)
    depth: Whole = Field(default=50, ge=1, le=1000)
    retry_delay: Duration = Field(default=86_400.0, gt=0)


class OrchestratorSettings(Section):
    """The workflow engine."""

    processes: Whole = Field(default=1, ge=0, le=16)  # 0: this host runs only workers
    batch: Whole = Field(default=500, ge=1, le=1000)
    history_max_age: Duration = 90 * 86_400.0
    completed_ttl: Duration = 86_400.0
    faulted_ttl: Duration = 30 * 86_400.0
    cache: Size = 128 * 1024 * 1024  # bytes of snapshots kept in memory
    lifecycle_events: bool = False
    event_buffer: Duration = Field(default=300.0, ge=0, le=86_400.0)
    lost_task_age: Duration = Field(default=300.0, ge=0)  # 0: lost tasks are not looked for
    limits: OrchestratorLimits = OrchestratorLimits()


class PoolSettings(Section):
    """One pool of workers: [workers] merged with its own table.

    `model_fields_set` holds only the keys that the pool's own table states, so that an
    activity's decorator can stand between the table and the defaults of [workers].
    """

    activities: Names = Field(default_factory=list)  # empty: the table's own name
    processes: Processes = 1
    concurrency: Whole = Field(default=10, ge=1, le=10_000)
    prefetch: Prefetch = "auto"
    ack_wait: Duration = Field(default=30.0, ge=0.5)
    max_deliver: Whole = Field(default=20, ge=2)
    max_ack_pending: Whole = Field(default=10_000, ge=1)
    crash_limit: Whole = Field(default=3, ge=1)
    timeout: Duration = Field(default=300.0, gt=0)
    boot_timeout: Duration = Field(default=60.0, gt=0)
    hang_timeout: Duration = Field(default=0.0, ge=0)  # 0: three fifths of ack_wait
    retry: RetrySettings = RetrySettings()
    max_tasks: Whole = Field(default=0, ge=0)  # 0: no limit
    max_memory: Size = 0  # bytes; 0: no limit

    @property
    def fewest(self) -> int:
        """Processes that there are at least."""
        return self.processes.fewest if isinstance(self.processes, ProcessRange) else self.processes

    @property
    def most(self) -> int:
        """Processes that there are at most."""
        return self.processes.most if isinstance(self.processes, ProcessRange) else self.processes

    @property
    def hang_s(self) -> float:
        """After so many seconds without a turn a worker's event loop is taken for hanging."""
        return self.hang_timeout or max(SHORTEST_HANG_S, 0.6 * self.ack_wait)


class HttpSettings(Section):
    """`call: http` and `call: openapi`."""

    enabled: bool = True
    max_response: Size = Field(default=4 * 1024 * 1024, ge=1024, le=64 * 1024 * 1024)  # bytes
    connect_timeout: Duration = Field(default=10.0, gt=0)  # seconds
    proxy: str | None = Field(default=None, repr=False)
    ca: Path | None = None
    idempotency_header: str = "Idempotency-Key"  # empty: none
    max_document: Size = Field(default=8 * 1024 * 1024, ge=1024, le=64 * 1024 * 1024)  # bytes
    document_age: Duration = Field(default=300.0, ge=0)  # seconds
    max_retry_after: Duration = Field(default=300.0, ge=0)  # seconds that a service may put off


class ShellSettings(Section):
    """`run: shell`."""

    enabled: bool = False
    commands: tuple[Command, ...] = ()
    environment: tuple[str, ...] = ()  # names that a definition may set
    max_output: Size = Field(default=1024 * 1024, ge=1024, le=64 * 1024 * 1024)  # bytes


class ScriptSettings(Section):
    """`run: script`."""

    enabled: bool = False
    python: Program | None = None  # interpreters
    js: Program | None = None
    max_output: Size = Field(default=1024 * 1024, ge=1024, le=64 * 1024 * 1024)  # bytes


class BuiltinSettings(Section):
    """Activities that come with the program."""

    http: HttpSettings = HttpSettings()
    shell: ShellSettings = ShellSettings()
    script: ScriptSettings = ScriptSettings()


class SecretsSettings(Section):
    """Where `$secrets` come from."""

    dir: Path | None = None


class Settings(Section):
    """All of it, resolved: paths absolute, durations in seconds, sizes in bytes."""

    path: Path  # the pool.toml it came from
    activities_dir: Path
    workflows_dir: Path
    supervisor: SupervisorSettings = SupervisorSettings()
    nats: NatsSettings = NatsSettings()
    orchestrator: OrchestratorSettings = OrchestratorSettings()
    builtin: BuiltinSettings = BuiltinSettings()
    secrets: SecretsSettings = SecretsSettings()
    worker_defaults: PoolSettings = PoolSettings()
    pools: dict[str, PoolSettings] = Field(default_factory=dict)  # tables of [workers.<name>]

    def pool(self, name: str) -> PoolSettings:
        """Settings of the pool `name`; the defaults where it has no table."""
        return self.pools.get(name, self.worker_defaults)

    def states(self, pool: str, key: str) -> bool:
        """True when the pool's own table (not [workers]) states `key`."""
        return pool in self.pools and key in self.pools[pool].model_fields_set


TOP_LEVEL_KEYS = ("activities_dir", "workflows_dir")
SECTIONS: dict[str, type[Section]] = {
    "supervisor": SupervisorSettings,
    "nats": NatsSettings,
    "orchestrator": OrchestratorSettings,
    "builtin": BuiltinSettings,
    "secrets": SecretsSettings,
    "workers": PoolSettings,
}


def keys_of(table: tuple[str, ...]) -> list[str]:
    """The keys allowed in a table of pool.toml, sub-tables included; () is the top level."""
    if not table:
        return [*TOP_LEVEL_KEYS, *SECTIONS]
    model: Any = SECTIONS.get(table[0])
    for depth, part in enumerate(table[1:], start=1):
        if not isinstance(model, type) or not issubclass(model, Section):
            return []
        field = model.model_fields.get(part)
        if field is not None:
            model = field.annotation
        elif not (model is PoolSettings and depth == 1):  # [workers.<pool>] has the same keys
            return []
    if not isinstance(model, type) or not issubclass(model, Section):
        return []
    return [key for key in model.model_fields if table != ("workers",) or key != "activities"]
