"""The real supervisor over fake children: `python fake_pool.py pool.toml [timing as JSON]`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from supervisor.main import run
from supervisor.policy.restart import Policy
from supervisor.policy.scaling import ScalingPolicy
from supervisor.processes.timing import Timing
from wf.errors import ConfigError

TABLE = {
    "orchestrator": "fake_entry_points:run",
    "monitor": "fake_entry_points:run",
    "worker": "fake_entry_points:run",
}


def timing(figures: dict[str, object]) -> Timing:
    worker = Policy(**figures.pop("worker", {}))  # type: ignore[arg-type]
    engine = Policy(**figures.pop("engine", {"intensity": 20}))  # type: ignore[arg-type]
    scaling = ScalingPolicy(**figures.pop("scaling", {}))  # type: ignore[arg-type]
    return Timing(worker=worker, engine=engine, scaling=scaling, **figures)  # type: ignore[arg-type]


if __name__ == "__main__":
    try:
        sys.exit(run(Path(sys.argv[1]), None, TABLE, timing(json.loads(sys.argv[2]))))
    except ConfigError as error:
        print(error, file=sys.stderr)
        sys.exit(78)
