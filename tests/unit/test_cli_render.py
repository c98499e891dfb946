"""Tables and timelines show what is stored, whole and without markup surprises."""

import io

from rich.console import Console

from wf.cli import render
from wf.client.definitions import RegisteredDefinition
from wf.client.instances import HistoryEntry, Instance
from wf.client.schedules import Pending

START_MS = 1_700_000_000_000


def text_of(renderable, width=200):
    console = Console(width=width, file=io.StringIO(), highlight=False, markup=False)
    console.print(renderable)
    return console.file.getvalue()


def instance(**fields):
    snapshot = {
        "id": "order-1",
        "workflow": "order",
        "namespace": "default",
        "version": "1.0.0",
        "status": "running",
        "input": {"n": 1},
        "started_ms": START_MS,
        **fields,
    }
    return Instance("order-1", 7, snapshot)


def entry(commit, event, entries=(), *, now_ms=START_MS, n=0):
    return HistoryEntry(commit, n, now_ms, "order 1.0.0", event, list(entries), {})


def result(activity, outcome, **more):
    event = {"kind": "result", "activity": activity, "run": 1, "attempt": 1, "outcome": outcome}
    return {**event, **more}


def test_the_list_names_id_status_workflow_and_time():
    shown = text_of(render.instances_table([instance(ended_ms=START_MS + 1500)]))
    for part in ("order-1", "running", "order 1.0.0", "2023-11-14 22:13:20.000Z", "1s500ms"):
        assert part in shown


def test_a_running_instance_shows_its_open_runs_and_timers():
    held = instance(
        runs={"3": {"activity": "charge_card", "attempt": 2, "pointer": "/do/0/pay"}},
        timers={"1": {"due_ms": START_MS + 90_000, "frame": "4"}},
        frames={"4": {"node": "/do/1/pause"}},
    )
    shown = text_of(render.instance_view(held, [], START_MS + 30_000))
    assert "charge_card" in shown
    assert "/do/0/pay" in shown
    assert "/do/1/pause" in shown
    assert "1m" in shown
    assert "Running for" in shown
    assert "30s" in shown


def test_results_of_activities_are_joined_from_history():
    history = [
        entry(2, result("charge_card", "failed", error={"title": "Declined"})),
        entry(3, result("charge_card", "completed", output={"paid": True})),
    ]
    done = instance(status="completed", output={"ok": 1}, ended_ms=START_MS + 5)
    shown = text_of(render.instance_view(done, history, START_MS))
    assert "failed" in shown
    assert "Declined" in shown
    assert '{"paid":true}' in shown
    assert '"ok": 1' in shown


def test_a_faulted_instance_shows_its_error():
    faulted = instance(status="faulted", error={"title": "Broken", "detail": "[red]not markup"})
    shown = text_of(render.instance_view(faulted, [], START_MS))
    assert "Broken" in shown
    assert "[red]not markup" in shown


def test_the_timeline_tells_events_and_what_followed():
    history = [
        entry(1, {"kind": "start", "workflow": "order"}, [{"type": "instance.started"}]),
        entry(
            2,
            result("mail", "completed"),
            [{"type": "task.completed", "run": 1}],
            now_ms=START_MS + 250,
        ),
    ]
    lines = text_of(render.timeline(history)).splitlines()
    assert "start order" in lines[1]
    assert "instance.started" in lines[2]
    assert "+250ms" in lines[3]
    assert "result mail completed (run 1, attempt 1)" in lines[3]
    assert "run=1" in lines[4]


def test_the_timeline_names_the_task_its_activity_and_its_error():
    error = {"type": "https://example.com/a/long/type", "title": "Declined", "detail": "no money"}
    entries = [
        {"type": "run.dispatched", "pointer": "/do/0/pay", "name": "pay", "activity": "charge"},
        {"type": "task.faulted", "pointer": "/do/0/pay", "name": "pay", "error": error},
        {"type": "signal.kept", "name": "approved"},
    ]
    shown = text_of(render.timeline([entry(1, {"kind": "start", "workflow": "order"}, entries)]))
    assert "/do/0/pay activity=charge" in shown
    assert "/do/0/pay error=Declined: no money" in shown
    assert "name=approved" in shown


def test_a_failed_attempt_shows_what_failed_and_not_the_type_of_the_error():
    error = {"type": "https://example.com/" + "x" * 80, "title": "Declined", "detail": "no\nmoney"}
    rows = render.activity_results([entry(2, result("charge_card", "failed", error=error))])
    assert rows[0][-1] == "Declined: no money"


def test_an_empty_history_says_so():
    assert "nothing recorded" in text_of(render.timeline([]))


def test_definitions_are_listed_with_their_versions():
    shown = text_of(
        render.definitions_table(
            [RegisteredDefinition("sales", "order", "1.2.0", b"{}", START_MS)],
            {("sales", "order"): START_MS + 86_400_000},
        )
    )
    assert shown.splitlines()[1].split()[:3] == ["sales", "order", "1.2.0"]
    assert "2023-11-15 22:13:20.000Z" in shown


def test_schedules_are_listed_with_their_next_start():
    one = Pending("sales", "report", "every 1h", START_MS + 60_000, 3)
    shown = text_of(render.schedules_table([one], START_MS))
    assert "sales.report" in shown
    assert "every 1h" in shown
    assert "2023-11-14 22:14:20.000Z" in shown
    assert "1m" in shown


def test_a_workflow_that_events_start_is_listed_with_them():
    one = Pending("default", "ship", "on all: placed, paid", None, 0)
    shown = text_of(render.schedules_table([one], START_MS))
    assert "on all: placed, paid" in shown
    assert "with events" in shown


def test_long_values_are_cut_with_an_ellipsis():
    assert render.brief("x" * 200).endswith("…")
    assert len(render.brief("x" * 200)) == 60
    assert render.brief({"a": 1}) == '{"a":1}'


def test_a_parent_lists_its_children_and_a_child_names_its_parent():
    started = {
        "type": "child.started",
        "pointer": "/do/0/ship",
        "run": 2,
        "child": "order-1-2-abc",
        "workflow": "ship",
        "awaited": True,
    }
    ended = {"type": "child.faulted", "pointer": "/do/0/ship", "run": 2, "child": "order-1-2-abc"}
    history = [entry(1, {"kind": "start"}, [started]), entry(2, {"kind": "child"}, [ended])]
    shown = text_of(render.instance_view(instance(), history[:1], START_MS))
    assert "Children" in shown
    assert "order-1-2-abc" in shown
    assert "faulted" in text_of(render.instance_view(instance(), history, START_MS))
    child = instance(parent={"id": "order-1", "run": 2, "awaited": False})
    shown = text_of(render.instance_view(child, [], START_MS))
    assert "order-1 (run 2), which does not wait for it" in shown


def test_one_that_waits_for_a_place_says_so_until_it_has_it():
    slot = {"row": "default.order.all", "key": "acme", "turn": 1, "state": "waiting"}
    shown = text_of(render.instance_view(instance(status="pending", slot=slot), [], START_MS))
    assert (
        'Waits for    a place among the instances that run at once, of those with "acme"' in shown
    )
    held = instance(slot={**slot, "state": "held"})
    assert "Waits for" not in text_of(render.instance_view(held, [], START_MS))
