"""Reading what streams hold: direct gets (any replica), or the stream's leader."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import orjson

from wf.jetstream import api
from wf.jetstream.encode import (
    description_of,
    milliseconds,
    read_headers,
    status_of,
    stored_direct,
)
from wf.jetstream.port import Stored
from wf.jetstream.replies import Replies

MANY = 500  # subjects asked for at once; the server refuses more than 1,024
SCAN = 500  # messages asked for at once
SCAN_BYTES = 16 * 1024 * 1024  # of one page
PAGE_BYTES = 8 * 1024 * 1024  # of one answer; the message with which it is full comes whole

END = 204
NOT_FOUND = 404


async def last(replies: Replies, stream: str, subject: str, *, leader: bool) -> Stored | None:
    """The subject's last message."""
    if leader:
        return await _from_leader(replies, stream, {"last_by_subj": subject})
    found = await api.collect(replies, f"$JS.API.DIRECT.GET.{stream}.{subject}", b"", many=False)
    return _one(stream, found)


async def at(replies: Replies, stream: str, sequence: int) -> Stored | None:
    """The message with this sequence."""
    if sequence < 1:
        return None
    body = orjson.dumps({"seq": sequence})
    found = await api.collect(replies, f"$JS.API.DIRECT.GET.{stream}", body, many=False)
    return _one(stream, found)


async def last_some(
    replies: Replies, stream: str, subjects: Sequence[str], limit_bytes: int | None
) -> tuple[dict[str, Stored], bool]:
    """The last message of each subject that has one, until `limit_bytes` have come; and whether
    that is all of them."""
    found: dict[str, Stored] = {}
    size = 0
    for start in range(0, len(subjects), MANY):
        names = list(subjects[start : start + MANY])
        body: dict[str, Any] = {"multi_last": names, "batch": len(names)}
        more = True
        while more:
            if limit_bytes is not None:
                if size >= limit_bytes:
                    return found, False
                body["max_bytes"] = min(PAGE_BYTES, limit_bytes - size)
            part, more = await _many(replies, stream, body)
            found.update((one.subject, one) for one in part)
            size += sum(len(one.data) for one in part)
            # Not bound to what was the last at first: what is written meanwhile is read as well.
            body["seq"] = part[-1].sequence + 1 if part else 1
            more = more and bool(part)
    return found, True


async def scan(
    replies: Replies, stream: str, subject: str, from_sequence: int, from_ms: int | None, limit: int
) -> list[Stored]:
    """Messages of `subject` in stream order, from a sequence or a time on. One alone is not asked
    for as a batch: with each message of a batch the server counts all that follow it."""
    if limit == 1 and from_ms is None:
        one = orjson.dumps({"next_by_subj": subject, "seq": max(from_sequence, 1)})
        answers = await api.collect(replies, f"$JS.API.DIRECT.GET.{stream}", one, many=False)
        stored = _one(stream, answers)
        return [] if stored is None else [stored]
    found: list[Stored] = []
    size = 0
    while len(found) < limit:
        body: dict[str, Any] = {"next_by_subj": subject, "batch": min(SCAN, limit - len(found))}
        if from_ms is None or found:
            body["seq"] = from_sequence
        else:
            body["start_time"] = datetime.fromtimestamp(from_ms / 1000, UTC).isoformat()
        part, more = await _many(replies, stream, body)
        found.extend(part)
        size += sum(len(one.data) for one in part)
        if not part or not more or size >= SCAN_BYTES:
            break
        from_sequence = part[-1].sequence + 1
    return found


async def subjects(replies: Replies, stream: str, subject_filter: str) -> dict[str, int]:
    """subject → how many messages, page by page."""
    counts: dict[str, int] = {}
    while True:
        info = await api.call(
            replies,
            f"STREAM.INFO.{stream}",
            {"subjects_filter": subject_filter, "offset": len(counts)},
        )
        page: dict[str, int] = info["state"].get("subjects") or {}
        counts.update(page)
        if not page or len(counts) >= int(info.get("total", 0)):
            return counts


def _one(stream: str, found: list[tuple[bytes, bytes]]) -> Stored | None:
    headers, data = found[0]
    status = status_of(headers)
    if status == NOT_FOUND:
        return None
    if status:
        raise api.ApiError(f"DIRECT.GET.{stream}", status, description_of(headers))
    return stored_direct(read_headers(headers), data)


async def _many(replies: Replies, stream: str, body: dict[str, Any]) -> tuple[list[Stored], bool]:
    """(messages, whether there are more) of a batched direct get."""
    found = await api.collect(
        replies,
        f"$JS.API.DIRECT.GET.{stream}",
        orjson.dumps({"max_bytes": PAGE_BYTES, **body}),
        many=True,
    )
    closing = found[-1][0]
    status = status_of(closing)
    if status not in (END, NOT_FOUND):
        raise api.ApiError(f"DIRECT.GET.{stream}", status, description_of(closing))
    more = int(read_headers(closing).get("Nats-Num-Pending", "0")) > 0
    return [stored_direct(read_headers(headers), data) for headers, data in found[:-1]], more


async def _from_leader(replies: Replies, stream: str, body: dict[str, Any]) -> Stored | None:
    try:
        answer = await api.call(replies, f"STREAM.MSG.GET.{stream}", body)
    except api.ApiError as error:
        if error.code == api.MESSAGE_NOT_FOUND:
            return None
        raise
    message = answer["message"]
    raw = b64decode(message.get("hdrs") or b"")
    return Stored(
        message["subject"],
        b64decode(message.get("data") or b""),
        (read_headers(raw) or None) if raw else None,
        int(message["seq"]),
        milliseconds(message["time"]),
    )
