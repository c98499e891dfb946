"""Streams that never block: whatever the descriptor is, and whether or not somebody reads."""

import fcntl
import io
import os
import pty
import select
import socket
import threading
import time

import pytest

from tests.support.waiting import eventually_sync
from wf.process import nonblocking_descriptor as outlet_module
from wf.process import standard_streams
from wf.process.nonblocking_descriptor import HELD_BYTES, Outlet

LINE = b"x" * 99 + b"\n"


@pytest.fixture
def opened():
    """Descriptors that are closed after the test."""
    fds: list[int] = []
    yield lambda *more: fds.extend(more) or more
    for fd in fds:
        os.close(fd)


def of_pipe(tmp_path, opened):
    return opened(*os.pipe())


def of_named_pipe(tmp_path, opened):
    os.mkfifo(tmp_path / "fifo")
    reading = os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    writing = os.open(tmp_path / "fifo", os.O_WRONLY)
    os.set_blocking(reading, True)
    return opened(reading, writing)


def of_socket(tmp_path, opened):
    ours, theirs = socket.socketpair()
    return opened(ours.detach(), theirs.detach())


def of_terminal(tmp_path, opened):
    return opened(*pty.openpty())


KINDS = (of_pipe, of_named_pipe, of_socket, of_terminal)


def read_all(fd: int, quiet_s: float = 0.3) -> bytes:
    """Until nothing comes any more."""
    data = b""
    while select.select([fd], [], [], quiet_s)[0]:
        chunk = os.read(fd, 65536)
        if not chunk:
            break
        data += chunk
    return data.replace(b"\r\n", b"\n")  # as a terminal writes it


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ours", [True, False], ids=["opened anew", "of another user"])
def test_a_reader_that_stands_still_is_never_waited_for(kind, ours, tmp_path, opened, monkeypatch):
    monkeypatch.setattr(outlet_module, "HELD_BYTES", 200_000)
    reading, writing = kind(tmp_path, opened)
    outlet = Outlet(writing)
    if not ours:
        monkeypatch.setattr(outlet, "_find_way", lambda: outlet._send_if_there_is_room)
    flags = fcntl.fcntl(writing, fcntl.F_GETFL)
    begun = time.monotonic()
    for _ in range(10_000):
        outlet.put(LINE)
    assert time.monotonic() - begun < 5.0
    assert fcntl.fcntl(writing, fcntl.F_GETFL) == flags  # others share this description

    deadline = time.monotonic() + 10.0
    got = b""
    while not outlet.flush_held():
        assert time.monotonic() < deadline
        got += read_all(reading, 0.01)
    got += read_all(reading)
    *lines, notice = got.splitlines(keepends=True)
    assert set(lines) == {LINE}
    assert 200_000 <= len(lines) * len(LINE) <= 600_000
    assert notice == b"%d lines were dropped: nobody read them\n" % (10_000 - len(lines))


def test_a_helper_writes_the_rest_and_ends(opened):
    reading, writing = opened(*os.pipe())
    outlet = Outlet(writing)
    outlet.threads = True
    for number in range(3000):
        outlet.put(b"%04d " % number + LINE)
    assert any(thread.name == "wf log" for thread in threading.enumerate())
    lines = read_all(reading).splitlines()
    assert [int(line[:4]) for line in lines] == list(range(3000))
    eventually_sync(
        lambda: not any(thread.name == "wf log" for thread in threading.enumerate()),
        limit_s=5.0,
        what="the helper's end",
    )


def test_without_a_thread_to_be_had_the_next_line_tries_again(opened, monkeypatch):
    reading, writing = opened(*os.pipe())
    outlet = Outlet(writing)
    outlet.threads = True
    monkeypatch.setattr(threading.Thread, "start", lambda self: (_ for _ in ()).throw(RuntimeError))
    for _ in range(1000):
        outlet.put(LINE)
    monkeypatch.undo()
    outlet.put(LINE)
    assert read_all(reading).count(b"\n") == 1001


def test_a_long_line_is_never_cut(opened):
    reading, writing = opened(*os.pipe())
    outlet = Outlet(writing)
    long = b"y" * (3 * HELD_BYTES) + b"\n"
    outlet.put(long)
    outlet.put(LINE)  # there is no room for it
    got = read_all(reading, 0.01)
    while not outlet.flush_held():
        got += read_all(reading, 0.01)
    got += read_all(reading, 0.01)
    assert got == long + b"1 lines were dropped: nobody read them\n"


def test_lost_lines_of_a_reader_that_went_are_told_to_the_next(tmp_path, opened):
    reading, writing = of_named_pipe(tmp_path, lambda *fds: fds)
    outlet = Outlet(writing)
    outlet.put(b"one\n")
    assert os.read(reading, 100) == b"one\n"
    os.close(reading)
    outlet.put(b"two\n")
    outlet.put(b"three\n")
    reading = os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    opened(reading, writing)
    outlet.put(b"four\n")
    assert os.read(reading, 100) == b"2 lines were dropped: nobody read them\nfour\n"


def test_after_half_a_line_on_a_full_disk_the_next_begins_anew(tmp_path, monkeypatch):
    answers = iter([3, OSError(28, "No space left on device")])

    def send(view: memoryview) -> int:
        answer = next(answers, len(view))
        if isinstance(answer, OSError):
            raise answer
        written.extend(view[:answer])
        return answer

    written = bytearray()
    outlet = Outlet(2)
    monkeypatch.setattr(outlet, "_find_way", lambda: send)
    outlet.put(b"first\n")
    outlet.put(b"second\n")
    assert written == b"fir\n1 lines were dropped: nobody read them\nsecond\n"


def test_a_file_is_written_to_at_its_end(tmp_path):
    path = tmp_path / "log"
    path.write_bytes(b"before\n")
    with path.open("ab") as file:
        Outlet(file.fileno()).put(b"after\n")
        file.write(b"another\n")
    assert path.read_bytes() == b"before\nafter\nanother\n"


def test_a_closed_descriptor_is_no_error():
    reading, writing = os.pipe()
    os.close(reading)
    os.close(writing)
    outlet = Outlet(writing)
    outlet.put(LINE)
    assert not outlet.isatty()


def test_a_fork_does_not_write_what_its_parent_keeps(opened):
    _reading, writing = opened(*os.pipe())
    outlet = Outlet(writing)
    for _ in range(1000):
        outlet.put(LINE)
    pid = os.fork()
    if pid == 0:
        outlet.after_fork()
        os._exit(0 if outlet.flush_held() else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert not outlet.flush_held()


def test_what_is_printed_is_never_an_error(opened):
    reading, writing = opened(*os.pipe())
    stream = standard_streams.Stream(Outlet(writing), "ascii")
    print("half an emoji \ud83d and an é", file=stream)
    stream.buffer.write(b"bytes\n")
    stream.flush()
    assert os.read(reading, 100) == b"half an emoji \\ud83d and an \\xe9\nbytes\n"
    assert stream.fileno() == writing
    assert isinstance(stream, io.TextIOWrapper)


def test_printing_in_a_signal_handler_in_the_middle_of_a_line(opened):
    reading, writing = opened(*os.pipe())
    outlet = Outlet(writing)

    def send(view: memoryview) -> int:
        if bytes(view) == b"outer\n":
            outlet.put(b"inner\n")
        return os.write(writing, view)

    outlet._send = send
    outlet.put(b"outer\n")
    assert os.read(reading, 100) == b"outer\ninner\n"


def test_a_process_that_ends_waits_for_a_slow_reader_only_so_long(opened):
    _reading, writing = opened(*os.pipe())
    outlet = Outlet(writing)
    for _ in range(1000):
        outlet.put(LINE)
    begun = time.monotonic()
    outlet.finish(begun + 0.2)
    assert 0.2 <= time.monotonic() - begun < 2.0
