"""How long things may take, and how often they may fail."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from supervisor.policy.restart import Policy
from supervisor.policy.scaling import ScalingPolicy

# Without the engine nothing works, so it is brought back sooner, and given up sooner.
ENGINE = Policy(max_delay_s=5.0, stable_s=1.0, intensity=20)


@dataclass(frozen=True, slots=True)
class Timing:
    """The figures that decide how long things may take and how often they may fail."""

    boot_timeout_s: float | None = None  # None: as each spec says
    engine_grace_s: float = 10.0  # for the orchestrator and the broker to leave
    watch_interval_s: float = 1.0
    starved_s: float = 30.0  # a worker that takes nothing for so long, though tasks wait, is stuck
    roll_proof_s: float = 30.0  # a new worker that gets no task to finish is trusted after that
    roll_blind_s: float = 3.0  # the same where nobody knows whether there are tasks
    worker: Policy = field(default_factory=Policy)
    engine: Policy = field(default_factory=lambda: ENGINE)
    scaling: ScalingPolicy = field(default_factory=ScalingPolicy)
    # how long a module's import may take: at the start of all, then while the other pools work
    imports_s: Sequence[float] = (3.0, 10.0, 30.0)
