"""The main job on a fresh machine: start the pool, run real orders, kill things, show the result.

Run by `make demo`. It starts a supervisor with its own state directory and broker port, so that it
disturbs nothing, uses the same commands that a user types, and removes everything when it ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
READY_LIMIT_S = 30.0
ORDERS = 20

GOOD = {"order_id": 4711, "items": [{"sku": "A1", "qty": 2}], "card": "4242"}
UNSTEADY = {"order_id": 4712, "items": [{"sku": "A1", "qty": 1}], "card": "4444"}
DECLINED = {"order_id": 4714, "items": [{"sku": "B7", "qty": 1}], "card": "4000"}


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="wf-demo-") as folder, pool(Path(folder)) as config:
        say("The pool is up: one orchestrator, the embedded broker, one worker per activity type.")
        show("wf-supervisor", "--config", str(config), "status")

        say("An order, start to end. The output is the workflow's.")
        start_and_show("order-4711", GOOD)
        say("What happened to it, from its history:")
        show("wf", "history", "order-4711")

        say("An order whose payment is not answered at first: the same charge, tried again.")
        start_and_show("order-4712", UNSTEADY)

        say("An order whose card is declined: the definition catches the error.")
        start_and_show("order-4714", DECLINED)

        say(f"{ORDERS} orders, while a worker and the orchestrator are killed with SIGKILL.")
        lost = orders_under_fire(config)
        show("wf", "list", "--limit", "5")
        show("wf-supervisor", "--config", str(config), "status")
    if lost:
        print(f"\n{lost} of {ORDERS} orders did not complete.")
        return 1
    say(f"All {ORDERS} orders completed. Nothing is left running; the demo's state is removed.")
    return 0


@contextlib.contextmanager
def pool(folder: Path) -> Iterator[Path]:
    """A running supervisor on a free port with its state in `folder`; stopped at the end."""
    os.environ["WF_SUPERVISOR__STATE_DIR"] = str(folder / "state")
    os.environ["WF_NATS__STORE_DIR"] = str(folder / "store")
    os.environ["WF_NATS__PORT"] = "0"
    config = ROOT / "config" / "pool.toml"
    os.environ["WF_CONFIG"] = str(config)
    log = folder / "supervisor.log"
    say("$ wf-supervisor --config config/pool.toml")
    with log.open("wb") as sink:
        process = subprocess.Popen(
            [BIN / "wf-supervisor", "--config", str(config)], stdout=sink, stderr=sink
        )
    try:
        wait_ready(process, log)
        yield config
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)


def wait_ready(process: subprocess.Popen[bytes], log: Path) -> None:
    """Until every process of the tree says that it is ready."""
    give_up = time.monotonic() + READY_LIMIT_S
    while time.monotonic() < give_up and process.poll() is None:
        processes = status().get("processes", [])
        if processes and all(one["state"] == "ready" for one in processes):
            return
        time.sleep(0.1)
    sys.exit(f"the pool did not become ready; its log:\n{log.read_text()[-4000:]}")


def orders_under_fire(config: Path) -> int:
    """Start orders, kill a worker and the orchestrator, wait for all. Returns how many are lost."""
    from wf.client.blocking import BlockingClient

    with BlockingClient(config) as client:
        ids = [
            client.start("order", {**GOOD, "order_id": n}, id=f"order-{n}")
            for n in range(5000, 5000 + ORDERS)
        ]
        for role in ("worker", "orchestrator"):
            victim = next(one for one in status()["processes"] if one["role"] == role)
            os.kill(victim["pid"], signal.SIGKILL)
            print(f"  kill -9 {victim['pid']}   # {victim['name']}")
        lost = 0
        for one in ids:
            if client.result(one, timeout_s=60).status != "completed":
                lost += 1
        print(f"  {len(ids) - lost} of {len(ids)} completed")
        return lost


def status() -> dict[str, Any]:
    """`wf-supervisor status --json`; empty while the control socket is not there yet."""
    answer = subprocess.run(
        [BIN / "wf-supervisor", "status", "--json"], capture_output=True, text=True, check=False
    )
    return json.loads(answer.stdout) if answer.returncode == 0 and answer.stdout else {}


def start_and_show(name: str, order: dict[str, Any]) -> None:
    show("wf", "start", "order", "--id", name, "--input", json.dumps(order), "--wait")


def say(text: str) -> None:
    print(f"\n\033[1m{text}\033[0m" if sys.stdout.isatty() else f"\n{text}", flush=True)


def show(command: str, *arguments: str) -> None:
    """Run one of our commands as a user would, and show it."""
    shown = " ".join(f"'{a}'" if "{" in a else a for a in arguments)
    print(f"$ {command} {shown}", flush=True)
    subprocess.run([BIN / command, *arguments], check=False)


if __name__ == "__main__":
    sys.exit(main())
