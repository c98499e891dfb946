"""What the operator has ordered at the control socket, kept over restarts of the supervisor.

A pool that was paused because a bank is down must not take up work again only because the
supervisor was restarted at night.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import orjson
from loguru import logger

from wf.errors import BrokerError
from wf.process.paths import write_private

NAME = "operator.json"


@dataclass(frozen=True, slots=True)
class Scaled:
    """A pool's count of processes by order, and what pool.toml said when it was given."""

    processes: int
    stated: str  # when pool.toml says something else, that is the later word


@dataclass(frozen=True, slots=True)
class Overrides:
    """All orders in force. Values: each change makes a new one."""

    scaled: Mapping[str, Scaled] = field(default_factory=dict)
    paused: frozenset[str] = frozenset()

    def scale(self, pool: str, processes: int, stated: str) -> Overrides:
        return replace(self, scaled={**self.scaled, pool: Scaled(processes, stated)})

    def unscale(self, pool: str) -> Overrides:
        return replace(self, scaled={n: one for n, one in self.scaled.items() if n != pool})

    def pause(self, pool: str) -> Overrides:
        return replace(self, paused=self.paused | {pool})

    def resume(self, pool: str) -> Overrides:
        return replace(self, paused=self.paused - {pool})

    def overtaken(self, stated: Mapping[str, str]) -> Overrides:
        """Without the counts that pool.toml has changed since. `stated`: pool → what it says."""
        kept = {
            name: one
            for name, one in self.scaled.items()
            if stated.get(name, one.stated) == one.stated
        }
        return replace(self, scaled=kept)


def read(state_dir: Path) -> Overrides:
    """The orders of an earlier run; none where the file is missing or cannot be understood."""
    path = state_dir / NAME
    try:
        document = orjson.loads(path.read_bytes())
        scaled = {
            str(name): Scaled(int(one["processes"]), str(one["stated"]))
            for name, one in document["scaled"].items()
        }
        return Overrides(scaled, frozenset(map(str, document["paused"])))
    except FileNotFoundError:
        return Overrides()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        logger.bind(path=str(path), error=repr(error)).error("overrides.unreadable")
        return Overrides()


def write(state_dir: Path, overrides: Overrides) -> str | None:
    """Keep them; the problem when that cannot be done."""
    document = {
        "scaled": {
            name: {"processes": one.processes, "stated": one.stated}
            for name, one in overrides.scaled.items()
        },
        "paused": sorted(overrides.paused),
    }
    try:
        write_private(state_dir / NAME, orjson.dumps(document, option=orjson.OPT_INDENT_2))
    except BrokerError as error:
        return str(error)
    return None
