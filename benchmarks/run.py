"""`make bench`: the figures of docs/benchmarks.md that this version has, as JSON.

    python -m benchmarks [--runs 5] [--only throughput,latency,…] [--out FILE]

Each figure is the median, minimum and maximum of several runs against one pool.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import uvloop

from benchmarks import flows, machine, operating
from benchmarks.crash import measure_crash, measure_slot
from benchmarks.events import measure_events
from benchmarks.load import latency, throughput
from benchmarks.size import measure_size
from benchmarks.timers import measure_timers
from benchmarks.tree import Tree, running

FIVE_STEP_INSTANCES = 2_000
ONE_STEP_INSTANCES = 4_000
ONE_AT_A_TIME = 200
FORKS = {"fork_200": (200, 40), "fork_1000": (1_000, 15)}  # branches, instances for each run
IDLE_S = 2.0  # nothing to wait for: what is measured is a tree left alone

JsonObject = dict[str, Any]


def main() -> int:
    arguments = _arguments()
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    wanted = arguments.only.split(",") if arguments.only else list(MEASUREMENTS)
    report: JsonObject = {"cpus": os.cpu_count(), "runs": arguments.runs}
    for name in wanted:
        report[name] = MEASUREMENTS[name](arguments.runs)
        print(name, json.dumps(report[name]), file=sys.stderr, flush=True)
    text = json.dumps(report, indent=2)
    print(text)
    if arguments.out:
        Path(arguments.out).write_text(text + "\n")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", help=f"comma-separated, of: {', '.join(MEASUREMENTS)}")
    parser.add_argument("--out", help="also write the JSON to this file")
    return parser.parse_args()


def measure_throughput(runs: int) -> JsonObject:
    """Five steps in sequence, many instances at once: steps/s, and CPU per step by process."""
    return _rate(runs, "five", FIVE_STEP_INSTANCES, steps=5)


def measure_single(runs: int) -> JsonObject:
    """Workflows of one activity, many at once: workflows/s."""
    return _rate(runs, "one", ONE_STEP_INSTANCES, steps=1)


def _rate(runs: int, workflow: str, count: int, *, steps: int) -> JsonObject:
    with running() as tree:
        os.environ.update(tree.environment)
        asyncio.run(throughput(tree.config, workflow, count // 4))  # warm up
        rates: list[float] = []
        cpu: list[dict[str, float]] = []
        for _ in range(runs):
            before, own = tree.cpu_s(), time.process_time()
            taken_s = asyncio.run(throughput(tree.config, workflow, count))
            after = tree.cpu_s()
            rates.append(count * steps / taken_s)
            used = {name: after[name] - before.get(name, 0.0) for name in after}
            used["client"] = time.process_time() - own
            cpu.append({name: seconds * 1e6 / (count * steps) for name, seconds in used.items()})
        return {
            "per_s": _spread(rates),
            "cpu_us_per_step": {
                name: _spread([one[name] for one in cpu if name in one]) for name in cpu[0]
            },
        }


def measure_latency(runs: int) -> JsonObject:
    """Five steps, one instance at a time: milliseconds from start to end."""
    with running() as tree:
        os.environ.update(tree.environment)
        asyncio.run(latency(tree.config, "five", 20))  # warm up
        p50: list[float] = []
        p99: list[float] = []
        for _ in range(runs):
            taken = [1000 * s for s in asyncio.run(latency(tree.config, "five", ONE_AT_A_TIME))]
            p50.append(statistics.median(taken))
            p99.append(statistics.quantiles(taken, n=100)[98])
        return {"p50_ms": _spread(p50), "p99_ms": _spread(p99)}


def measure_fork(runs: int) -> JsonObject:
    """A fork of so many calls, one instance at a time: milliseconds from start to end."""
    report: JsonObject = {}
    with running() as tree:
        os.environ.update(tree.environment)
        for name, (branches, count) in FORKS.items():
            asyncio.run(flows.deploy(tree.config, name, flows.fork(branches)))
            asyncio.run(latency(tree.config, name, 5))  # warm up
            medians: list[float] = []
            for _ in range(runs):
                taken = asyncio.run(latency(tree.config, name, count))
                medians.append(1000 * statistics.median(taken))
            report[f"{name}_p50_ms"] = _spread(medians)
    return report


def measure_restart(runs: int) -> JsonObject:
    """kill -9 of a worker; from the fork of its replacement until that is ready, in ms."""
    with running() as tree:
        taken = [_restart_ms(tree) for _ in range(runs)]
        return {"ready_ms": _spread(taken)}


def _restart_ms(tree: Tree) -> float:
    (victim,) = [one for one in tree.processes() if one["role"] == "worker"]
    os.kill(victim["pid"], signal.SIGKILL)
    give_up = time.monotonic() + 30
    while time.monotonic() < give_up:
        (worker,) = [one for one in tree.status()["processes"] if one["role"] == "worker"]
        if worker["pid"] not in (None, victim["pid"]) and worker["state"] == "ready":
            return float(worker["boot_ms"])
        time.sleep(0.05)
    raise TimeoutError("the worker did not come back")


def measure_memory(runs: int) -> JsonObject:
    """PSS of the idle tree with four workers, in MB, by process and in all; the guard included.

    Pages of programs and libraries are shared with whatever else runs on the host, which makes the
    sum smaller than it is on a host of one's own. `anonymous_mb` leaves them out.
    """
    totals: list[float] = []
    anonymous: list[float] = []
    by_name: dict[str, list[float]] = {}
    for _ in range(runs):
        with running(WF_WORKERS__NOOP__PROCESSES="4") as tree:
            time.sleep(IDLE_S)
            maps = {name: _rollup(pid) for name, pid in _pids(tree).items()}
        totals.append(sum(one["Pss"] for one in maps.values()))
        anonymous.append(sum(one["Pss_Anon"] for one in maps.values()))
        for name, one in maps.items():
            by_name.setdefault(name, []).append(one["Pss"])
    return {
        "pss_mb": _spread(totals),
        "anonymous_mb": _spread(anonymous),
        "by_process_mb": _rounded(
            {name: statistics.median(all_) for name, all_ in by_name.items()}
        ),
    }


def measure_spawn(runs: int) -> JsonObject:
    """One fork, in ms: as the supervisor sees it, and until the child has cleaned up and left."""
    parent, whole = operating.fork_ms()
    return {"supervisor_ms": _spread(parent), "child_gone_ms": _spread(whole)}


def measure_pss(runs: int) -> JsonObject:
    """PSS of the whole idle tree, in MB, by count of workers."""
    return {
        f"{workers}_workers_mb": _spread([operating.idle_pss_mb(workers) for _ in range(runs)])
        for workers in (4, 8, operating.MANY)
    }


def measure_idle(runs: int) -> JsonObject:
    """CPU of an idle tree with 64 workers, in percent of one core, by role."""
    all_ = [operating.idle_cpu_percent(operating.MANY) for _ in range(runs)]
    return {f"{role}_percent": _spread([one[role] for one in all_]) for role in all_[0]}


def measure_reload(runs: int) -> JsonObject:
    """64 idle workers replaced one by one after a change of their module, in seconds."""
    return {"all_replaced_s": _spread([operating.reload_s(operating.MANY) for _ in range(runs)])}


def measure_machine(runs: int) -> JsonObject:
    """Steps a second of the machine alone, and µs for a step that is made ready to be stored, by
    the size of an instance's context."""
    return {
        name: {
            "steps_per_s": _spread([machine.steps_per_s(size) for _ in range(runs)]),
            "stored_step_us": _spread([machine.stored_step_us(size) for _ in range(runs)]),
        }
        for name, size in machine.SIZES.items()
    }


def _pids(tree: Tree) -> dict[str, int]:
    """Every process of the tree, also those that `status` does not tell, such as the guard."""
    supervisor = psutil.Process(tree.supervisor.pid)
    named = {one["pid"]: one["name"] for one in tree.processes()}
    children = supervisor.children(recursive=True)
    names = {named.get(one.pid, one.name()): one.pid for one in children}
    return {"supervisor": supervisor.pid, **names}


def _rollup(pid: int) -> dict[str, float]:
    """Sums over all mappings of a process, in MB (Linux)."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    return {name.rstrip(":"): int(kib) * 1024 / 1e6 for name, kib, _ in map(str.split, lines)}


def _spread(values: list[float]) -> JsonObject:
    return _rounded({"median": statistics.median(values), "min": min(values), "max": max(values)})


def _rounded(values: dict[str, float]) -> JsonObject:
    return {name: round(value, 2 if value < 100 else 0) for name, value in values.items()}


MEASUREMENTS: dict[str, Callable[[int], JsonObject]] = {
    "throughput": measure_throughput,
    "latency": measure_latency,
    "single": measure_single,
    "fork": measure_fork,
    "restart": measure_restart,
    "crash": measure_crash,
    "slot": measure_slot,
    "memory": measure_memory,
    "spawn": measure_spawn,
    "pss": measure_pss,
    "idle": measure_idle,
    "reload": measure_reload,
    "events": measure_events,
    "machine": measure_machine,
    "timers": measure_timers,
    "size": measure_size,
}

if __name__ == "__main__":
    sys.exit(main())
