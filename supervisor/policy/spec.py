"""What should run, and how that differs from what does: pure functions on plain values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Protocol

from wf.settings import PoolSettings, Settings

BROKER, ORCHESTRATOR, MONITOR, WORKER = "broker", "orchestrator", "monitor", "worker"

# Started in this order, each stage when the one before is ready; stopped in the reverse order.
# Nobody waits for the monitor: work goes on without it.
STAGES = (BROKER, ORCHESTRATOR, MONITOR, WORKER)
ENGINE_ROLES = frozenset({BROKER, ORCHESTRATOR})
BOOT_S = 60.0
ENGINE_HANG_S = 60.0  # a group of slow expressions may keep it busy for long


class PoolLike(Protocol):
    """wf.pools.Pool, as far as it matters here."""

    @property
    def name(self) -> str: ...
    @property
    def activities(self) -> tuple[str, ...]: ...
    @property
    def modules(self) -> tuple[str, ...]: ...
    @property
    def settings(self) -> PoolSettings: ...


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """One place of the tree: what to run there. Equal fingerprints need no replacement."""

    name: str
    role: str
    pool: str  # of a worker its pool's name, else the role
    index: int
    fingerprint: str = ""
    activities: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    settings: PoolSettings | None = None  # of a worker

    @property
    def stage(self) -> int:
        return STAGES.index(self.role)

    @property
    def is_engine(self) -> bool:
        return self.role in ENGINE_ROLES

    @property
    def is_worker(self) -> bool:
        return self.role == WORKER

    @property
    def boot_s(self) -> float:
        """It has to be ready after so many seconds."""
        return self.settings.boot_timeout if self.settings else BOOT_S

    @property
    def hang_s(self) -> float:
        """Its event loop has to turn within so many seconds."""
        return self.settings.hang_s if self.settings else ENGINE_HANG_S


def desired(
    settings: Settings,
    pools: Iterable[PoolLike],
    fingerprints: Mapping[str, str],
    counts: Mapping[str, int] | None = None,
) -> list[ChildSpec]:
    """Every place that `settings` ask for. `fingerprints`: module path → hash of its text.

    `counts`: pool → processes, where that is decided elsewhere (by the operator, or by the load).
    """
    specs: list[ChildSpec] = []
    if settings.nats.embedded:
        specs.append(ChildSpec(BROKER, BROKER, BROKER, 0))
    specs += _orchestrators(settings)
    specs.append(ChildSpec(MONITOR, MONITOR, MONITOR, 0))
    for pool in pools:
        count = (counts or {}).get(pool.name, pool.settings.fewest)
        specs += _workers(pool, fingerprints, count)
    return specs


def _orchestrators(settings: Settings) -> list[ChildSpec]:
    count = settings.orchestrator.processes
    own = settings.orchestrator.model_dump_json(exclude={"processes"})
    fingerprint = _hash(f"{own}\n{settings.workflows_dir}")
    return [
        ChildSpec(
            ORCHESTRATOR if index == 0 else f"{ORCHESTRATOR} #{index}",
            ORCHESTRATOR,
            ORCHESTRATOR,
            index,
            fingerprint,
        )
        for index in range(count)
    ]


def _workers(pool: PoolLike, fingerprints: Mapping[str, str], count: int) -> list[ChildSpec]:
    modules = tuple(str(path) for path in pool.modules)
    activities = tuple(pool.activities)
    parts = [pool.settings.model_dump_json(exclude={"processes"}), *activities]
    parts += [f"{path}={fingerprints.get(path, '')}" for path in modules]
    fingerprint = _hash("\n".join(parts))
    return [
        ChildSpec(
            worker_name(pool.name, index),
            WORKER,
            pool.name,
            index,
            fingerprint,
            activities,
            modules,
            pool.settings,
        )
        for index in range(count)
    ]


def worker_name(pool: str, index: int) -> str:
    return f"{WORKER} {pool} #{index}"


def _hash(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:16]


def is_named(wanted: str, name: str, pid: int | None) -> bool:
    """Whether a person who writes `wanted` means the process `name`: `worker mail #0`, `mail #0`,
    `mail#0` (a lone # begins a comment in shells), or its pid."""
    short = name.removeprefix(f"{WORKER} ")
    return wanted in (name, short, short.replace(" #", "#")) or wanted == str(pid)


@dataclass(frozen=True, slots=True)
class Difference:
    """What to do so that the tree becomes what is wanted, in the order to do it."""

    start: tuple[ChildSpec, ...]
    stop: tuple[str, ...]  # names, newest (highest index) first
    replace: tuple[ChildSpec, ...]  # same name, another fingerprint

    def __bool__(self) -> bool:
        return bool(self.start or self.stop or self.replace)


def difference(wanted: Sequence[ChildSpec], actual: Sequence[ChildSpec]) -> Difference:
    """Start, stop and replace only what differs."""
    have = {spec.name: spec for spec in actual}
    want = {spec.name: spec for spec in wanted}
    leaving = [spec for spec in actual if spec.name not in want]
    leaving.sort(key=lambda spec: (-spec.stage, spec.pool, -spec.index))
    return Difference(
        start=tuple(spec for spec in wanted if spec.name not in have),
        stop=tuple(spec.name for spec in leaving),
        replace=tuple(
            spec
            for spec in wanted
            if spec.name in have and have[spec.name].fingerprint != spec.fingerprint
        ),
    )


def settle(
    wanted: Sequence[ChildSpec], actual: Sequence[ChildSpec], load: Mapping[str, int]
) -> list[ChildSpec]:
    """`wanted`, its workers renumbered so that of each pool the right ones leave.

    The number of a worker is only its name. `load`: place → tasks that run there, −1 where nothing
    runs. Who leaves first: the empty, then the idle, then those with the fewest tasks; of equals
    the newest. New places take the lowest free numbers.
    """
    pools: dict[str, list[ChildSpec]] = {}
    for spec in actual:
        if spec.role == WORKER:
            pools.setdefault(spec.pool, []).append(spec)
    settled: list[ChildSpec] = []
    numbers: dict[str, Iterator[int]] = {}
    for spec in wanted:
        if spec.role != WORKER:
            settled.append(spec)
            continue
        if spec.pool not in numbers:
            count = sum(1 for other in wanted if other.role == WORKER and other.pool == spec.pool)
            have = sorted(
                pools.get(spec.pool, ()), key=lambda one: (-load.get(one.name, -1), one.index)
            )
            numbers[spec.pool] = iter(_numbers(count, [one.index for one in have]))
        index = next(numbers[spec.pool])
        settled.append(replace(spec, name=worker_name(spec.pool, index), index=index))
    return settled


def _numbers(count: int, taken: Sequence[int]) -> list[int]:
    """`count` numbers: of `taken` the first ones, then the lowest that are free."""
    kept = list(taken[:count])
    free = (number for number in range(count + len(taken)) if number not in taken)
    return sorted(kept + [next(free) for _ in range(count - len(kept))])


def keeping_broken(
    wanted: Sequence[ChildSpec], actual: Sequence[ChildSpec], broken: frozenset[str]
) -> list[ChildSpec]:
    """`wanted`, but pools that run modules which are now `broken` stay as they are.

    Old workers hold the old code in memory and go on working; a module that cannot even be parsed
    no longer names its activities, and must not make its pool vanish.
    """
    kept = {spec.pool for spec in actual if spec.role == WORKER and broken & set(spec.modules)}
    return [spec for spec in wanted if spec.pool not in kept or spec.role != WORKER] + [
        spec for spec in actual if spec.pool in kept and spec.role == WORKER
    ]


def restart_needed(old: Settings, new: Settings) -> list[str]:
    """Tables whose change only takes effect when the supervisor itself is restarted."""
    return [
        table
        for table, before, after in (
            ("[nats]", old.nats, new.nats),
            ("[supervisor]", old.supervisor, new.supervisor),
        )
        if before != after
    ]
