"""`wf dead-letters` with the real parser and a real broker, inside one process."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from orchestrator.ingest import dead_letters
from orchestrator.ingest.messages_in import Unreadable, read
from tests.support.server import RealServer, delete_streams
from wf.cli.main import main
from wf.jetstream import topology
from wf.jetstream.port import Delivery, Outgoing, Stored
from wf.protocol import subjects
from wf.worker.results import dead_message

TASK = b'{"v":1,"instance":"order-1"}'  # without run and attempt
SIGNAL = b"{broken"


class Pool:
    """A broker with two unreadable messages and one convicted run in its dead letters."""

    def __init__(self, server: RealServer) -> None:
        self.server = server
        self.url = server.url
        asyncio.run(self._prepare())

    async def _prepare(self) -> None:
        js = await self.server.connect()
        await delete_streams(js)
        await topology.ensure(js, self.server.settings())
        task = _delivery(topology.ACTIVITY_TASKS, "activity.tasks.mail", TASK, {"traceparent": "t"})
        event = _delivery(topology.WORKFLOW_EVENTS, "workflow.signal.received.o.ok.7", SIGNAL)
        assert isinstance(read(event), Unreadable)
        convicted = {"instance": "order-7", "error": {"detail": "SIGSEGV"}, "stack_dump": "File x"}
        letter = dead_letters.letter(event.stream, event, "not JSON", "unreadable")
        letters = [
            dead_message(task, "mail", "run is missing", 1_000_000),
            Outgoing(subjects.dead_letter("message", "events"), letter.data),
            Outgoing(
                subjects.dead_letter("crashed", "ship"),
                orjson.dumps({"v": 1, "instance": "order-7", "evidence": convicted}),
            ),
        ]
        await js.publish(topology.DEAD_LETTERS, letters)
        await js.close()

    def wf(self, *arguments: str) -> int:
        return main(["dead-letters", *arguments, "--server", self.url])

    def last(self, stream: str, subject: str) -> Stored | None:
        async def look() -> Stored | None:
            js = await self.server.connect()
            try:
                return await js.last(stream, subject)
            finally:
                await js.close()

        return asyncio.run(look())


def _delivery(
    stream: str, subject: str, data: bytes, headers: dict[str, str] | None = None
) -> Delivery:
    return Delivery(stream, "c", subject, data, headers, 5, 1, 1_700_000_000_000, 0, "reply")


@pytest.fixture
def pool(nats_server: RealServer) -> Pool:
    return Pool(nats_server)


def listed(pool: Pool, capsys: Any, *arguments: str) -> list[dict[str, Any]]:
    assert pool.wf("list", "--json", *arguments) == 0
    found: list[dict[str, Any]] = orjson.loads(capsys.readouterr().out)
    return found


def test_the_newest_come_first_and_say_what_happened(pool: Pool, capsys: Any) -> None:
    found = listed(pool, capsys)
    assert [(one["kind"], one["name"], one["instance"], one["reason"]) for one in found] == [
        ("crashed", "ship", "order-7", "SIGSEGV"),
        ("message", "events", None, "not JSON"),
        ("message", "mail", None, "run is missing"),
    ]
    assert [one["sequence"] for one in listed(pool, capsys, "--kind", "crashed")] == [3]
    assert [one["sequence"] for one in listed(pool, capsys, "--limit", "2")] == [3, 2]
    assert pool.wf("list") == 0
    assert "run is missing" in capsys.readouterr().out


def test_one_is_shown_with_its_evidence_and_its_stack_dump(pool: Pool, capsys: Any) -> None:
    assert pool.wf("show", "3") == 0
    assert capsys.readouterr().out.rstrip().endswith("File x")
    assert pool.wf("show", "1", "--json") == 0
    assert orjson.loads(capsys.readouterr().out)["payload"] == TASK.decode()
    assert pool.wf("show", "99") == 1
    assert "there is no dead letter 99" in capsys.readouterr().err


def test_messages_go_back_to_where_they_came_from(pool: Pool, capsys: Any) -> None:
    assert pool.wf("requeue", "1", "2") == 0
    assert capsys.readouterr().out.splitlines() == [
        "1: put back to activity.tasks.mail",
        "2: put back to workflow.signal.received.o.ok",
    ]
    task = pool.last(topology.ACTIVITY_TASKS, "activity.tasks.mail")
    assert task is not None
    assert (task.data, (task.headers or {})["traceparent"]) == (TASK, "t")
    event = pool.last(topology.WORKFLOW_EVENTS, "workflow.signal.received.o.ok.*")
    assert event is not None
    assert event.data == SIGNAL
    assert [one["sequence"] for one in listed(pool, capsys)] == [3]


def test_a_mended_body_goes_in_its_place(pool: Pool, capsys: Any) -> None:
    mended = '{"v":1,"data":true}'
    assert pool.wf("requeue", "2", "--payload", mended, "--json") == 0
    event = pool.last(topology.WORKFLOW_EVENTS, "workflow.signal.received.o.ok.*")
    assert event is not None
    assert event.data.decode() == mended
    assert pool.wf("requeue", "1", "3", "--payload", mended) == 2


def test_evidence_of_a_run_cannot_be_put_back(pool: Pool, capsys: Any) -> None:
    assert pool.wf("requeue", "3") == 1
    assert "see `wf show order-7`" in capsys.readouterr().err
    assert len(listed(pool, capsys)) == 3


def test_dropped_ones_are_gone(pool: Pool, capsys: Any) -> None:
    assert pool.wf("drop", "1", "3") == 0
    capsys.readouterr()
    assert [one["sequence"] for one in listed(pool, capsys)] == [2]
    assert pool.wf("drop", "1") == 1
    assert "there is no dead letter 1" in capsys.readouterr().err
