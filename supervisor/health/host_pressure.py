"""What the host has left, as the kernel tells it."""

from __future__ import annotations

from pathlib import Path

from supervisor.health.process_usage import pss_bytes
from supervisor.policy.scaling import Host

PRESSURE = Path("/proc/pressure")
ASSUMED_WORKER_BYTES = 64 * 1024 * 1024  # of a pool that has no worker to measure


def look(worker_pids: list[int]) -> Host:
    """The host now, and what the largest of these workers uses of it."""
    used = [size for pid in worker_pids if (size := pss_bytes(pid)) is not None]
    return Host(
        cpu_pressure=pressure(PRESSURE / "cpu"),
        memory_pressure=pressure(PRESSURE / "memory"),
        available_bytes=available_bytes(),
        worker_bytes=max(used, default=ASSUMED_WORKER_BYTES),
    )


def pressure(path: Path) -> float | None:
    """Percent of the last ten seconds in which some task had to wait; None: the kernel does not
    tell (it was built or booted without)."""
    try:
        some = path.read_text().splitlines()[0].split()
        return float(next(one for one in some if one.startswith("avg10=")).partition("=")[2])
    except (OSError, IndexError, StopIteration, ValueError):
        return None


def available_bytes() -> int | None:
    """Memory to be had without swapping: the host's, or what our control group may still take."""
    left = [size for size in (_of_host(), _of_cgroup()) if size is not None]
    return min(left, default=None)


def _of_host() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def _of_cgroup() -> int | None:
    """None where nothing limits it (or with control groups of version 1)."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
        own = next(line for line in lines if line.startswith("0::"))
        folder = Path("/sys/fs/cgroup") / own[4:]
        limit = (folder / "memory.max").read_text().strip()
        return int(limit) - int((folder / "memory.current").read_text())
    except (OSError, StopIteration, ValueError):  # "max": no limit
        return None
