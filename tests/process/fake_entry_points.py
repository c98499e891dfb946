"""Children that do what the tests need, and no more. What a pool's children do is read from the
file `behaviour/<pool>` beside pool.toml, each time one starts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from wf.process import status_page
from wf.process.child import EXIT_CONFIG, EXIT_RECYCLE, Child

_AWAITED = {signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1}


def note(child: Child, event: str) -> None:
    """Append a line to the file `events` beside pool.toml, atomically."""
    path = child.settings.path.parent / "events"
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, f"{event} {child.name} {os.getpid()} {child.generation}\n".encode())
    os.close(fd)


def behaviour(child: Child) -> str:
    path: Path = child.settings.path.parent / "behaviour" / (child.pool or child.role)
    return path.read_text().strip() if path.exists() else "work"


def run(child: Child) -> int:
    what = behaviour(child)
    note(child, f"started:{what}")
    if what == "boot-crash":
        return 1
    if what == "import-error":
        child.failed("import", "Traceback: ModuleNotFoundError: no module named 'nonesuch'")
        return EXIT_CONFIG
    if what == "deaf":  # like a thread stuck in C: no signal but SIGKILL ends it
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, _AWAITED)
    if what == "slow-import":
        time.sleep(2.0)  # longer than the test's hang_timeout
    slot = status_page.open_writer(child.slot_fd, 4, child.generation, time.monotonic())
    if what in ("hang", "overdue", "wishes-to-leave"):
        return _stuck(child, slot, what)
    if what == "never-ready":
        return _serve(child, what)
    note(child, "ready")
    child.ready()
    if what == "ready-crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if what == "crash-loop":
        child.progress(1)
        return 1
    if what == "recycle":
        child.progress(1)
        return EXIT_RECYCLE
    if what == "wants-recycle" and child.generation == 0:
        child.wants_recycle("because")
    if what == "outdated":
        child.outdated(["requests"])
    if what == "grandchild":
        grandchild = subprocess.Popen(
            [sys.executable, "-c", "import signal; signal.pause()"], start_new_session=True
        )
        note(child, f"grandchild:{grandchild.pid}")
    if what.startswith("no-task"):  # until it is told that it has finished one
        pending = what.partition(" ")[2]
        if pending:
            _be_monitor(child, int(pending))
        return _serve(child, what)
    if what == "busy":
        reply = f"$JS.ACK.ACTIVITY_TASKS.activity-{child.pool}.1.7.7.0.0"
        place = slot.hold(7, reply)
        slot.started(place, time.monotonic() - 60.0, time.monotonic() + 60.0)
    child.progress(1)
    return _serve(child, what)


def _stuck(child: Child, slot: status_page.SlotWriter, what: str) -> int:
    """Ready, and then not as it should be."""
    if what == "overdue":
        place = slot.hold(7, "reply")
        slot.started(place, time.monotonic() - 20.0, time.monotonic() - 11.0)
    slot.enter(
        status_page.Phase.DRAINING if what == "wishes-to-leave" else status_page.Phase.RUNNING
    )
    child.ready()
    while True:
        if what == "overdue":
            slot.tick(time.monotonic())
        time.sleep(0.05)


def _be_monitor(child: Child, pending: int) -> None:
    assert child.report_fd is not None
    waiting = {"pending": pending, "in_flight": 0, "redelivered": 0, "max_in_flight": 9}
    waiting |= {"oldest_waiting_s": 0.0, "oldest_open_s": 0.0}
    figures = {"event": "backlog", "activities": dict.fromkeys(child.activities, waiting)}
    os.write(child.report_fd, json.dumps(figures).encode() + b"\n")


def _serve(child: Child, what: str) -> int:
    while True:
        got = signal.sigtimedwait(_AWAITED, 0.5)
        if got is None:
            if child.orphaned() and what != "deaf":
                note(child, "orphaned")
                return 0
            continue
        if got.si_signo == signal.SIGHUP:
            note(child, "hangup")
        if got.si_signo == signal.SIGUSR1:
            child.progress(1)
        if got.si_signo == signal.SIGTERM and what != "deaf":
            note(child, "draining")
            if what == "slow-drain":
                time.sleep(1.0)
            if what == "endless-drain":
                time.sleep(120.0)
            note(child, "left")
            return 0
