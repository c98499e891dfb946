"""A worker notices that a package which it has imported was upgraded."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from supervisor.control import status
from wf.worker import imported
from wf.worker.imported import Imported


class Listener:
    def __init__(self) -> None:
        self.told: list[list[str]] = []

    def outdated(self, packages: list[str]) -> None:
        self.told.append(packages)


async def test_an_upgraded_package_is_told_once_and_what_is_beside_the_module_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("site/upgraded", "site/same", "activities"):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("upgraded", "same"):
        (tmp_path / "site" / name / "__init__.py").write_text("X = 1")
    (tmp_path / "activities" / "beside.py").write_text("X = 1")
    for folder in ("site", "activities"):
        monkeypatch.syspath_prepend(tmp_path / folder)
    before = frozenset(sys.modules)
    __import__("upgraded"), __import__("same"), __import__("beside")
    known = Imported(before, [str(tmp_path / "activities" / "mail.py")])
    assert known.changed() == []
    (tmp_path / "activities" / "beside.py").write_text("X = 2222")
    (tmp_path / "site" / "upgraded" / "__init__.py").write_text("X = 2222")
    assert known.changed() == ["upgraded"]
    (tmp_path / "site" / "same" / "__init__.py").unlink()

    monkeypatch.setattr(imported, "LOOK_S", 0.01)
    listener = Listener()
    looking = asyncio.create_task(known.look(listener))  # type: ignore[arg-type]
    while not listener.told:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)  # several more looks
    looking.cancel()
    assert listener.told == [["same", "upgraded"]]


def test_status_names_the_pool_and_the_package() -> None:
    process = {"pool": "mail", "outdated": ["requests"]}
    document = {
        "state": "running",
        "pools": [],
        "processes": [process, {"pool": "pdf", "outdated": []}],
        "broken_modules": [],
        "reload_error": [],
        "restart_needed": [],
    }
    assert "restart mail: requests has changed" in status.one_line(document)
