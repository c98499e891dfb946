"""Which activities the modules of a directory provide.

For the supervisor, which never imports user code itself: it may crash, hang, start threads or
print. `probe` imports each module in a short-lived child process, a few at a time; no asyncio and
no threads in here. Workers use `load`.
"""

from __future__ import annotations

import ctypes
import faulthandler
import hashlib
import os
import selectors
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from wf.errors import ConfigError
from wf.loading import clashes, load
from wf.scanning import scan

__all__ = ["ModuleReport", "conflicts", "fingerprint", "load", "module_files", "probe", "scan"]

AT_ONCE = 8  # imports that have just begun: they compute
YOUNG_S = 0.2  # one that takes longer may wait for something, and keeps nobody waiting
MOST = 64  # processes
TRACEBACK_LIMIT = 8_000  # characters
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)
_ANSWER_LIMIT = 4 * 1024 * 1024  # bytes; more is not an answer


@dataclass(frozen=True, slots=True)
class ModuleReport:
    """What one module file provides, as far as it is known."""

    path: str
    activities: tuple[str, ...]  # names; by reading the source when the import failed
    error: str | None  # why it cannot be imported: traceback, or what was wrong with it
    fingerprint: str  # changes when the module, or a `_helper.py` beside it, changes
    late: bool = False  # not done in time; it may only be slow


def module_files(directory: str | Path) -> list[Path]:
    """The activity modules of a directory: `*.py` that start with neither `_` nor `.`, sorted."""
    return sorted(p for p in Path(directory).glob("*.py") if p.name[0] not in "_." and p.is_file())


def fingerprint(path: str | Path) -> str:
    """Changes when the module or one of the `_*.py` helpers beside it changes."""
    digest = hashlib.sha256()
    own = Path(path)
    for file in [own, *sorted(own.parent.glob("_*.py"))]:
        try:
            content = file.read_bytes()
        except OSError:
            content = b"unreadable"
        digest.update(file.name.encode() + b"\0" + hashlib.sha256(content).digest())
    return digest.hexdigest()[:32]


@dataclass(slots=True)
class _Probe:
    path: Path
    pid: int
    read_fd: int
    begun: float  # time.monotonic(), as is the deadline
    deadline: float
    answer: bytearray = field(default_factory=bytearray)
    late: bool = False


def probe(
    directory: str | Path, timeout_s: float, total_s: float | None = None
) -> list[ModuleReport]:
    """Import each module of `directory` in a forked child; what they provide, sorted by path.

    A module that raises, crashes or is not done after `timeout_s` gets its error reported, and
    the names that can be read from its source; so do those that are not done when `total_s` is
    over. Every child is ended and reaped before this returns. Must be called in a process with one
    thread.
    """
    waiting = module_files(directory)
    until = time.monotonic() + (total_s if total_s is not None else timeout_s)
    running: dict[int, _Probe] = {}
    reports: list[ModuleReport] = []
    with selectors.DefaultSelector() as selector:
        try:
            while waiting or running:
                now = time.monotonic()
                while waiting and now < until and _has_room(running, now):
                    one = _start(waiting.pop(0), now, min(now + timeout_s, until))
                    running[one.read_fd] = one
                    selector.register(one.read_fd, selectors.EVENT_READ)
                if not running:  # no time is left
                    reports += [_untried(path) for path in waiting]
                    break
                for fd in _wait(selector, running):
                    selector.unregister(fd)
                    reports.append(_finish(running.pop(fd)))
        finally:
            for one in running.values():
                _end(one)
    return sorted(reports, key=lambda r: r.path)


def conflicts(reports: Sequence[ModuleReport]) -> list[str]:
    """A sentence for every activity name that two modules provide, naming both."""
    return clashes((name, report.path) for report in reports for name in report.activities)


def _has_room(running: dict[int, _Probe], now: float) -> bool:
    young = sum(1 for one in running.values() if now - one.begun < YOUNG_S)
    return young < AT_ONCE and len(running) < MOST


def _start(path: Path, now: float, deadline: float) -> _Probe:
    read_fd, write_fd = os.pipe2(os.O_CLOEXEC)
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        _child(path, write_fd, parent)
    os.close(write_fd)
    os.set_blocking(read_fd, False)
    return _Probe(path, pid, read_fd, now, deadline)


def _child(path: Path, write_fd: int, parent: int) -> None:
    """Import, answer, vanish: no exit handlers of the parent may run in here."""
    status = 1
    try:
        _die_with(parent)
        os.setpgid(0, 0)
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
            signal.signal(number, signal.SIG_DFL)
        faulthandler.disable()
        os.closerange(3, write_fd)  # locks above all: what a module leaves running would hold them
        os.closerange(write_fd + 1, os.sysconf("SC_OPEN_MAX"))
        os.dup2(os.open(os.devnull, os.O_RDWR), 0)
        os.dup2(2, 1)  # what a module prints must not mix with the answer of a command
        answer = orjson.dumps(_examine(path)) + b"\n"
        while answer:
            answer = answer[os.write(write_fd, answer) :]
        status = 0
    finally:
        os._exit(status)


def _die_with(parent: int) -> None:
    """An import that hangs must not outlive whoever would have ended it."""
    if _libc.prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL), 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    if os.getppid() != parent:  # it died before we could ask to be told
        os._exit(1)


def _examine(path: Path) -> dict[str, object]:
    try:
        names = [definition.name for definition in load(path)]
    except ConfigError as error:
        return {"activities": None, "error": str(error)}
    except BaseException:  # noqa: BLE001 - user code; SystemExit at import is a failure too
        return {"activities": None, "error": traceback.format_exc()[-TRACEBACK_LIMIT:]}
    return {"activities": names, "error": None}


def _wait(selector: selectors.BaseSelector, running: dict[int, _Probe]) -> list[int]:
    """Read what is there; the fds of the children that are done, dead or out of time."""
    now = time.monotonic()
    events = [one.deadline for one in running.values()]
    events += [one.begun + YOUNG_S for one in running.values() if now - one.begun < YOUNG_S]
    over = []
    for key, _ in selector.select(max(0.0, min(events) - now)):
        one = running[key.fd]
        chunk = os.read(one.read_fd, 65536)
        one.answer += chunk
        if not chunk or _is_complete(one) or len(one.answer) > _ANSWER_LIMIT:
            over.append(key.fd)
    now = time.monotonic()
    for fd, one in running.items():
        if fd not in over and now >= one.deadline:
            one.late = True
            over.append(fd)
    return over


def _finish(one: _Probe) -> ModuleReport:
    status = _end(one)
    error = _late(one.deadline - one.begun) if one.late else None
    names: list[str] | None = None
    if error is None and status == 0 and _is_complete(one):
        answer = orjson.loads(bytes(one.answer))
        names, error = answer["activities"], answer["error"]
    if error is None and names is None:
        error = f"the import ended its process ({_died(status)})"
    if names is None:
        names = scan(one.path)
    return ModuleReport(str(one.path), tuple(names), error, fingerprint(one.path), one.late)


def _untried(path: Path) -> ModuleReport:
    error = "it was not imported: those before it took all the time there is"
    return ModuleReport(str(path), tuple(scan(path)), error, fingerprint(path), late=True)


def _late(after_s: float) -> str:
    return f"the import was not done in {after_s:.0f} s: do not work or wait at module level"


def _end(one: _Probe) -> int:
    """Close the pipe, reap the child, and kill what it left behind; its exit status.

    The group is killed while the dead child still holds its number, so that no stranger is hit.
    """
    os.close(one.read_fd)
    if not _is_complete(one):
        _kill(one.pid)
    os.waitid(os.P_PID, one.pid, os.WEXITED | os.WNOWAIT)
    _kill(one.pid)
    return os.waitstatus_to_exitcode(os.waitpid(one.pid, 0)[1])


def _is_complete(one: _Probe) -> bool:
    return one.answer.endswith(b"\n")


def _kill(pid: int) -> None:
    for kill in (os.killpg, os.kill):
        try:
            kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue  # already dead, or its group not yet made


def _died(status: int) -> str:
    return f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"


if __name__ == "__main__":  # what `probe` sees, for a look by hand: python -m wf.discovery DIR
    for report in probe(sys.argv[1], 10.0):
        sys.stdout.write(f"{report}\n")
