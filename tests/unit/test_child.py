"""How long a child may take to leave."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.server import make_settings
from wf.process.child import Child


def child(folder: Path, supervisor_pid: int, *, embedded: bool) -> Child:
    settings = make_settings(folder, embedded=embedded, servers=[] if embedded else ["nats://h:1"])
    return Child("worker a #0", "worker", "a", 0, settings, supervisor_pid=supervisor_pid)


@pytest.mark.parametrize("embedded", [True, False])
def test_with_its_supervisor_it_has_the_whole_grace(tmp_path: Path, embedded: bool) -> None:
    one = child(tmp_path, os.getppid(), embedded=embedded)
    assert one.grace() == one.settings.supervisor.grace == 30.0


def test_an_orphan_with_a_broker_elsewhere_drains_for_a_moment(tmp_path: Path) -> None:
    assert child(tmp_path, os.getppid() + 1, embedded=False).grace() == 4.0


def test_an_orphan_whose_broker_is_gone_too_does_not_wait_for_it(tmp_path: Path) -> None:
    assert child(tmp_path, os.getppid() + 1, embedded=True).grace() == 0.0
