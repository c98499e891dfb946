"""OpenAPI documents: fetched, read in a thread, and kept in memory for a while.

Nothing is stored: a worker that starts anew fetches them anew.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import orjson

from wf.builtin.http import failures
from wf.builtin.http.client import Answer
from wf.builtin.openapi.operations import Document, read_document
from wf.builtin.openapi.references import UnusableDocument
from wf.errors import DefinitionError
from wf.process import engine_functions
from wf.settings import HttpSettings

KEPT = 64  # documents; the one that was fetched the longest ago goes
BYTES_EACH = 200  # what a thing takes that references make many of
KEPT_SIZES = 4  # times max_document: how large they may be together
ACCEPT = ("accept", "application/json, application/yaml;q=0.9, */*;q=0.5")

Headers = list[tuple[str, str]]
Fetch = Callable[[Headers], Awaitable[Answer]]

_MAX_AGE = re.compile(r"(?:^|[\s,])max-age=(\d{1,9})(?:$|[\s,])")


@dataclass(frozen=True, slots=True)
class _Kept:
    document: Document
    size: int
    tag: str  # of this version; empty when its server gave none
    old_at_s: float  # time.monotonic()


class Documents:
    """The documents of one worker."""

    def __init__(self, settings: HttpSettings) -> None:
        self._settings = settings
        self._kept: dict[str, _Kept] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    async def get(
        self, uri: str, key: str, fetch: Fetch, *, anew: bool = False
    ) -> tuple[Document, bool]:
        """A document, and whether it was there already. Raises ActivityError.

        `key`: what it is kept under: of the address and of whoever may read it. `fetch` gets it
        with additional headers. Calls that need the same one wait for each other. `anew`: what is
        there is not enough.
        """
        lock = self._locks.setdefault(key, asyncio.Lock())
        try:
            async with lock:
                known = self._kept.get(key)
                if known is not None and not anew and time.monotonic() < known.old_at_s:
                    return known.document, True
                return await self._fetched(uri, key, fetch, known), False
        finally:
            if not lock.locked() and self._locks.get(key) is lock:
                del self._locks[key]

    async def _fetched(self, uri: str, key: str, fetch: Fetch, known: _Kept | None) -> Document:
        headers = [ACCEPT]
        if known is not None and known.tag:
            headers.append(("if-none-match", known.tag))
        asked_s = time.monotonic()
        answer = await fetch(headers)
        if answer.status == 304 and known is not None and known.tag:
            document, size, tag = known.document, known.size, known.tag
        elif answer.status == 200:
            document = await asyncio.to_thread(parsed, uri, answer.content)
            size = max(len(answer.content), BYTES_EACH * document.weight)
            tag = answer.headers.get("etag", "")
        else:
            raise _refused(uri, answer)
        control = answer.headers.get("cache-control", "")
        self._kept.pop(key, None)
        if "no-store" not in control.lower():
            old_at_s = asked_s + age_s(control, self._settings.document_age)
            self._kept[key] = _Kept(document, size, tag, old_at_s)
            self._make_room()
        return document

    def _make_room(self) -> None:
        most = KEPT_SIZES * self._settings.max_document
        total = sum(one.size for one in self._kept.values())
        while len(self._kept) > KEPT or total > most:
            total -= self._kept.pop(next(iter(self._kept))).size


def age_s(cache_control: str, most_s: float) -> float:
    """How long an answer may be used: `most_s`, or less when it says so."""
    control = cache_control.lower()
    if "no-cache" in control or "no-store" in control:
        return 0.0
    stated = _MAX_AGE.search(control)
    return min(most_s, float(stated[1])) if stated else most_s


def parsed(uri: str, content: bytes) -> Document:
    """A document of JSON or YAML. Raises ActivityError."""
    try:
        return read_document(uri, _data(uri, content))
    except UnusableDocument as fault:
        raise failures.misconfigured(f"{uri} cannot be used: {fault}") from None


def _data(uri: str, content: bytes) -> Any:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise failures.unusable_answer(f"{uri} is no text in UTF-8") from None
    if not text.strip():
        raise failures.unusable_answer(f"{uri} is empty")
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        if text.lstrip()[:1] in "{[":
            raise failures.unusable_answer(f"{uri} is no JSON: {error}") from None
    try:
        document, _ = engine_functions.resolve("definition.read")(text, uri)
    except DefinitionError as error:
        raise failures.unusable_answer(
            f"neither JSON nor YAML that can be read (JSON may be larger): {error.problems[0]}"
        ) from None
    return document


def _refused(uri: str, answer: Answer) -> Exception:
    detail = f"{uri} gave no document: it answered {answer.status} {answer.reason}".rstrip()
    if 300 <= answer.status < 400 and (target := answer.headers.get("location")):
        detail += f" to {target}: redirections are not followed, so name that address"
    if answer.status == 401:
        detail += ": `document.endpoint.authentication` says how to authenticate there"
    return failures.of_status(answer.status, answer.reason, detail, answer.retry_after_s)
