"""What an operator may order at the control socket, and what becomes of it.

Each order is checked, carried out at once or begun, and answered with a sentence (`done`) or with
what is wrong (`error`). Whoever asks can then watch `status` until it has come about.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from difflib import get_close_matches
from shlex import quote
from typing import Any

from loguru import logger

from supervisor.control import overrides
from supervisor.control.overrides import Overrides
from supervisor.control.socket import Command
from supervisor.policy.spec import WORKER, is_named
from supervisor.processes.seat import Place
from supervisor.processes.tree import Tree
from supervisor.reload.configuration import Configuration
from wf.settings.models import MOST_PROCESSES

Answer = dict[str, Any]
Done = tuple[str, str]  # the pool that it is about, and a sentence


class Refused(Exception):
    """The order cannot be carried out; says why and what would be possible."""


class Steering:
    """The orders in force, and the commands that give new ones."""

    def __init__(
        self,
        tree: Tree,
        configuration: Callable[[], Configuration],
        reshape: Callable[[float], None],
    ) -> None:
        """`reshape`: make the tree want as many processes as are in force now."""
        self._tree = tree
        self._configuration = configuration
        self._reshape = reshape
        self.overrides = overrides.read(self._state_dir)
        self.commands: dict[str, Command] = {
            name: self._guarded(name, order)
            for name, order in (
                ("scale", self._scale),
                ("pause", self._pause),
                ("resume", self._resume),
                ("drain", self._drain),
                ("restart", self._restart),
            )
        }

    @property
    def _state_dir(self) -> Any:
        return self._configuration().settings.supervisor.state_dir

    def counts(self) -> dict[str, int]:
        """Pool → processes, of the pools that the operator has scaled."""
        return {name: one.processes for name, one in self.overrides.scaled.items()}

    def configured(self) -> None:
        """pool.toml was read: where it has changed a count since, it has the later word."""
        before = self.overrides
        self._keep(before.overtaken(self._configuration().stated_counts()))
        for name in before.scaled.keys() - self.overrides.scaled.keys():
            logger.bind(pool=name).info("pool.scale.overtaken")

    def _guarded(self, name: str, order: Callable[[Answer, float], Done]) -> Command:
        def command(request: Answer) -> Answer:
            try:
                if self._tree.closing:
                    raise Refused("the supervisor is stopping")
                pool, done = order(request, time.monotonic())
            except Refused as refusal:
                return {"error": str(refusal)}
            logger.bind(command=name, done=done).info("operator.order")
            return {"done": done, "pool": pool}

        return command

    def _keep(self, changed: Overrides) -> None:
        if changed != self.overrides:
            self.overrides = changed
            if problem := overrides.write(self._state_dir, changed):
                logger.bind(error=problem).error("overrides.not_kept")

    # Orders

    def _scale(self, request: Answer, now: float) -> Done:
        pool = self._pool(request)
        count = request.get("processes")
        if count is None:
            self._keep(self.overrides.unscale(pool))
            self._reshape(now)
            return pool, f"pool {pool}: as pool.toml says"
        if not isinstance(count, int) or not 0 <= count <= MOST_PROCESSES:
            raise Refused(
                f"scale {pool}: say a number of processes from 0 to {MOST_PROCESSES}, or `auto`"
            )
        before = len(self._tree.in_pool(pool)) if pool in self._tree.pools else 0
        stated = self._configuration().stated_counts()[pool]
        self._keep(self.overrides.scale(pool, count, stated))
        self._reshape(now)
        return pool, (
            f"pool {pool}: {before} → {count} processes, until pool.toml states another count"
            f" or `scale {pool} auto`"
        )

    def _pause(self, request: Answer, now: float) -> Done:
        pool = self._pool(request)
        if pool in self.overrides.paused:
            return pool, f"pool {pool} is paused already"
        self._keep(self.overrides.pause(pool))
        self._tree.pause(self.overrides.paused, now)
        return pool, f"pool {pool} is paused: what it has begun is finished, its tasks wait"

    def _resume(self, request: Answer, now: float) -> Done:
        pool = self._pool(request)
        held = [place for place in self._tree.in_pool(pool) if place.held]
        if pool not in self.overrides.paused and not held:
            return pool, f"pool {pool} is not paused"
        self._keep(self.overrides.resume(pool))
        self._tree.pause(self.overrides.paused, now)
        for place in held:
            place.held = False
        return pool, f"pool {pool} takes tasks again"

    def _drain(self, request: Answer, now: float) -> Done:
        name = str(request.get("name", ""))
        if name in self._worker_pools():
            return self._pause({"pool": name}, now)
        place = self._place(name)
        if place.spec.role != WORKER:
            raise Refused(
                f"{place.spec.name} is no worker and cannot be missed: `restart` replaces it"
            )
        place.held = True
        self._tree.vacate(place, now)
        return place.spec.pool, (
            f"{place.spec.name} finishes what it has begun and leaves; its place stays empty until"
            f" `restart {quote(_short(place))}` or `resume {place.spec.pool}`"
        )

    def _restart(self, request: Answer, now: float) -> Done:
        name = str(request.get("name", ""))
        pools = [pool for pool in self._tree.pools if pool == name]
        places = self._tree.in_pool(name) if pools else [self._place(name)]
        pool = places[0].spec.pool
        if pool in self.overrides.paused:
            raise Refused(f"pool {pool} is paused: `resume {pool}` first")
        self._tree.forgive(pool)
        for place in places:
            place.held = False
            place.renew_below = place.generation
        if places[0].spec.role != WORKER:
            return pool, f"{name} is ended and started again"
        if pools:
            return pool, f"pool {pool}: its processes are replaced one by one"
        return pool, f"{places[0].spec.name} is replaced: a new one first, then the old one drains"

    # Names

    def _worker_pools(self) -> list[str]:
        return [pool.name for pool in self._configuration().pools]

    def _pool(self, request: Answer) -> str:
        name = str(request.get("pool", ""))
        pools = self._worker_pools()
        if name in pools:
            return name
        if name in self._tree.pools:
            raise Refused(f"{name} is not a pool of workers: they are {', '.join(pools)}")
        raise Refused(f"there is no pool {name!r}{_meant(name, pools)}: {', '.join(pools)}")

    def _place(self, name: str) -> Place:
        """By its name, with or without `worker`, or by its pid."""
        for place in self._tree.places.values():
            for process in (place.process, place.successor):
                if is_named(name, place.spec.name, process.pid if process else None):
                    return place
        known = [_short(place) for place in self._tree.places.values()]
        known += [pool for pool in self._worker_pools() if pool not in known]
        raise Refused(f"there is no process or pool {name!r}{_meant(name, known)}: see `status`")


def _short(place: Place) -> str:
    return place.spec.name.removeprefix(f"{WORKER} ")


def _meant(name: str, known: list[str]) -> str:
    close = get_close_matches(name, known, n=1, cutoff=0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""
