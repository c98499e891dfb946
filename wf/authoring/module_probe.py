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
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from wf.authoring.file_reads import Reads
from wf.authoring.module_loading import PACKAGE_FILE, clashes, load, module_name
from wf.authoring.module_scan import scan
from wf.errors import ConfigError

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
    fingerprint: str  # changes with the module and the files that it reads
    late: bool = False  # not done in time; it may only be slow
    files: tuple[str, ...] = ()  # that its import read, itself included, below its directory


def module_files(directory: str | Path) -> list[Path]:
    """The activity modules of a directory: `*.py` and the `__init__.py` of packages, where the
    module's name starts with neither `_` nor `.`, sorted."""
    files = [*Path(directory).glob("*.py"), *Path(directory).glob(f"*/{PACKAGE_FILE}")]
    return sorted(p for p in files if module_name(p)[0] not in "_." and p.is_file())


def fingerprint(path: str | Path, files: Iterable[str] = ()) -> str:
    """Changes when the module or one of the `files` that it read changes; of one whose files are
    not known, also with the `_*.py` helpers beside it."""
    digest = hashlib.sha256()
    own = Path(path)
    read = [Path(file) for file in files] or sorted(own.parent.glob("_*.py"))
    for file in [own, *(file for file in read if file != own)]:
        try:
            content = file.read_bytes()
        except OSError:
            content = b"unreadable"
        digest.update(str(file).encode() + b"\0" + hashlib.sha256(content).digest())
    return digest.hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class _Answer:
    """What became of one import."""

    error: str | None
    names: tuple[str, ...] | None = None  # None: not known
    files: tuple[str, ...] = ()  # that it read, below the modules' directory
    late: bool = False


_UNTRIED = _Answer("it was not imported: those before it took all the time there is", late=True)


@dataclass(slots=True)
class _Probe:
    paths: tuple[Path, ...]
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
    files = module_files(directory)
    answers = _answers([(path,) for path in files], timeout_s, total_s or timeout_s)
    return [_report(path, answer) for path, answer in zip(files, answers, strict=True)]


def try_together(
    groups: Sequence[Sequence[str]], timeout_s: float, total_s: float
) -> list[str | None]:
    """Import the modules of each group in one process, as a worker does; why not, or None."""
    tried = [tuple(Path(path) for path in group) for group in groups]
    return [answer.error for answer in _answers(tried, timeout_s, total_s)]


def _answers(groups: list[tuple[Path, ...]], timeout_s: float, total_s: float) -> list[_Answer]:
    """Of each group, in their order."""
    until = time.monotonic() + total_s
    waiting = list(groups)
    running: dict[int, _Probe] = {}
    answers: dict[tuple[Path, ...], _Answer] = {}
    with selectors.DefaultSelector() as selector:
        try:
            while waiting or running:
                now = time.monotonic()
                while waiting and now < until and _has_room(running, now):
                    one = _start(waiting.pop(0), now, min(now + timeout_s, until))
                    running[one.read_fd] = one
                    selector.register(one.read_fd, selectors.EVENT_READ)
                if not running:  # no time is left
                    break
                for fd in _wait(selector, running):
                    selector.unregister(fd)
                    one = running.pop(fd)
                    answers[one.paths] = _finish(one)
        finally:
            for one in running.values():
                _end(one)
    return [answers.get(group, _UNTRIED) for group in groups]


def conflicts(reports: Sequence[ModuleReport]) -> list[str]:
    """A sentence for every activity name that two modules provide, naming both."""
    return clashes((name, report.path) for report in reports for name in report.activities)


def _has_room(running: dict[int, _Probe], now: float) -> bool:
    young = sum(1 for one in running.values() if now - one.begun < YOUNG_S)
    return young < AT_ONCE and len(running) < MOST


def _start(paths: tuple[Path, ...], now: float, deadline: float) -> _Probe:
    read_fd, write_fd = os.pipe2(os.O_CLOEXEC)
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        _child(paths, write_fd, parent)
    os.close(write_fd)
    os.set_blocking(read_fd, False)
    return _Probe(paths, pid, read_fd, now, deadline)


def _child(paths: tuple[Path, ...], write_fd: int, parent: int) -> None:
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
        answer = orjson.dumps(_examine(paths)) + b"\n"
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


def _examine(paths: tuple[Path, ...]) -> dict[str, object]:
    reads = Reads(paths)
    names: list[str] | None = None
    error: str | None = None
    try:
        names = [definition.name for path in paths for definition in load(path)]
    except ConfigError as problem:
        error = str(problem)
    except BaseException:  # noqa: BLE001 - user code; SystemExit at import is a failure too
        error = traceback.format_exc()[-TRACEBACK_LIMIT:]
    return {"activities": names, "error": error, "files": reads.files()}


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


def _finish(one: _Probe) -> _Answer:
    status = _end(one)
    if one.late:
        return _Answer(_late(one.deadline - one.begun), late=True)
    if status == 0 and _is_complete(one):
        answer = orjson.loads(bytes(one.answer))
        names = answer["activities"]
        files = tuple(answer["files"])
        return _Answer(answer["error"], None if names is None else tuple(names), files)
    return _Answer(f"the import ended its process ({_died(status)})")


def _report(path: Path, answer: _Answer) -> ModuleReport:
    names = scan(path) if answer.names is None else answer.names
    mark = fingerprint(path, answer.files)
    return ModuleReport(str(path), tuple(names), answer.error, mark, answer.late, answer.files)


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
