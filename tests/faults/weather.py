"""What happens to the pool, when, and for how long: drawn from a seed. Pure."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import NamedTuple

PROCESSES = ("worker", "orchestrator", "monitor", "supervisor", "broker")
KILLED = tuple(f"kill {kind}" for kind in PROCESSES)
STOPPED = ("stop worker", "stop orchestrator", "stop broker")
CHANGED = ("reload module", "reload settings", "scale")
CABLE = ("cut", "hold", "tear", "forget")
DISK = ("disk full",)

GAP_S = (0.2, 3.0)  # between the end of one and the beginning of the next
LASTS_S = {
    **dict.fromkeys(STOPPED, (0.5, 3.0)),
    "cut": (0.2, 5.0),
    "hold": (0.2, 5.0),
    "disk full": (1.0, 4.0),
}


class Squall(NamedTuple):
    """One fault: `after_s` the one before is over, and for so long."""

    what: str
    after_s: float
    lasts_s: float
    chance: float  # 0 to 1, to pick whom it meets


def forecast(seed: str, seconds: float, kinds: Sequence[str]) -> list[Squall]:
    """Faults for about so long: each kind once, in some order, then whatever comes."""
    chance = random.Random(seed)
    left_s = seconds
    found: list[Squall] = []
    pending: list[str] = []
    while left_s > 0:
        if not pending:
            pending = chance.sample(list(kinds), len(kinds))
        what = pending.pop()
        squall = Squall(
            what,
            chance.uniform(*GAP_S),
            chance.uniform(*LASTS_S.get(what, (0.0, 0.0))),
            chance.random(),
        )
        found.append(squall)
        left_s -= squall.after_s + squall.lasts_s
    return found
