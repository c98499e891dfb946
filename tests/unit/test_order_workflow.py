"""The order workflow that comes with the project, run by the machine with its real activities."""

import asyncio
from pathlib import Path

import pytest

from orchestrator.definition import parse
from orchestrator.machine import Dispatch, SetTimer, advance
from wf import Context
from wf.authoring.module_probe import load, module_files
from wf.errors import NonRetryable
from wf.protocol.messages import completed_body, failed_body
from wf.protocol.problem_details import of_exception
from wf.settings import load as load_settings
from wf.worker.policy import effective

PROJECT = Path(__file__).resolve().parents[2]
ORDER = {"order_id": 4711, "items": [{"sku": "A1", "qty": 2}], "card": "4242"}


@pytest.fixture(scope="module")
def activities():
    modules = module_files(PROJECT / "activities")
    return {one.name: one for path in modules for one in load(path)}


@pytest.fixture(scope="module")
def definition():
    return parse((PROJECT / "config" / "workflows" / "order.yaml").read_text())


@pytest.fixture
def ordered(activities, definition):
    def run(input: dict) -> tuple[dict, list[str]]:
        return asyncio.run(_run(definition, activities, input))

    return run


async def _run(definition, activities, input: dict) -> tuple[dict, list[str]]:
    """(final snapshot, "activity#attempt" in the order of the calls)."""
    start = {"kind": "start", "id": "order-1", "workflow": "order", "namespace": "default"}
    transition = advance(definition, None, {**start, "input": input}, 0)
    calls: list[str] = []
    pending = list(transition.commands)
    snapshot, now_ms = transition.snapshot, 0
    while pending:
        command = pending.pop(0)
        if isinstance(command, Dispatch):
            event = await _result(activities, snapshot, command.run, calls)
        elif isinstance(command, SetTimer):
            now_ms = max(now_ms, snapshot["timers"][str(command.timer)]["due_ms"])
            event = {"kind": "timer", "timer": command.timer}
        else:
            continue
        transition = advance(definition, snapshot, event, now_ms)
        assert transition.ignored is None, event
        snapshot = transition.snapshot
        pending += transition.commands
    return snapshot, calls


async def _result(activities, snapshot: dict, number: int, calls: list[str]) -> dict:
    run = snapshot["runs"][str(number)]
    name, attempt = run["activity"], run["attempt"]
    calls.append(f"{name}#{attempt}")
    activity = activities[name]
    context = Context(instance=snapshot["id"], run=number, attempt=attempt)
    try:
        arguments = activity.signature.arguments(run["input"])
        if activity.signature.context is not None:
            arguments[activity.signature.context] = context
        output = activity.function(**arguments)
        output = activity.signature.result(await output if activity.is_async else output)
        body = completed_body(run=number, attempt=attempt, output=output)
    except (NonRetryable, ConnectionError) as error:
        body = failed_body(
            run=number,
            attempt=attempt,
            outcome="failed",
            error=of_exception(error),
            retryable=not isinstance(error, NonRetryable),
            retry=activity.options.retry.policy() if activity.options.retry else None,
        )
    return {**body, "kind": "result", "activity": name}


def test_an_order_is_shipped(ordered):
    snapshot, calls = ordered(ORDER)
    assert snapshot["status"] == "completed"
    assert snapshot["output"]["status"] == "shipped"
    assert snapshot["output"]["paid_cents"] == 3980
    assert calls == ["reserve_stock#1", "charge_card#1", "ship_order#1", "send_mail#1"]


def test_a_busy_carrier_is_asked_again_by_the_policy_of_the_activity(ordered):
    snapshot, calls = ordered({**ORDER, "order_id": 4713})
    assert snapshot["output"]["attempts_to_ship"] == 2
    assert calls[2:4] == ["ship_order#1", "ship_order#2"]


def test_a_provider_that_never_answers_is_tried_three_times_by_the_workflow(ordered):
    snapshot, calls = ordered({**ORDER, "card": "4445"})
    assert snapshot["output"]["status"] == "declined"
    assert [call.partition("#")[0] for call in calls].count("charge_card") == 3
    assert calls[-1] == "release_stock#1"


def test_a_provider_that_answers_the_second_time_is_asked_with_the_same_key(ordered):
    snapshot, calls = ordered({**ORDER, "card": "4444"})
    assert snapshot["output"]["attempts_to_charge"] == 2
    assert calls[1:3] == ["charge_card#1", "charge_card#2"]


def test_a_declined_card_gives_the_items_back(ordered):
    snapshot, calls = ordered({**ORDER, "card": "4000"})
    assert snapshot["status"] == "completed"
    assert snapshot["output"] == {
        "order_id": 4711,
        "status": "declined",
        "reason": "Card declined",
    }
    assert calls == ["reserve_stock#1", "charge_card#1", "release_stock#1"]


def test_an_order_without_mail_address_is_not_announced(ordered):
    _, calls = ordered({**ORDER, "email": ""})
    assert calls[-1] == "ship_order#1"


def test_an_order_without_items_is_faulted(ordered):
    snapshot, calls = ordered({**ORDER, "items": []})
    assert snapshot["status"] == "faulted"
    assert snapshot["error"]["title"] == "Empty order"
    assert calls == []


def test_an_order_that_is_out_of_stock_is_faulted(ordered):
    snapshot, calls = ordered({**ORDER, "items": [{"sku": "Z9", "qty": 1}]})
    assert snapshot["status"] == "faulted"
    assert snapshot["error"]["status"] == 409
    assert calls == ["reserve_stock#1"]


def test_the_pools_of_the_project_fit_its_activities(activities):
    settings = load_settings(PROJECT / "config" / "pool.toml", environ={})
    for name, pool in settings.pools.items():
        assert set(pool.activities or [name]) <= set(activities)
    # the table beats the decorator, the decorator beats [workers]
    assert effective(settings, "charge_card", activities["charge_card"].options).timeout_s == 30
    assert (
        effective(settings, "ship_order", activities["ship_order"].options).retry["max_attempts"]
        == 3
    )
