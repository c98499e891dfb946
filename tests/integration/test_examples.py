"""The workflows in config/workflows, deployed and run by the real engine with their activities."""

import contextlib
from pathlib import Path

import pytest

from tests.support.engine import FakeWorker, ended, engine, history, in_status, start
from tests.support.waiting import eventually
from wf import Context
from wf.authoring.module_probe import load, module_files
from wf.client.client import Client
from wf.errors import NonRetryable
from wf.jetstream import topology
from wf.protocol import messages, subjects
from wf.protocol.problem_details import of_exception

PROJECT = Path(__file__).parents[2]
WORKFLOWS = sorted((PROJECT / "config" / "workflows").glob("*.yaml"))


def real(activity):
    """Answers as a worker would that runs the activity."""

    def answer(task):
        arguments = activity.signature.arguments(task["input"])
        if activity.signature.context is not None:
            arguments[activity.signature.context] = Context()
        numbers = {"run": task["run"], "attempt": task["attempt"]}
        try:
            output = activity.function(**arguments)
        except NonRetryable as error:
            return messages.failed_body(
                **numbers, outcome="failed", error=of_exception(error), retryable=False
            )
        return messages.completed_body(**numbers, output=activity.signature.result(output))

    return answer


def mail(task):
    given = task["input"]
    output = {"message_id": "<1>", "to": given["to"]}
    return messages.completed_body(run=task["run"], attempt=task["attempt"], output=output)


@contextlib.asynccontextmanager
async def pool(nats_server, js):
    """An engine that has deployed every example, and workers for their activities."""
    loaded = [one for path in module_files(PROJECT / "activities") for one in load(path)]
    answers = {one.name: real(one) for one in loaded if not one.is_async}
    async with engine(nats_server), FakeWorker(js, {**answers, "send_mail": mail}):
        async with await Client.connect(servers=nats_server.url) as client:
            for path in WORKFLOWS:
                await client.deploy(path)
            yield client


async def calls(js, instance):
    """The activities that were dispatched, in order."""
    return [
        entry["activity"]
        for message in await history(js, instance)
        for entry in message["entries"]
        if entry["type"] == "run.dispatched"
    ]


async def test_a_trip_is_booked(nats_server, js):
    async with pool(nats_server, js):
        await start(js, "trip", "t", {"traveller": "Ann", "city": "Oslo"})
        output = (await ended(js, "t"))["output"]
        assert output.keys() == {"flight", "hotel", "car"}
        assert output["hotel"].startswith("hotel-")


@pytest.mark.parametrize(("full", "undone"), [("car", 2), ("hotel", 1), ("flight", 0)])
async def test_a_booking_that_fails_undoes_those_before_it_in_reverse(
    nats_server, js, full, undone
):
    async with pool(nats_server, js):
        await start(js, "trip", "t", {"traveller": "Ann", "city": "Oslo", "full": full})
        found = await ended(js, "t")
        assert (found["status"], found["error"]["title"]) == ("faulted", "Sold out")
        tasks = await js.scan(topology.ACTIVITY_TASKS, subjects.task("cancel_booking"))
        cancelled = [messages.decode(one.data)["input"]["booking"] for one in tasks]
        assert [one.partition("-")[0] for one in cancelled] == ["hotel", "flight"][2 - undone :]


async def test_thumbnails_come_in_order_of_the_pictures(nats_server, js):
    rows = [[0, 40, 80, 80], [40, 80, 80, 80], [8, 8, 4, 4], [8, 8, 4, 4]]
    images = [{"name": str(n), "rows": rows} for n in range(9)]
    async with pool(nats_server, js):
        await start(js, "thumbnails", "t", {"images": images})
        output = (await ended(js, "t"))["output"]
        assert [one["name"] for one in output] == [image["name"] for image in images]
        assert output[0]["half"] == [[40, 80], [8, 4]]
        assert output[0]["quarter"] == [[33]]


ASK = {"what": "a new bike", "approver": "boss@example.com"}


async def test_an_approval_by_an_event_about_it(nats_server, js):
    async with pool(nats_server, js) as client:
        await start(js, "approval", "budget-7", ASK)
        await in_status(js, "budget-7", "waiting")
        for request in ("budget-8", "budget-7"):
            data = {"request": request, "approved": request == "budget-7", "by": "Ann"}
            await client.emit("com.example.decision", data)
        assert (await ended(js, "budget-7"))["output"] == {"approved": True, "by": "Ann"}


async def test_an_approval_by_a_signal(nats_server, js):
    async with pool(nats_server, js) as client:
        await start(js, "approval", "budget-7", ASK)
        await in_status(js, "budget-7", "waiting")
        await client.signal("budget-7", "decision", {"approved": True, "by": "Ann"})
        assert (await ended(js, "budget-7"))["output"] == {"approved": True, "by": "Ann"}


async def test_an_approval_that_nobody_gives_in_time_is_refused(nats_server, js):
    async with pool(nats_server, js):
        await start(js, "approval", "budget-7", {**ASK, "days": 0.00001})
        assert (await ended(js, "budget-7"))["output"] == {"approved": False, "by": "nobody"}


async def test_a_report_of_a_day_and_when_it_comes_by_itself(nats_server, js):
    async with pool(nats_server, js):
        await start(js, "nightly-report", "r", {"day": "2026-11-24"})
        output = (await ended(js, "r"))["output"]
        assert output["day"] == "2026-11-24"
        assert output["total_cents"] == output["orders"] * 1990 > 0
        assert await calls(js, "r") == ["sum_sales", "send_mail"]

        await start(js, "nightly-report", "s", {})
        assert len((await ended(js, "s"))["output"]["day"]) == len("2026-11-24")


async def test_an_order_that_is_packed_and_paid_starts_a_shipment(nats_server, js):
    async with pool(nats_server, js) as client:
        paid = {"customer": "ann@example.com", "cents": 3980}
        for order in (1, 2):
            await client.emit("com.example.order.paid", {"order": order, **paid})
        await client.emit("com.example.order.packed", {"order": 2, "parcel": "P-1"})

        async def started():
            stored = await js.scan(topology.WORKFLOW_HISTORY, subjects.history("*"))
            return [one.subject.rpartition(".")[2] for one in stored]

        instance = (await eventually(started, what="an instance"))[0]
        output = (await ended(js, instance))["output"]
        assert output == {"order": 2, "parcel": "P-1", "customer": "ann@example.com"}
        assert set(await started()) == {instance}


async def test_a_decision_that_came_first_is_not_lost(nats_server, js):
    async with pool(nats_server, js) as client:
        await client.emit(
            "com.example.decision", {"request": "budget-9", "approved": True, "by": "Bo"}
        )
        await start(js, "approval", "budget-9", ASK)
        assert (await ended(js, "budget-9"))["output"] == {"approved": True, "by": "Bo"}
