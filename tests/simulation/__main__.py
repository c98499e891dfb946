"""Run seeds by hand: one with its trace, or many until one fails."""

from __future__ import annotations

import argparse
import os
import secrets
import subprocess
import sys
import time

from tests.simulation import world


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="run this one and print what happened")
    parser.add_argument("--quiet", action="store_true", help="with --seed: only the verdict")
    parser.add_argument("--count", type=int, help="run as many, from seed 1 on")
    parser.add_argument(
        "--seconds", type=float, default=0, help="run seeds at random for so long; 0: until stopped"
    )
    parser.add_argument("--jobs", type=int, default=1, help="processes that run side by side")
    options = parser.parse_args()
    if os.environ.get("PYTHONHASHSEED") != "0":  # the order of sets is part of what happens
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [sys.executable, "-m", "tests.simulation", *sys.argv[1:]])
    if options.seed is not None:
        return show(options.seed, traced=not options.quiet)
    if options.jobs > 1:
        if options.count is not None:
            parser.error("--count is for one process: leave --jobs out, or give --seconds")
        return side_by_side(options.jobs, options.seconds)
    return many(options.count, options.seconds)


def show(seed: int, *, traced: bool) -> int:
    report = world.run(seed, traced=traced)
    print("\n".join(report.trace))
    print(report.plan)
    print(
        f"seed {seed}: {report.steps} steps, {report.seconds:.1f} s, {report.commits} commits, "
        f"{report.lives} lives"
    )
    for problem in report.problems:
        print(f"PROBLEM: {problem}")
    return 1 if report.problems else 0


def side_by_side(jobs: int, seconds: float) -> int:
    """Several processes, until one of them fails."""
    command = [sys.executable, "-m", "tests.simulation", "--seconds", str(seconds)]
    running = [subprocess.Popen(command) for _ in range(jobs)]
    try:
        while all(one.poll() is None for one in running):
            time.sleep(0.2)
        failed = [one for one in running if one.poll()]
        if not failed:  # the time is up for all of them
            failed = [one for one in running if one.wait()]
        return 1 if failed else 0
    finally:
        for one in running:
            if one.poll() is None:
                one.terminate()


def many(count: int | None, seconds: float) -> int:
    """Until one fails, or `count` or `seconds` are used up; without either, for ever."""
    began, done, steps = time.monotonic(), 0, 0
    while (count is None or done < count) and (not seconds or time.monotonic() - began < seconds):
        seed = done + 1 if count is not None else secrets.randbits(40)
        report = world.run(seed)
        done, steps = done + 1, steps + report.steps
        if report.problems:
            print(f"seed {seed} fails: {report.problems[0]}")
            print(f"repeat it with: {sys.executable} -m tests.simulation --seed {seed}")
            return 1
    print(f"{done} seeds, {steps} steps in {time.monotonic() - began:.1f} s: all well")
    return 0


if __name__ == "__main__":
    sys.exit(main())
