"""What should run, and what to do when it differs from what does."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from supervisor.policy.spec import (
    WORKER,
    ChildSpec,
    desired,
    difference,
    keeping_broken,
    restart_needed,
    settle,
)
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


# Who leaves when a pool gets smaller


def workers(*indexes: int, pool: str = "mail", fingerprint: str = "a") -> list[ChildSpec]:
    return [
        ChildSpec(f"worker {pool} #{index}", WORKER, pool, index, fingerprint) for index in indexes
    ]


def indexes(specs: list[ChildSpec]) -> list[int]:
    return [spec.index for spec in specs]


def test_of_equals_the_newest_leave() -> None:
    assert indexes(settle(workers(0, 1), workers(0, 1, 2, 3), {})) == [0, 1]


def test_the_empty_leave_first_then_the_idle_then_the_least_busy() -> None:
    load = {"worker mail #0": -1, "worker mail #1": 0, "worker mail #2": 2, "worker mail #3": 5}
    have = workers(0, 1, 2, 3)
    assert indexes(settle(workers(0, 1, 2), have, load)) == [1, 2, 3]
    assert indexes(settle(workers(0, 1), have, load)) == [2, 3]
    assert indexes(settle(workers(0), have, load)) == [3]


def test_new_workers_get_the_lowest_free_numbers() -> None:
    assert indexes(settle(workers(0, 1, 2, 3), workers(1, 3), {})) == [0, 1, 2, 3]


def test_those_who_stay_are_to_run_what_is_wanted_now() -> None:
    settled = settle(workers(0, fingerprint="b"), workers(5, fingerprint="a"), {})
    assert [(spec.name, spec.fingerprint) for spec in settled] == [("worker mail #5", "b")]


@given(st.integers(0, 8), st.sets(st.integers(0, 12)), st.data())
def test_settling_keeps_the_count_and_stops_or_starts_no_more_than_it_must(
    count: int, have: set[int], data: st.DataObject
) -> None:
    actual = workers(*sorted(have))
    load = {spec.name: data.draw(st.integers(-1, 3)) for spec in actual}
    settled = settle(workers(*range(count)), actual, load)
    assert len({spec.name for spec in settled}) == count
    change = difference(settled, actual)
    assert len(change.start) == max(0, count - len(have))
    assert len(change.stop) == max(0, len(have) - count)
    stay = [load[spec.name] for spec in settled if spec.name in load]
    assert not change.stop or not stay or max(load[name] for name in change.stop) <= min(stay)
