"""What should run, and what to do when it differs from what does."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from supervisor.spec import ChildSpec, desired, difference, keeping_broken, restart_needed
from wf.settings import NatsSettings, OrchestratorSettings, PoolSettings, Settings


@dataclass(frozen=True)
class Pool:
    name: str
    activities: tuple[str, ...]
    modules: tuple[str, ...]
    settings: PoolSettings


SETTINGS = Settings(path=Path("/p.toml"), activities_dir=Path("/a"), workflows_dir=Path("/w"))


def pool(name: str, processes: int = 1, **settings: object) -> Pool:
    return Pool(name, (name,), (f"/a/{name}.py",), PoolSettings(processes=processes, **settings))  # type: ignore[arg-type]


def names(specs: list[ChildSpec]) -> list[str]:
    return [spec.name for spec in specs]


def test_broker_then_orchestrator_then_workers() -> None:
    specs = desired(SETTINGS, [pool("mail", 2)], {})
    assert names(specs) == [
        "broker",
        "orchestrator",
        "monitor",
        "worker mail #0",
        "worker mail #1",
    ]
    assert [spec.stage for spec in specs] == [0, 1, 2, 3, 3]


def test_an_external_broker_is_not_started() -> None:
    settings = SETTINGS.model_copy(update={"nats": NatsSettings(embedded=False)})
    assert names(desired(settings, [], {})) == ["orchestrator", "monitor"]


def test_a_second_orchestrator_does_not_rename_the_first() -> None:
    two = SETTINGS.model_copy(update={"orchestrator": OrchestratorSettings(processes=2)})
    change = difference(desired(two, [], {}), desired(SETTINGS, [], {}))
    assert names(list(change.start)) == ["orchestrator #1"]
    assert not change.stop
    assert not change.replace


def test_equal_settings_ask_for_nothing() -> None:
    specs = desired(SETTINGS, [pool("mail", 2)], {"/a/mail.py": "1"})
    assert not difference(specs, specs)


def test_scaling_up_starts_only_the_difference() -> None:
    change = difference(desired(SETTINGS, [pool("m", 4)], {}), desired(SETTINGS, [pool("m")], {}))
    assert names(list(change.start)) == ["worker m #1", "worker m #2", "worker m #3"]
    assert not change.replace


def test_scaling_down_stops_the_newest_first() -> None:
    change = difference(desired(SETTINGS, [pool("m")], {}), desired(SETTINGS, [pool("m", 4)], {}))
    assert change.stop == ("worker m #3", "worker m #2", "worker m #1")


def test_a_changed_module_replaces_the_workers_of_its_pool_only() -> None:
    pools = [pool("mail"), pool("pdf")]
    before = desired(SETTINGS, pools, {"/a/mail.py": "1", "/a/pdf.py": "1"})
    after = desired(SETTINGS, pools, {"/a/mail.py": "2", "/a/pdf.py": "1"})
    assert names(list(difference(after, before).replace)) == ["worker mail #0"]


def test_changed_pool_settings_replace_its_workers() -> None:
    before = desired(SETTINGS, [pool("mail")], {})
    after = desired(SETTINGS, [pool("mail", concurrency=3)], {})
    assert names(list(difference(after, before).replace)) == ["worker mail #0"]


def test_changed_orchestrator_settings_replace_the_orchestrator() -> None:
    other = SETTINGS.model_copy(update={"orchestrator": OrchestratorSettings(batch=7)})
    change = difference(desired(other, [], {}), desired(SETTINGS, [], {}))
    assert names(list(change.replace)) == ["orchestrator"]


def test_a_pool_that_vanished_stops_before_the_engine_would() -> None:
    change = difference([], desired(SETTINGS, [pool("m", 1)], {}))
    assert change.stop == ("worker m #0", "monitor", "orchestrator", "broker")


def test_a_pool_whose_running_module_broke_stays_as_it_is() -> None:
    actual = desired(SETTINGS, [pool("mail", 2), pool("pdf")], {"/a/mail.py": "1"})
    wanted = desired(SETTINGS, [pool("pdf", 2)], {"/a/mail.py": "2"})  # mail cannot be parsed
    kept = keeping_broken(wanted, actual, frozenset({"/a/mail.py"}))
    change = difference(kept, actual)
    assert names(list(change.start)) == ["worker pdf #1"]
    assert not change.stop
    assert not change.replace


def test_a_broken_module_that_no_pool_runs_keeps_nothing() -> None:
    actual = desired(SETTINGS, [pool("mail")], {})
    wanted = [replace(spec, fingerprint="new") for spec in actual]
    assert keeping_broken(wanted, actual, frozenset({"/a/other.py"})) == wanted


def test_broker_settings_wait_for_a_restart() -> None:
    other = SETTINGS.model_copy(update={"nats": NatsSettings(port=4333)})
    assert restart_needed(SETTINGS, other) == ["[nats]"]
    assert restart_needed(SETTINGS, SETTINGS) == []
