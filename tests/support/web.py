"""A web service on a random loopback port: it answers as its path asks, and remembers requests."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

USER, PASSWORD = "ada", "correct horse"
REALM, NONCE = "here", "n0nce"


@dataclass(slots=True, frozen=True)
class Seen:
    """One request as it came in."""

    method: str
    path: str
    query: str
    headers: dict[str, str]  # names in lower case
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(slots=True)
class Web:
    """The service. Paths are handled by the methods of `_Handler` below."""

    url: str = ""
    seen: list[Seen] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)  # issued, in order
    revoked: set[str] = field(default_factory=set)
    expires_in: Any = 3600
    statuses: list[int] = field(default_factory=list)  # what /flaky answers, one after the other
    release: threading.Event = field(default_factory=threading.Event)  # ends /slow
    documents: dict[str, str] = field(default_factory=dict)  # path → text, served as they are
    told: dict[str, dict[str, str]] = field(default_factory=dict)  # path → headers of the document
    guarded: dict[str, str] = field(default_factory=dict)  # path → the authorization it takes

    def paths(self) -> list[str]:
        return [f"{one.method} {one.path}" for one in self.seen]

    def last(self) -> Seen:
        return self.seen[-1]


@contextmanager
def serving() -> Iterator[Web]:
    web = Web()

    class Handler(_Handler):
        service = web

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    web.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield web
    finally:
        web.release.set()
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    service: Web
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: Any) -> None:
        """Tests are quiet."""

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except (ConnectionResetError, BrokenPipeError):
            self.close_connection = True

    def answer_any(self) -> None:
        parts = urllib.parse.urlsplit(self.path)
        length = int(self.headers.get("content-length") or 0)
        seen = Seen(
            self.command,
            parts.path,
            parts.query,
            {name.lower(): value for name, value in self.headers.items()},
            self.rfile.read(length),
        )
        self.service.seen.append(seen)
        if parts.path in self.service.documents:
            self._document(seen)
            return
        name = parts.path.split("/")[1].replace("-", "_")
        getattr(self, f"on_{name}", self.on_echo)(seen)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = answer_any

    def _send(self, status: int, body: bytes, kind: str = "", **headers: str) -> None:
        self.send_response(status)
        if kind:
            self.send_header("content-type", kind)
        for header, value in headers.items():
            self.send_header(header.replace("_", "-"), value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _document(self, seen: Seen) -> None:
        headers = {"content-type": "application/json", **self.service.told.get(seen.path, {})}
        kind, wanted = headers.pop("content-type"), self.service.guarded.get(seen.path)
        if wanted is not None and seen.headers.get("authorization") != wanted:
            self._json({"welcome": False}, 401)
        elif "etag" in headers and seen.headers.get("if-none-match") == headers["etag"]:
            self._send(304, b"", **headers)
        else:
            self._send(200, self.service.documents[seen.path].encode(), kind, **headers)

    def _json(self, data: Any, status: int = 200, **headers: str) -> None:
        self._send(status, json.dumps(data).encode(), "application/json", **headers)

    def on_busy(self, seen: Seen) -> None:
        self._json({}, 503, retry_after="7")

    def on_echo(self, seen: Seen) -> None:
        self._json(
            {
                "method": seen.method,
                "path": seen.path,
                "query": seen.query,
                "headers": seen.headers,
                "body": seen.body.decode("utf-8", "replace"),
            }
        )

    def on_status(self, seen: Seen) -> None:
        self._json({"why": "as asked"}, int(seen.path.rpartition("/")[2]))

    def on_flaky(self, seen: Seen) -> None:
        status = self.service.statuses.pop(0) if self.service.statuses else 200
        self._json({"status": status}, status)

    def on_moved(self, seen: Seen) -> None:
        self._send(302, b"", location="/echo")

    def on_hop(self, seen: Seen) -> None:
        """/hop/<status>/<n>: as many times on to itself, then to /echo."""
        _, _, status, left = seen.path.split("/")
        onward = f"/hop/{status}/{int(left) - 1}" if int(left) else "/echo"
        self._send(int(status), b"", location=onward)

    def on_away(self, seen: Seen) -> None:
        self._send(307, b"", location=urllib.parse.unquote(seen.query))

    def on_text(self, seen: Seen) -> None:
        self._send(200, "grüß".encode("latin-1"), "text/plain; charset=iso-8859-1")

    def on_binary(self, seen: Seen) -> None:
        self._send(200, b"\x00\x01\xff", "image/png")

    def on_broken(self, seen: Seen) -> None:
        self._send(200, b"{", "application/json")

    def on_nothing(self, seen: Seen) -> None:
        self._send(204, b"")

    def on_large(self, seen: Seen) -> None:
        """More than anybody wants, in pieces, without saying how much."""
        self.send_response(200)
        self.send_header("content-type", "text/plain")
        self.send_header("connection", "close")
        self.end_headers()
        for _ in range(2000):
            self.wfile.write(b"x" * 65536)
        self.close_connection = True

    def on_slow(self, seen: Seen) -> None:
        self.service.release.wait(30)
        self._json({"slow": True})

    def on_hangs_up(self, seen: Seen) -> None:
        self.close_connection = True

    def on_cookie(self, seen: Seen) -> None:
        self._json({"cookie": seen.headers.get("cookie")}, set_cookie="session=1; Path=/")

    def on_basic(self, seen: Seen) -> None:
        pair = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        self._guard(seen.headers.get("authorization") == f"Basic {pair}", "Basic realm=here")

    def on_bearer(self, seen: Seen) -> None:
        """Accepts what /oauth2/token issued and nobody revoked."""
        token = seen.headers.get("authorization", "").removeprefix("Bearer ")
        known = token in self.service.tokens and token not in self.service.revoked
        self._guard(known, "Bearer")

    def on_digest(self, seen: Seen) -> None:
        given = seen.headers.get("authorization", "")
        challenge = f'Digest realm="{REALM}", nonce="{NONCE}", qop="auth", algorithm=SHA-256'
        self._guard(given.startswith("Digest ") and _is_right(given, seen), challenge)

    def _guard(self, passed: bool, challenge: str) -> None:
        if passed:
            self._json({"welcome": True})
        else:
            self._json({"welcome": False}, 401, www_authenticate=challenge)

    def on_oauth2(self, seen: Seen) -> None:
        kind = seen.headers.get("content-type", "")
        form = seen.json() if "json" in kind else dict(urllib.parse.parse_qsl(seen.body.decode()))
        basic = base64.b64encode(b"client:s3cret-of-client").decode()
        right = form.get("client_secret") == "s3cret-of-client"
        if not right and seen.headers.get("authorization") != f"Basic {basic}":
            self._json({"error": "invalid_client", "error_description": "who?"}, 401)
            return
        token = f"token-{len(self.service.tokens) + 1}-{time.monotonic_ns()}"
        self.service.tokens.append(token)
        answer = {"access_token": token, "token_type": "bearer"}
        if self.service.expires_in is not None:
            answer["expires_in"] = self.service.expires_in
        self._json(answer)

    def on_realm(self, seen: Seen) -> None:
        self._json({"token_endpoint": f"{self.service.url}/oauth2/token"})


def _is_right(header: str, seen: Seen) -> bool:
    """RFC 7616 with SHA-256 and qop=auth."""
    fields = {}
    for part in header.removeprefix("Digest ").split(","):
        name, _, value = part.strip().partition("=")
        fields[name] = value.strip('"')

    def digest(*parts: str) -> str:
        return hashlib.sha256(":".join(parts).encode()).hexdigest()

    first = digest(USER, REALM, PASSWORD)
    second = digest(seen.method, fields["uri"])
    wanted = digest(first, NONCE, fields["nc"], fields["cnonce"], fields["qop"], second)
    return fields["username"] == USER and fields["response"] == wanted
