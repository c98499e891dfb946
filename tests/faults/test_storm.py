"""A short storm of each kind; `python -m tests.faults --minutes 30` is a long one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults import flows, storm, weather

SECONDS = 20.0


@pytest.mark.timeout(200)
@pytest.mark.parametrize("external", [False, True], ids=["embedded", "external"])
async def test_nothing_is_lost_in_a_storm(
    external: bool, seed: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    label = f"{seed}:{'external' if external else 'embedded'}"
    report = await storm.episode(tmp_path, label, SECONDS, external=external)
    with capsys.disabled():
        print(f"\nstorm, {label} (WF_FAULTS_SEED={seed}): {report.text()}")


def test_a_forecast_is_the_same_again_and_leaves_nothing_out() -> None:
    kinds = [*weather.KILLED, *weather.STOPPED, *weather.CABLE]
    first = weather.forecast("a", 60, kinds)
    assert first == weather.forecast("a", 60, kinds)
    assert first != weather.forecast("b", 60, kinds)
    assert {squall.what for squall in first[: len(kinds)]} == set(kinds)


def test_every_flow_says_how_it_ends() -> None:
    assert flows.EXPECTED.keys() == flows.SOURCES.keys()
