"""What the supervisor does before it forks must leave nothing that a fork would trip over."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

# libuv keeps a pipe for the whole process once any loop was made. In every fork it closes these two
# numbers and makes them anew, also in a fork of a child that has given them to something else.
PROGRAM = """
import os
from supervisor.roles import TABLE, resolve

before = sorted(os.listdir("/proc/self/fd"))
resolve(TABLE)
assert sorted(os.listdir("/proc/self/fd")) == before, "descriptors stay open"
assert len(os.listdir("/proc/self/task")) == 1, "threads stay"
os.closerange(3, 64)
pipes = [os.pipe() for _ in range(8)]
pid = os.fork()
if pid == 0:
    for _, writing in pipes:
        os.write(writing, b"mine")
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, "a fork lost its descriptors"
assert all(os.read(reading, 9) == b"mine" for reading, _ in pipes)
"""


def test_a_fork_of_a_fork_keeps_its_own_descriptors() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
