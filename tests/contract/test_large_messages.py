"""Reading and publishing what is large: in pages and slices, and all of it."""

from __future__ import annotations

import pytest

from wf.jetstream import client, topology
from wf.jetstream.paging import between, last_pages
from wf.jetstream.port import Accepted, Outgoing, Port

STATES = topology.WORKFLOW_STATES
LARGE = 3_000_000


def name(number: int) -> str:
    return f"$KV.WORKFLOW_STATES.i{number}"


async def put(port: Port, count: int) -> None:
    messages = [Outgoing(name(n), b"%d" % n + b" " * LARGE) for n in range(count)]
    outcomes = await port.publish(STATES, messages)
    assert all(isinstance(one, Accepted) for one in outcomes)


async def test_the_last_of_many_subjects_come_in_pages(port: Port) -> None:
    await put(port, 12)
    wanted = [name(n) for n in (*range(12), 99)]
    found, whole = await port.last_some(STATES, wanted, 2 * LARGE)
    assert 1 <= len(found) < 12
    assert not whole
    seen: dict[str, int] = {}
    async for page in last_pages(port, STATES, wanted):
        seen.update((subject, int(stored.data[:3])) for subject, stored in page.items())
    assert seen == {name(n): n for n in range(12)}
    assert len(await port.last_many(STATES, wanted)) == 12


async def test_a_page_has_one_message_however_large(port: Port) -> None:
    await put(port, 2)
    found, whole = await port.last_some(STATES, [name(0), name(1)], 1)
    assert (len(found), whole) == (1, False)
    assert await port.last_some(STATES, [name(9)], 1) == ({}, True)


async def test_a_stream_is_read_whole_though_its_messages_are_large(port: Port) -> None:
    await put(port, 12)
    pages = [page async for page in between(port, STATES, "$KV.WORKFLOW_STATES.>", 3, 11)]
    assert [stored.sequence for page in pages for stored in page] == list(range(3, 12))


async def test_what_is_published_is_stored_though_it_is_more_than_may_be_under_way(
    port: Port, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "FLIGHT_BYTES", 2 * LARGE)
    await put(port, 12)
    assert await port.count(STATES) == 12
