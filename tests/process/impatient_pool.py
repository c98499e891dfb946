"""The real supervisor with other timing: `python impatient_pool.py pool.toml [timing as JSON]`.

The kernel's count of memory kills is what the file `oom_kill` beside pool.toml says.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from supervisor.main import run
from supervisor.processes import oom_kills
from supervisor.processes.timing import Timing


def memory_kills(beside: Path) -> None:
    """Let the tests play the kernel."""
    counter = beside / "oom_kill"
    counter.write_text("oom_kill 0\n")
    killer = oom_kills.MemoryKiller.__init__
    killer.__defaults__ = (lambda: oom_kills.counted(counter),)


if __name__ == "__main__":
    memory_kills(Path(sys.argv[1]).parent)
    sys.exit(run(Path(sys.argv[1]), timing=Timing(**json.loads(sys.argv[2]))))
