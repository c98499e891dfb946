"""The real supervisor with other timing: `python impatient_pool.py pool.toml [timing as JSON]`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from supervisor.main import run
from supervisor.tree import Timing

if __name__ == "__main__":
    sys.exit(run(Path(sys.argv[1]), timing=Timing(**json.loads(sys.argv[2]))))
