"""Reload: read everything anew in a process of its own, and if it is good, apply what differs."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from loguru import logger

from supervisor.policy.spec import (
    Difference,
    difference,
    keeping_broken,
    restart_needed,
    settle,
)
from supervisor.processes.loop import Loop
from supervisor.processes.process import describe
from supervisor.processes.spawn import spawn
from supervisor.processes.tree import Tree
from supervisor.reload.configuration import IMPORTS_S, Configuration
from wf.errors import ConfigError
from wf.process.child import EXIT_CONFIG, EXIT_OK
from wf.settings import Settings

LONGEST_S = IMPORTS_S + 30.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What reading gave: a configuration, or all that is wrong with it."""

    configuration: Configuration | None
    problems: tuple[str, ...] = ()


class Validation:
    """A forked process that reads the configuration, so that nothing else has to wait for it."""

    def __init__(
        self, read: Callable[[], Configuration], loop: Loop, tree: Tree, now: float
    ) -> None:
        self.outcome: Outcome | None = None
        self.deadline = now + LONGEST_S
        self._loop = loop
        self._answer = bytearray()
        self._child = spawn(lambda fd: _answer(read, fd))
        assert self._child.report_fd is not None
        self._fd = self._child.report_fd
        loop.watch(self._fd, self._take)
        loop.watch(self._child.pidfd, lambda: None)
        tree.helpers[self._child.pid] = self._ended

    def _take(self) -> None:
        try:
            data = os.read(self._fd, 1 << 20)
        except BlockingIOError:
            return
        self._answer += data
        if not data:
            self._forget()

    def _forget(self) -> None:
        if self._fd >= 0:
            self._loop.forget(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _ended(self, status: int) -> None:
        while self._fd >= 0:
            before = len(self._answer)
            self._take()
            if len(self._answer) == before:
                break
        self._forget()
        self._loop.forget(self._child.pidfd)
        os.close(self._child.pidfd)
        if status in (EXIT_OK, EXIT_CONFIG) and self._answer:
            # Written by our own code in our own fork; modules run in processes further down.
            self.outcome = pickle.loads(bytes(self._answer))
        else:
            self.outcome = Outcome(None, (f"checking the configuration ended {describe(status)}",))

    def cancel(self) -> None:
        """End it; its outcome says so."""
        try:
            os.killpg(self._child.pid, 9)
        except ProcessLookupError:
            return


def _answer(read: Callable[[], Configuration], fd: int) -> int:
    os.set_blocking(fd, True)
    try:
        outcome = Outcome(read())
    except ConfigError as error:
        outcome = Outcome(None, tuple(error.problems))
    data = pickle.dumps(outcome)
    while data:
        data = data[os.write(fd, data) :]
    return EXIT_OK if outcome.configuration else EXIT_CONFIG


def merged(current: Settings, new: Configuration) -> tuple[Configuration, tuple[str, ...]]:
    """(`new`, but tables that cannot change while running as they were; those that did change)."""
    settings = new.settings.model_copy(
        update={"nats": current.nats, "supervisor": current.supervisor}
    )
    waiting = restart_needed(current, new.settings)
    return replace(new, settings=settings), tuple(waiting)


def reshape(
    tree: Tree, configuration: Configuration, counts: Mapping[str, int], now: float
) -> Difference:
    """Make the tree want what is asked for; starting, draining and rolling follow by themselves."""
    actual = [place.spec for place in tree.places.values()]
    broken = configuration.broken()
    wanted = keeping_broken(configuration.specs(counts), actual, frozenset(broken))
    change = difference(settle(wanted, actual, tree.load()), actual)
    for name in change.stop:
        tree.remove(name, now)
    for spec in change.replace:
        tree.change(spec)
    for spec in change.start:
        tree.add(spec)
    return change


def condemn_broken(tree: Tree, configuration: Configuration, now: float) -> None:
    """Hold back each pool that runs nothing and whose modules are known to be broken."""
    broken, late = configuration.broken(), configuration.late()
    for pool in list(tree.pools):
        places = tree.in_pool(pool)
        errors = [broken[path] for path in places[0].spec.modules if path in broken]
        if not errors:
            continue
        for path in places[0].spec.modules:
            if path in late:
                logger.bind(pool=pool, module=path, error=broken[path]).warning("module.late")
            elif path in broken:
                logger.bind(pool=pool, module=path, error=broken[path]).error("module.broken")
        if all(place.process is None for place in places):
            tree.condemn(pool, "\n".join(errors), now)


def forgive_failed(tree: Tree, broken: dict[str, str]) -> None:
    """After a reload, try again at once whatever failed for another reason than a broken module."""
    for name, pool in tree.pools.items():
        modules = tree.in_pool(name)[0].spec.modules
        if not any(path in broken for path in modules) and (
            pool.error or pool.breaker.open_until is not None
        ):
            tree.forgive(name)
