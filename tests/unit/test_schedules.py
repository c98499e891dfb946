"""schedule: what registration accepts, when a workflow is due, and who stores the next start."""

from datetime import UTC, datetime

import pytest

from orchestrator.definition import parse
from orchestrator.dispatch.effects import build
from orchestrator.ingest.messages_in import to_event
from orchestrator.machine.kernel.next_start import START_LATER, next_due_ms
from tests.support.machine import HEADER, Driver
from wf.client import schedules
from wf.errors import DefinitionError, MessageError
from wf.jetstream import topology
from wf.jetstream.port import Stored
from wf.protocol import messages, subjects
from wf.protocol.ids import scheduled_id
from wf.protocol.subjects import is_name

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


def define(schedule, *tasks, **header):
    do = list(tasks) or [{"a": {"set": {"x": 1}}}]
    return parse({"document": {**HEADER, **header}, "schedule": schedule, "do": do}, "f")


def the_problem(schedule, **header):
    with pytest.raises(DefinitionError) as raised:
        define(schedule, **header)
    (problem,) = raised.value.problems
    return problem


def ms(text):
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def in_zone(name):
    return {"metadata": {"wf": {"timeZone": name}, "theirs": 1}}


@pytest.mark.parametrize(
    ("schedule", "header", "words"),
    [
        ({}, {}, "/schedule: needs exactly one of every, cron, after"),
        ({"every": "PT1H", "cron": "* * * * *"}, {}, "/schedule: needs exactly one of"),
        ({"every": "PT0.5S"}, {}, "/schedule/every: must be a second or more"),
        ({"every": "often"}, {}, "/schedule/every: "),
        ({"cron": "61 * * * *"}, {}, '/schedule/cron: "61" cannot be a minute'),
        ({"cron": 5}, {}, "/schedule/cron: "),
        ({"after": {"fortnights": 1}}, {}, '/schedule/after: unknown unit "fortnights"'),
        ({"cron": "0 2 * * *"}, in_zone("Mars/Base"), "/document/metadata/wf/timeZone: "),
        ({"cron": "0 2 * * *"}, {"metadata": {"wf": {"tz": "UTC"}}}, "/document/metadata/wf/tz: "),
        ({"crom": "0 2 * * *", "every": "PT1H"}, {}, '/schedule/crom: unknown key "crom"'),
        ("daily", {}, "/schedule: `schedule` must be an object"),
    ],
)
def test_what_is_wrong_is_refused_with_its_place(schedule, header, words):
    assert words in the_problem(schedule, **header)


def test_every_counts_from_1970_so_that_nothing_shifts_it():
    schedule = define({"every": {"hours": 6}}).workflow.schedule
    assert next_due_ms(schedule, ms("2026-05-01T05:59:59")) == ms("2026-05-01T06:00:00")
    assert next_due_ms(schedule, ms("2026-05-01T06:00:00")) == ms("2026-05-01T12:00:00")


def test_cron_is_in_utc_or_in_the_zone_that_the_document_names():
    schedule = define({"cron": "0 2 * * *"}).workflow.schedule
    assert next_due_ms(schedule, ms("2026-07-01T00:00:00")) == ms("2026-07-01T02:00:00")
    berlin = define({"cron": "0 2 * * *"}, **in_zone("Europe/Berlin")).workflow.schedule
    assert next_due_ms(berlin, ms("2026-07-01T00:00:00")) == ms("2026-07-02T00:00:00")
    assert berlin.text != schedule.text


def test_a_scheduled_start_sees_to_the_next_one_after_now():
    driver = Driver(define({"every": "PT1H"}))
    driver.now_ms = 5 * HOUR_MS + 10
    driver.start({}, scheduled={"schedule": "every 1h", "due_ms": 2 * HOUR_MS})
    (later,) = driver.sent(START_LATER)
    assert later["due_ms"] == 6 * HOUR_MS  # 3, 4 and 5 were missed, and are not made up for
    driver = Driver(define({"every": "PT1H"}))
    driver.now_ms = 2 * HOUR_MS - 10  # a broker whose clock is behind
    driver.start({}, scheduled={"schedule": "every 1h", "due_ms": 2 * HOUR_MS})
    assert driver.sent(START_LATER)[0]["due_ms"] == 3 * HOUR_MS


def test_a_start_by_hand_does_not_touch_the_schedule():
    driver = Driver(define({"every": "PT1H"}))
    driver.start({})
    assert driver.sent(START_LATER) == []


def test_a_schedule_goes_on_when_its_instance_faults_at_once():
    driver = Driver(
        define({"every": "PT1H"}, {"a": {"raise": {"error": {"type": "x", "status": 4}}}})
    )
    driver.start({}, scheduled={"schedule": "every 1h", "due_ms": 0})
    assert driver.status == "faulted"
    assert len(driver.sent(START_LATER)) == 1


@pytest.mark.parametrize(("verb", "count"), [("cancel", 0), (None, 1)])
def test_after_counts_from_the_end_and_a_cancelled_instance_ends_the_row(verb, count):
    driver = Driver(define({"after": "PT10S"}, {"a": {"call": "one"}}))
    driver.start({})
    assert driver.sent(START_LATER) == []
    driver.now_ms += 5000
    if verb:
        driver.command(verb)
    else:
        driver.done(1)
    found = driver.sent(START_LATER)
    assert len(found) == count
    assert all(one["due_ms"] == driver.now_ms + 10_000 for one in found)


def test_the_message_that_fires_is_the_start_and_its_id_follows_from_the_time():
    body = {"namespace": "sales", "workflow": "report", "schedule": "every 1d", "due_ms": DAY_MS}
    stream, outgoing = build(START_LATER, {}, body, "i:1:send:0")
    assert stream == topology.WORKFLOW_TIMERS
    assert outgoing.subject == "workflow.timer.scheduled.start.sales.report"
    assert outgoing.headers == {
        "Nats-Schedule": "@at 1970-01-02T00:00:00.000Z",
        "Nats-Schedule-Target": "workflow.timer.fired.start.sales.report",
    }
    fired = subjects.start_fired("sales", "report")
    instance, event = to_event(fired, outgoing.data, 7, DAY_MS + 3)
    assert instance == event["id"] == scheduled_id("sales.report", DAY_MS)
    assert instance.startswith("report-19700102T000000Z-")
    assert (event["kind"], event["namespace"], event["workflow"]) == ("start", "sales", "report")
    assert event["scheduled"] == {"schedule": "every 1d", "due_ms": DAY_MS}
    kept = schedules.from_stored(Stored(outgoing.subject, outgoing.data, None, 9, 0))
    assert kept == schedules.Pending("sales", "report", "every 1d", DAY_MS, 9)


@pytest.mark.parametrize("due", [None, "1", -1, 10**18, True])
def test_a_time_that_is_none_breaks_the_protocol(due):
    data = messages.encode({"v": 1, "schedule": "every 1h", "due_ms": due})
    with pytest.raises(MessageError, match="due_ms"):
        to_event(subjects.start_fired("default", "report"), data, 1, 1)


def test_ids_are_names_and_tell_namespaces_times_and_long_names_apart():
    names = ["report", "sales.report", "x" * 64, "x" * 63 + "y"]
    ids = {scheduled_id(name, due) for name in names for due in (DAY_MS, DAY_MS + 1)}
    assert len(ids) == 8
    assert all(is_name(one) for one in ids)
