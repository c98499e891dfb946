"""An upgrade under a running supervisor is noticed."""

from __future__ import annotations

from pathlib import Path

from supervisor.reload.upgrade_watch import LOOK_S, Installed, imported_files


def test_a_replaced_file_is_noticed_within_ten_seconds(tmp_path: Path) -> None:
    file = tmp_path / "module.py"
    file.write_text("1")
    installed = Installed([str(file)])
    assert not installed.changed(0.0)
    file.write_text("1 and more")
    assert not installed.changed(LOOK_S - 1)
    assert installed.changed(LOOK_S)
    file.unlink()
    assert installed.changed(2 * LOOK_S)


def test_every_file_of_the_framework_is_looked_at() -> None:
    files = imported_files()
    assert any(file.endswith("supervisor/reload/upgrade_watch.py") for file in files)
    assert not Installed().changed(0.0)
