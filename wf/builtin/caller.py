"""The HTTP calls of one worker: a client and its tokens. Imports httpx."""

from __future__ import annotations

from typing import Any

from wf.builtin import answers, failures, requests
from wf.builtin.client import Answer, Client
from wf.builtin.credentials import credentials
from wf.builtin.deferred import Request
from wf.builtin.tokens import Tokens
from wf.settings import HttpSettings

JsonObject = dict[str, Any]

# Methods whose repetition may do a thing twice, unless the service knows the key.
KEYED = frozenset({"POST", "PATCH"})


class Caller:
    """Carries out requests."""

    def __init__(self, settings: HttpSettings) -> None:
        self.settings = settings
        self.client = Client(settings)
        self.tokens = Tokens(self.client)

    async def close(self) -> None:
        await self.client.close()

    async def http(self, request: Request, idempotency_key: str) -> Any:
        """The output of `call: http`. Raises ActivityError."""
        request.fill("authentication")
        answer = await self._authenticated(request, idempotency_key)
        data = request.data
        return answers.output_of(answer, data["output"], data["redirect"], request.own)

    async def _authenticated(self, request: Request, key: str) -> Answer:
        """Once more with a new token when a kept one is refused: a 401 was not carried out."""
        access = await credentials(request.data.get("authentication"), request, self.tokens)
        request.fill(authorization=access.authorization)
        answer = await self._send(request.data, access.headers, access.auth, key)
        if answer.status == 401 and access.may_be_stale(self.tokens):
            access = await credentials(request.data.get("authentication"), request, self.tokens)
            answer = await self._send(request.data, access.headers, access.auth, key)
        return answer

    async def _send(
        self, data: JsonObject, more: list[tuple[str, str]], auth: Any, key: str
    ) -> Answer:
        method = data["method"]
        if not isinstance(method, str) or not method.isalpha():
            raise failures.wrong_value("the method must be a word such as get or post")
        method = method.upper()
        uri = requests.uri(data.get("uri"), data.get("variables"), data.get("query"))
        headers = requests.pairs(data.get("headers"), "header")
        content = requests.body(data.get("body"), headers)
        if more and requests.stated(headers, "authorization") is None:
            headers += more
        own = self.settings.idempotency_header
        if own and method in KEYED and requests.stated(headers, own.lower()) is None:
            headers.append((own, key))
        return await self.client.exchange(method, uri, headers=headers, content=content, auth=auth)
