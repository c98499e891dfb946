"""`wf-supervisor explain` says why, what comes next, and what can be done."""

from __future__ import annotations

from typing import Any

import pytest

from supervisor.control.explain import CAUSES, explain, names
from supervisor.policy.restart import Cause


def process(**fields: Any) -> dict[str, Any]:
    return {
        "name": "worker mail #0",
        "role": "worker",
        "pool": "mail",
        "pid": 4711,
        "state": "ready",
        "uptime_s": 12.0,
        "done": 3,
        "half_open": False,
        "tasks": [],
        "lag_s": 0.0,
        "successor": False,
        "kill_in_s": None,
        "boot_left_s": None,
        "restarts": 0,
        "failures": 0,
        "next_start_s": None,
        "last_exit": None,
        **fields,
    }


def pool(**fields: Any) -> dict[str, Any]:
    return {
        "name": "mail",
        "role": "worker",
        "state": "ready",
        "wanted": 1,
        "ready": 1,
        "breaker": "closed",
        "breaker_left_s": None,
        "breaker_cause": None,
        "openings": 0,
        "failures": 0,
        "rolling": False,
        "backlog": None,
        "error": None,
        "roll_error": None,
        "stated": "1",
        "scaled": None,
        "autoscale": None,
        **fields,
    }


def document(**fields: Any) -> dict[str, Any]:
    return {
        "state": "running",
        "uptime_s": 60.0,
        "reload_error": [],
        "restart_needed": [],
        "broken_modules": [],
        "processes": [process()],
        "pools": [pool()],
        "client_workers": [],
        **fields,
    }


def told(status: dict[str, Any], name: str) -> str:
    explanation = explain(status, name)
    assert explanation is not None
    return explanation.text()


def test_every_cause_has_a_meaning() -> None:
    assert {cause.value for cause in Cause} <= set(CAUSES)


@pytest.mark.parametrize(
    "name", ["worker mail #0", "mail #0", "mail#0", "4711", "mail", "supervisor"]
)
def test_things_are_found_by_any_of_their_names(name: str) -> None:
    assert explain(document(), name) is not None


def test_what_is_not_there_is_not_explained() -> None:
    assert explain(document(), "nail") is None
    assert names(document()) == ["supervisor", "mail #0", "mail"]


def test_a_place_in_backoff_says_when_it_is_filled_and_why_it_waits() -> None:
    last = {"cause": "memory", "how": "SIGKILL", "ago_s": 2.0, "error": None}
    waiting = process(
        state="waiting", pid=None, failures=3, next_start_s=4.2, last_exit=last, restarts=3
    )
    text = told(document(processes=[waiting]), "mail #0")
    assert "failed 3 times in a row" in text
    assert "In 4.2s it is started again" in text
    assert "more memory than it was given" in text
    assert "max_memory" in text


def test_a_place_of_a_degraded_pool_says_when_the_pool_tries_again() -> None:
    waiting = process(state="waiting", pid=None, next_start_s=9.0)
    degraded = pool(state="degraded", breaker="open", breaker_left_s=9.0, breaker_cause="crash")
    status = document(processes=[waiting], pools=[degraded])
    assert "In 9.0s the pool tries again with one process" in told(status, "mail #0")
    assert "In 9.0s one process is started" in told(status, "mail")
    assert "wf-supervisor restart mail" in told(status, "mail")


def test_a_worker_that_waits_for_the_engine_names_it() -> None:
    waiting = process(state="waiting", pid=None, next_start_s=0.0)
    engine = process(
        name="orchestrator", role="orchestrator", pool="orchestrator", state="starting"
    )
    assert "when orchestrator is ready" in told(document(processes=[engine, waiting]), "mail #0")


def test_a_stopping_process_says_when_it_is_killed() -> None:
    status = document(processes=[process(state="stopping", kill_in_s=7.0)])
    assert "still there in 7.0s, it is killed" in told(status, "mail #0")


def test_a_busy_worker_tells_its_tasks_and_what_blocks_it() -> None:
    task = {"activity": "send_mail", "sequence": 4711, "age_s": 65.0, "left_s": -2.0}
    text = told(document(processes=[process(tasks=[task], lag_s=4.0)]), "mail #0")
    assert "It runs send_mail (task 4711) for 1m05s now; its time has been up for 2.0s" in text
    assert "Its event loop is 4.0s late" in text


def test_a_pool_tells_its_backlog_and_who_chose_its_count() -> None:
    backlog = {"pending": 12, "in_flight": 3, "redelivered": 1, "oldest_s": 65.0}
    text = told(document(pools=[pool(backlog=backlog, scaled=4, wanted=4)]), "mail")
    assert "12 tasks wait and 3 are with workers, the oldest 1m05s old" in text
    assert "4 were ordered by `scale`, pool.toml says 1" in text


def test_a_refused_reload_is_told_with_the_remedy() -> None:
    text = told(document(reload_error=["pool.toml:3: nonsense"]), "supervisor")
    assert "has changed nothing: pool.toml:3: nonsense" in text
    assert "mend that" in text


def test_a_roll_that_was_given_up_says_what_it_said_last() -> None:
    text = told(document(pools=[pool(roll_error="Traceback\nNameError: x")]), "mail")
    assert "NameError: x" in text
    assert "The old processes go on" in text


def test_a_pool_that_may_not_grow_says_why() -> None:
    autoscale = {
        "target": 2,
        "reason": "9 tasks wait; vetoed: CPU pressure is 80 %",
        "vetoed": True,
    }
    text = told(document(pools=[pool(autoscale=autoscale)]), "mail")
    assert "follows its load: 9 tasks wait; vetoed: CPU pressure is 80 %" in text
    assert "grows as soon as the host has CPU and memory to spare" in text


def test_a_client_worker_is_explained_with_what_waits_for_it() -> None:
    worker = {
        "name": "mars-7",
        "host": "mars",
        "pid": 7,
        "written_ms": 0,
        "activities": {"mail": {"running": 1, "concurrency": 4}},
        "backlog": {"pending": 3, "in_flight": 1, "oldest_s": 12.0},
    }
    text = told(document(client_workers=[worker]), "mars-7")
    assert "mail: 1 of 4 tasks run" in text
    assert "3 tasks wait" in text
    assert "mars-7" in names(document(client_workers=[worker]))
