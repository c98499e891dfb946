"""One exchange over HTTP: bounded, without cookies, proxies or anything else that it was not told.

All calls of a worker share one connection pool.
"""

from __future__ import annotations

import os
import ssl
import time
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any

import httpx

from wf.builtin.http import failures
from wf.builtin.http.retry_after import retry_after_s
from wf.settings import HttpSettings

USER_AGENT = "wf-supervisor"
POOLED_CONNECTIONS = 100


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, read to its end."""

    status: int
    reason: str
    headers: httpx.Headers
    content: bytes
    request: httpx.Request
    retry_after_s: float | None = None  # when a 429 or 503 says that it may be asked again


class Client:
    """An httpx client that obeys [builtin.http]."""

    def __init__(self, settings: HttpSettings) -> None:
        self._settings = settings
        # What one call is given by a service must not reach another call: no cookie is kept.
        jar = CookieJar(DefaultCookiePolicy(allowed_domains=[]))
        self._client = httpx.AsyncClient(
            verify=_trust(settings),
            trust_env=False,
            proxy=settings.proxy,
            cookies=jar,
            follow_redirects=False,
            headers={"user-agent": USER_AGENT, "accept-encoding": "gzip, deflate"},
            # The attempt's own timeout ends everything else.
            timeout=httpx.Timeout(None, connect=settings.connect_timeout),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=POOLED_CONNECTIONS),
        )

    async def close(self) -> None:
        await self._client.aclose()

    async def exchange(
        self,
        method: str,
        uri: str,
        *,
        headers: list[tuple[str, str]] | None = None,
        content: bytes | None = None,
        auth: httpx.Auth | None = None,
        limited_by: str = "max_response",
    ) -> Answer:
        """Send it and read the whole answer. Raises ActivityError when there is none, or when it
        is larger than the setting `limited_by` allows."""
        try:
            request = self._client.build_request(
                method,
                uri,
                headers=[(name.encode(), value.encode()) for name, value in headers or ()],
                content=content,
            )
            response = await self._client.send(
                request, auth=auth or httpx.USE_CLIENT_DEFAULT, stream=True
            )
            try:
                body = await self._read(response, limited_by)
            finally:
                await response.aclose()
        except (httpx.InvalidURL, httpx.UnsupportedProtocol, httpx.LocalProtocolError) as error:
            raise failures.misconfigured(f"{method} {uri} cannot be sent: {error}") from None
        except httpx.DecodingError as error:
            raise failures.unusable_answer(
                f"the answer to {method} {uri} cannot be unpacked: {error}"
            ) from None
        except httpx.TransportError as error:
            told = str(error) or type(error).__name__
            raise failures.unreachable(f"{method} {uri}: {told}") from None
        return Answer(
            response.status_code,
            response.reason_phrase,
            response.headers,
            body,
            response.request,
            retry_after_s(
                response.status_code, response.headers, time.time(), self._settings.max_retry_after
            ),
        )

    async def _read(self, response: httpx.Response, key: str) -> bytes:
        """The unpacked body; no more of it than allowed is ever held."""
        limit: int = getattr(self._settings, key)
        what = f"the answer of {response.request.url.host} (status {response.status_code})"
        stated = response.headers.get("content-length", "")
        if stated.isdigit() and int(stated) > limit and response.request.method != "HEAD":
            raise failures.too_large(what, limit, key)
        body = bytearray()
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > limit:
                raise failures.too_large(what, limit, key)
        return bytes(body)


def _trust(settings: HttpSettings) -> ssl.SSLContext:
    """The host's own certificate authorities, or the file that the settings name."""
    if settings.ca is not None:
        return ssl.create_default_context(cafile=settings.ca)
    paths = ssl.get_default_verify_paths()
    if paths.cafile or (paths.capath and os.listdir(paths.capath)):
        return ssl.create_default_context()
    import certifi

    return ssl.create_default_context(cafile=certifi.where())


def described(answer: Answer) -> dict[str, Any]:
    """The request as the specification's HTTP response shows it, credentials left out."""
    hidden = ("authorization", "proxy-authorization", "cookie")
    headers = {
        name: "***" if name in hidden else value for name, value in answer.request.headers.items()
    }
    uri = answer.request.url.copy_with(username=None, password=None)
    return {"method": answer.request.method, "uri": str(uri), "headers": headers}
