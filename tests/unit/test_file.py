"""pool.toml while somebody writes it."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from supervisor.reload.toml_file import PATIENCE_S, SETTLE_S, refuse_half, settled
from wf.errors import ConfigError

WHOLE = b"[supervisor]\ngrace = 15\n[workers.mail]\nprocesses = 16\n"


def test_a_file_that_is_truncated_and_then_written_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "pool.toml"
    path.write_bytes(b"")
    writer = threading.Timer(SETTLE_S * 1.5, lambda: path.write_bytes(WHOLE))
    writer.start()
    assert settled(path) == WHOLE
    writer.join()


@pytest.mark.parametrize("length", range(len(WHOLE) + 1))
def test_a_beginning_that_ends_within_a_line_is_half_a_file(length: int) -> None:
    now = WHOLE[:length]
    if now == b"" or now.endswith(b"\n") or WHOLE[length : length + 1] in (b"\n", b""):
        refuse_half(Path("pool.toml"), WHOLE, now)  # lines may be taken out on purpose
    else:
        with pytest.raises(ConfigError, match="in the middle of a line"):
            refuse_half(Path("pool.toml"), WHOLE, now)


def test_other_content_is_not_half_a_file() -> None:
    refuse_half(Path("pool.toml"), WHOLE, b"[nats]\nport = 1")
    refuse_half(Path("pool.toml"), WHOLE, WHOLE + b"# more")
    refuse_half(Path("pool.toml"), b"", WHOLE)


def test_what_stays_away_is_not_waited_for_long(tmp_path: Path) -> None:
    begun = time.monotonic()
    assert settled(tmp_path / "none") == b""
    assert time.monotonic() - begun < PATIENCE_S + 2.0
