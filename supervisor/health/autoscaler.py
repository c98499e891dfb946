"""Pools that follow their load: gathers what the decision needs, and remembers what it was."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from loguru import logger

from supervisor.health import host_pressure
from supervisor.policy.scaling import Bounds, Host, Scaling, ScalingPolicy, decide
from supervisor.processes.process import READY
from supervisor.processes.tree import Tree
from supervisor.reload.configuration import Configuration
from wf.settings.models import ProcessRange
from wf.settings.pools import Pool

LOOK_S = 1.0


class Autoscaler:
    """Decides for every pool whose `processes` is a range and that the operator has not scaled."""

    def __init__(
        self, tree: Tree, configuration: Callable[[], Configuration], policy: ScalingPolicy
    ) -> None:
        self._tree = tree
        self._configuration = configuration
        self._policy = policy
        self._pools: dict[str, Scaling] = {}
        self._next_look = 0.0

    def counts(self) -> dict[str, int]:
        """Pool → processes, of the pools that follow their load."""
        return {name: state.target for name, state in self._pools.items()}

    def told(self) -> Mapping[str, dict[str, Any]]:
        """Pool → why it has as many as it has, for status."""
        return {
            name: {"target": state.target, "reason": state.reason, "vetoed": state.vetoed}
            for name, state in self._pools.items()
        }

    def look(self, ordered: Mapping[str, int], now: float) -> bool:
        """Decide anew, if it is time; whether any count has changed. `ordered`: by the operator."""
        if now < self._next_look:
            return False
        self._next_look = now + LOOK_S
        ranges = {
            pool.name: pool
            for pool in self._configuration().pools
            if isinstance(pool.settings.processes, ProcessRange) and pool.name not in ordered
        }
        before = self.counts()
        self._pools = {name: self._decided(pool, now) for name, pool in ranges.items()}
        return self.counts() != before

    def _decided(self, pool: Pool, now: float) -> Scaling:
        bounds = Bounds(pool.settings.fewest, pool.settings.most)
        places = self._tree.in_pool(pool.name)
        running = len(places) if places else bounds.fewest  # after an order: from where it is
        state = self._pools.get(pool.name) or Scaling(max(bounds.fewest, running))
        tree_pool = self._tree.pools.get(pool.name)
        if tree_pool is not None and (tree_pool.paused or tree_pool.breaker.open_until is not None):
            return state  # it cannot show what it needs
        ready = [p.process.pid for p in places if p.process and p.process.state == READY]
        waiting = self._tree.backlog.of_pool(pool.activities, now)
        # Only who wants to grow has to know what the host has left.
        looked = (
            host_pressure.look(ready[:3]) if waiting is not None and waiting.pending else Host()
        )
        new = decide(
            state,
            waiting,
            len(ready),
            pool.settings.concurrency,
            bounds,
            looked,
            now,
            self._policy,
        )
        self._tell(pool.name, state, new)
        return new

    def _tell(self, pool: str, old: Scaling, new: Scaling) -> None:
        log = logger.bind(pool=pool, reason=new.reason)
        if new.target != old.target:
            log.bind(before=old.target, processes=new.target).info("pool.scaled")
        elif new.vetoed and not old.vetoed:
            log.bind(processes=new.target).warning("pool.scale.vetoed")
