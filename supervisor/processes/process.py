"""One running child, from its fork to its reaping."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson

from supervisor.policy.hang_detection import Seen
from supervisor.policy.restart import Cause, Exit
from supervisor.policy.spec import ChildSpec
from supervisor.processes.spawn import Spawned
from supervisor.processes.stack_dumps import DUMP_S, DUMP_SIGNAL
from wf.process import status_page
from wf.process.child import EXIT_BROKER, EXIT_CONFIG, EXIT_OK, EXIT_RECYCLE

STARTING, READY, STOPPING = "starting", "ready", "stopping"
_LONGEST_LINE = 1024 * 1024


@dataclass(slots=True)
class Process:
    """A child that has not been reaped yet. Its pid stays ours until then."""

    spec: ChildSpec
    generation: int
    spawned: Spawned
    started_at: float  # monotonic seconds, like all times here
    boot_deadline: float
    ready_at: float | None = None
    stop_deadline: float | None = None  # SIGKILL then; None: not asked to stop
    ended_by_us: Cause | None = None  # why we sent it a signal
    killed: bool = False  # SIGKILL was sent
    failure: tuple[str, str] | None = None  # cause and error that it reported itself
    done: int = 0
    half_open: bool = False  # started to find out whether its pool works again
    seen: Seen = field(default_factory=Seen)  # what was last seen of its slot
    oom_killed: bool = False
    outdated: tuple[str, ...] = ()  # packages that have changed since it imported them
    recycle: tuple[str, float] | None = None  # why it wants to be replaced, and since when
    troubles: tuple[str, ...] = ()  # what it says is wrong, each with its remedy
    unable: bool = False  # and that no work can come meanwhile
    _buffer: bytearray = field(default_factory=bytearray)
    _outgoing: bytearray = field(default_factory=bytearray)

    @property
    def pid(self) -> int:
        return self.spawned.pid

    @property
    def state(self) -> str:
        if self.stop_deadline is not None:
            return STOPPING
        return STARTING if self.ready_at is None else READY

    def heard(self, report: dict[str, Any], now: float) -> None:
        """What it has to say of itself."""
        match report.get("event"):
            case "progress":
                self.done = int(report.get("done", self.done))
            case "recycle":
                self.recycle = self.recycle or (str(report.get("reason")), now)
            case "failed":
                self.failure = (str(report.get("cause")), str(report.get("error")))
            case "outdated":
                self.outdated = tuple(map(str, report.get("packages", ())))
            case "trouble":
                self.troubles = tuple(str(text) for text in report.get("problems") or ())
                self.unable = report.get("unable") is True

    def reports(self) -> Iterator[dict[str, Any]]:
        """The complete lines that the child has written since the last call."""
        fd = self.spawned.report_fd
        if fd is None:
            return
        while True:
            try:
                data = os.read(fd, 65536)
            except (BlockingIOError, ConnectionResetError):
                break
            if not data:
                break
            self._buffer += data
        *lines, rest = bytes(self._buffer).split(b"\n")
        self._buffer[:] = rest[-_LONGEST_LINE:]
        for line in lines:
            report = _parse(line)
            if report is not None:
                yield report

    def send(self, line: bytes) -> None:
        """To a child with a two-way channel: in order, and as soon as it takes it."""
        self._outgoing += line + b"\n"
        self.flush()

    @property
    def has_unsent(self) -> bool:
        return bool(self._outgoing)

    def flush(self) -> bool:
        """Give it what it takes now; whether that was all."""
        fd = self.spawned.report_fd
        while self._outgoing and fd is not None:
            try:
                del self._outgoing[: os.write(fd, self._outgoing)]
            except BlockingIOError:
                return False
            except (BrokenPipeError, ConnectionResetError):
                self._outgoing.clear()  # it has ended; whoever follows gets it again
        return True

    def terminate(self, deadline: float, cause: Cause) -> None:
        """Ask it to drain and leave before `deadline`. Asking twice never gives it more time."""
        if self.stop_deadline is None or deadline < self.stop_deadline:
            self.stop_deadline = deadline
        if self.ended_by_us is None:
            self.ended_by_us = cause
            self.signal(signal.SIGTERM)

    def leave_by(self, deadline: float) -> None:
        """It leaves by its own wish: kill it if it has not by then."""
        if self.stop_deadline is None:
            self.stop_deadline = deadline

    def condemn(self, cause: Cause, now: float) -> None:
        """It does not work any more: have it write its stacks, then it is killed."""
        self.ended_by_us = cause
        self.stop_deadline = now
        if self.spawned.slot_fd is not None:
            self.stop_deadline += DUMP_S
            self.signal(DUMP_SIGNAL)

    def kill(self) -> None:
        """End it and everything in its group, now."""
        self.killed = True
        # Sound only because nobody else reaps: until we do, this pid names nobody but our child.
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            self.signal(signal.SIGKILL)  # it has not made its own group yet

    def signal(self, number: signal.Signals) -> None:
        """Through the pidfd, so that it can reach no other process."""
        try:
            signal.pidfd_send_signal(self.spawned.pidfd, number)
        except ProcessLookupError:
            return  # it has ended and waits to be reaped

    def close(self) -> None:
        """Give its descriptors back, after it was reaped."""
        os.close(self.spawned.pidfd)
        for fd in (self.spawned.report_fd, self.spawned.slot_fd):
            if fd is not None:
                os.close(fd)

    def header(self) -> status_page.Header | None:
        """What it says of itself in its slot; None if it has not begun to."""
        return (
            status_page.read_header(self.spawned.slot_fd)
            if self.spawned.slot_fd is not None
            else None
        )

    def tasks(self) -> list[status_page.SlotTask]:
        """The tasks that it has started and that are not acknowledged, oldest first."""
        header = self.header()
        if header is None or self.spawned.slot_fd is None:
            return []
        return status_page.read_tasks(self.spawned.slot_fd, header)

    def dump(self) -> str:
        """The end of the stack dumps that it has written."""
        return (
            status_page.read_dump(self.spawned.slot_fd) if self.spawned.slot_fd is not None else ""
        )

    def ended(self, status: int, now: float) -> Exit:
        """What its end means. `status` as os.waitstatus_to_exitcode gives it."""
        cause = self._cause(status)
        return Exit(
            at=now,
            cause=cause,
            was_ready=self.ready_at is not None,
            made_progress=self.done > 0,
            ready_for_s=0.0 if self.ready_at is None else now - self.ready_at,
            by_task=cause is Cause.CRASH
            and self.spec.is_worker
            and any(task.runs for task in self.tasks()),
        )

    def _cause(self, status: int) -> Cause:
        if self.ended_by_us is not None:
            return self.ended_by_us
        if self.oom_killed:
            return Cause.MEMORY
        header = self.header()
        if header is not None and header.phase is status_page.Phase.RUNNING:
            return Cause.CRASH  # whatever its status: it was in the middle of its work
        if status == EXIT_RECYCLE or (status == EXIT_OK and self.ready_at is not None):
            return Cause.RECYCLE  # left in order: by its own wish, or after somebody's `kill`
        if status == EXIT_CONFIG or (self.failure and self.failure[0] in ("import", "config")):
            return Cause.CONFIG
        if status == EXIT_BROKER:
            return Cause.BROKER
        return Cause.BOOT if self.ready_at is None else Cause.CRASH


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        report = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None  # a child that died in the middle of a line
    return report if isinstance(report, dict) else None


def describe(status: int) -> str:
    """`exit 1`, or `SIGKILL`."""
    if status >= 0:
        return f"exit {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"
