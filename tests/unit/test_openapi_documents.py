"""What a worker keeps of OpenAPI documents, and for how long."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

import httpx
import orjson
import pytest

from wf.builtin.http.client import Answer
from wf.builtin.openapi import documents
from wf.builtin.openapi.documents import Documents, age_s
from wf.errors import ActivityError
from wf.settings import HttpSettings

Headers = list[tuple[str, str]]


class Server:
    """Answers with a document; remembers what it was asked."""

    def __init__(self, *, size: int = 100, status: int = 200, **headers: str) -> None:
        empty = orjson.dumps({"openapi": "3.1.0", "paths": {}})
        self.content = empty + b" " * (size - len(empty))
        self.status = status
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}
        self.asked: list[Headers] = []

    async def fetch(self, headers: Headers) -> Answer:
        self.asked.append(headers)
        request = httpx.Request("GET", "https://x/")
        return Answer(self.status, "", httpx.Headers(self.headers), self.content, request)


def settings(**more: Any) -> HttpSettings:
    return HttpSettings(max_document=1024, **more)


async def get(kept: Documents, key: str, server: Server, **more: Any) -> bool:
    """Whether it was there already."""
    _, was_kept = await kept.get(f"https://x/{key}", key, server.fetch, **more)
    return was_kept


@pytest.mark.parametrize(
    ("control", "seconds"),
    [
        ("", 300),
        ("public", 300),
        ("max-age=10", 10),
        ("Public, Max-Age=20", 20),
        ("max-age=9000", 300),
        ("s-maxage=5", 300),
        ("max-age=60, no-cache", 0),
        ("no-store", 0),
        ("max-age=soon", 300),
    ],
)
def test_the_server_may_shorten_how_long_a_document_is_used(control: str, seconds: float) -> None:
    assert age_s(control, 300.0) == seconds


def test_what_is_kept_is_bounded_in_number_and_size() -> None:
    async def run() -> None:
        server = Server()
        kept = Documents(settings())
        for number in range(documents.KEPT):
            await get(kept, str(number), Server(size=50))
        assert await get(kept, "0", server)
        await get(kept, "one more", server)
        assert not await get(kept, "0", server), "the oldest is gone"
        assert await get(kept, str(documents.KEPT - 1), server)

        kept = Documents(settings())
        for number in range(documents.KEPT_SIZES):
            await get(kept, str(number), Server(size=1024))
        assert await get(kept, "0", server)
        await get(kept, "one more", server)
        assert not await get(kept, "0", server)
        assert await get(kept, str(documents.KEPT_SIZES - 1), server)

    asyncio.run(run())


def test_a_document_that_references_make_large_counts_as_large() -> None:
    async def run() -> None:
        server = Server()
        parameters = [{"$ref": "#/p"}] * 20
        one = {"operationId": "it", "parameters": parameters}
        text = {"openapi": "3.1.0", "p": {"name": "a", "in": "query"}, "paths": {"/": {"get": one}}}
        server.content = orjson.dumps(text)
        assert len(server.content) < 1024
        kept = Documents(settings())
        await get(kept, "large", server)
        assert not await get(kept, "large", server), "it is more than may be kept"

    asyncio.run(run())


def test_a_document_that_must_not_be_stored_is_not() -> None:
    async def run() -> None:
        server = Server(cache_control="no-store", etag='"a"')
        kept = Documents(settings())
        await get(kept, "a", server)
        await get(kept, "a", server)
        assert server.asked == [[documents.ACCEPT]] * 2

    asyncio.run(run())


def test_a_document_that_has_not_changed_is_good_for_as_long_again() -> None:
    async def run() -> None:
        server = Server(cache_control="max-age=0", etag='"a"')
        kept = Documents(settings())
        await get(kept, "a", server)
        server.status, server.content = 304, b""
        server.headers["cache-control"] = "max-age=60"
        assert not await get(kept, "a", server)
        assert server.asked[1] == [documents.ACCEPT, ("if-none-match", '"a"')]
        assert await get(kept, "a", server)
        assert not await get(kept, "a", server, anew=True)

    asyncio.run(run())


def test_a_server_that_says_unchanged_without_being_asked_is_an_error() -> None:
    kept, server = Documents(settings()), Server(status=304)
    with pytest.raises(ActivityError) as caught:
        asyncio.run(get(kept, "a", server))
    assert caught.value.status == 304


def test_a_call_that_is_cancelled_or_fails_while_it_fetches_holds_up_nobody() -> None:
    async def run() -> None:
        kept, server, release = Documents(settings()), Server(), asyncio.Event()

        async def never(_headers: Headers) -> Answer:
            release.set()
            await asyncio.Event().wait()
            raise AssertionError

        first = asyncio.ensure_future(kept.get("https://x/", "a", never))
        await release.wait()
        second: Awaitable[bool] = asyncio.ensure_future(get(kept, "a", server))
        first.cancel()
        assert await asyncio.wait_for(second, 10) is False
        with pytest.raises(ActivityError):
            await get(kept, "b", Server(status=503))
        assert await get(kept, "b", server) is False
        assert not kept._locks

    asyncio.run(run())
