"""The HTTP calls of one worker: a client, its tokens and documents. Imports httpx."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from typing import Any

import orjson

from wf.builtin.common.deferred_expressions import Request
from wf.builtin.http import failures, redirects, requests, responses
from wf.builtin.http.client import Answer, Client
from wf.builtin.http.credentials import Credentials, credentials
from wf.builtin.http.tokens import Tokens
from wf.builtin.openapi import calls
from wf.builtin.openapi.documents import Documents
from wf.builtin.openapi.operations import Document, Operation
from wf.settings import HttpSettings

JsonObject = dict[str, Any]
Headers = list[tuple[str, str]]

# Methods whose repetition may do a thing twice, unless the service knows the key.
KEYED = frozenset({"POST", "PATCH"})


class Caller:
    """Carries out requests."""

    def __init__(self, settings: HttpSettings) -> None:
        self.settings = settings
        self.client = Client(settings)
        self.tokens = Tokens(self.client)
        self.documents = Documents(settings)

    async def close(self) -> None:
        await self.client.close()

    async def http(self, request: Request, idempotency_key: str) -> Any:
        """The output of `call: http`. Raises ActivityError."""

        async def send(access: Credentials) -> Answer:
            request.fill(authorization=access.authorization)
            return await self._send(request.data, access, idempotency_key, request.data)

        request.fill("authentication")
        answer = await self._authenticated(request.data.get("authentication"), request, send)
        data = request.data
        return responses.output_of(answer, data["output"], data["redirect"], request.own)

    async def openapi(self, request: Request, idempotency_key: str) -> Any:
        """The output of `call: openapi`. Raises ActivityError."""
        request.fill("document", "operationId")
        data = request.data
        document, operation = await self._operation(request)
        where = calls.where_of(document, operation, data.get("server"))

        async def send(access: Credentials) -> Answer:
            request.fill(authorization=access.authorization)
            made = calls.request_of(operation, where, data.get("parameters"))
            return await self._send(made, access, idempotency_key, data)

        request.fill("authentication")
        answer = await self._authenticated(data.get("authentication"), request, send)
        return responses.output_of(answer, data["output"], data["redirect"], request.own)

    async def _operation(self, request: Request) -> tuple[Document, Operation]:
        """An operation that is not in a document which was kept may be in the newest one."""
        given, name = request.data["document"], request.data["operationId"]
        uri = requests.uri(given.get("uri"), given.get("variables"), None)
        access = given.get("authentication")

        async def fetch(headers: Headers) -> Answer:
            return await self._authenticated(
                access, request, lambda found: self._fetch(uri, headers, found)
            )

        key = _key(uri, access, request)
        document, was_kept = await self.documents.get(uri, key, fetch)
        if was_kept and name not in document.operations:
            document, _ = await self.documents.get(uri, key, fetch, anew=True)
        return document, calls.operation_of(document, name)

    async def _fetch(self, uri: str, headers: Headers, access: Credentials) -> Answer:
        return await self.client.exchange(
            "GET",
            uri,
            headers=[*headers, *access.headers],
            auth=access.auth,
            limited_by="max_document",
        )

    async def _authenticated(
        self, given: Any, request: Request, send: Callable[[Credentials], Awaitable[Answer]]
    ) -> Answer:
        """Once more with a new token when a kept one is refused: a 401 was not carried out."""
        access = await credentials(given, request, self.tokens)
        answer = await send(access)
        if answer.status == 401 and access.may_be_stale(self.tokens):
            answer = await send(await credentials(given, request, self.tokens))
        return answer

    async def _send(
        self, data: JsonObject, access: Credentials, key: str, asked: JsonObject
    ) -> Answer:
        """`asked`: the whole request, whose `redirects` says how many may be followed."""
        method = data["method"]
        if not isinstance(method, str) or not method.isalpha():
            raise failures.wrong_value("the method must be a word such as get or post")
        method = method.upper()
        uri = requests.uri(data.get("uri"), data.get("variables"), data.get("query"))
        headers = requests.pairs(data.get("headers"), "header")
        content = requests.body(data.get("body"), headers)
        if access.headers and requests.stated(headers, "authorization") is None:
            headers += access.headers
        own = self.settings.idempotency_header
        if own and method in KEYED and requests.stated(headers, own.lower()) is None:
            headers.append((own, key))
        answer = await self.client.exchange(
            method, uri, headers=headers, content=content, auth=access.auth
        )
        for _ in range(min(asked.get("redirects") or 0, redirects.MOST)):
            place = answer.headers.get("location")
            found = redirects.following(method, uri, answer.status, place)
            if found is None:
                break
            if not found.as_it_was:
                content, headers = None, _without_body(headers, own)
            method, uri = found.method, found.uri
            answer = await self.client.exchange(
                method, uri, headers=headers, content=content, auth=access.auth
            )
        return answer


def _without_body(headers: Headers, idempotency: str) -> Headers:
    """Those of a request that is followed by a GET."""
    return [
        (name, value)
        for name, value in headers
        if not name.lower().startswith("content-") and name.lower() != idempotency.lower()
    ]


def _key(uri: str, access: Any, request: Request) -> str:
    """What a document is kept under: who may not read it does not get it from memory either."""
    secrets = [
        request.secrets.get(fields.get("use")) for fields in (access or {}).values() if fields
    ]
    data = orjson.dumps([uri, access, secrets], option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(data).hexdigest()
