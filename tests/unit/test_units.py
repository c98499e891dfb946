"""The systemd units: both alike, and without what would break activities or the supervisor."""

from __future__ import annotations

from pathlib import Path

import pytest

SYSTEMD = Path(__file__).parents[2] / "systemd"
UNITS = ("wf-supervisor.service", "wf-supervisor@.service")


def directives(name: str) -> list[str]:
    lines = (SYSTEMD / name).read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def test_an_instance_differs_from_the_single_service_only_in_names() -> None:
    single, instance = (directives(name) for name in UNITS)
    plain = [
        line.replace(", %i)", ")").replace("/%i/", "/").replace("wf-supervisor/%i", "wf-supervisor")
        for line in instance
    ]
    assert plain == single


@pytest.mark.parametrize("name", UNITS)
def test_the_sandbox_leaves_what_activities_and_the_supervisor_need(name: str) -> None:
    lines = directives(name)
    assert "KillMode=mixed" in lines
    assert "OOMPolicy=continue" in lines
    assert "SystemCallErrorNumber=EPERM" in lines
    assert not [line for line in lines if line.startswith(("ProcSubset", "MemoryDenyWriteExecute"))]
    assert not [line for line in lines if "@resources" in line]


@pytest.mark.parametrize("name", UNITS)
def test_the_units_hold_nothing_that_systemd_252_does_not_know(name: str) -> None:
    newer = ("RestartSteps", "RestartMaxDelaySec", "RestartMode", "Type=notify-reload")
    assert not [line for line in directives(name) if line.startswith(newer)]
