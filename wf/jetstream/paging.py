"""Reading much, page by page: how many messages a page has depends on their size."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable

from wf.jetstream.port import Port, Stored

PAGE_BYTES = 16 * 1024 * 1024  # about; a page has one message at least


async def between(
    port: Port, stream: str, subject: str, first: int, last: int
) -> AsyncIterator[list[Stored]]:
    """The messages of `subject` with sequences from `first` to `last`, in stream order."""
    while first <= last:
        page = await port.scan(stream, subject, from_sequence=first, limit=last - first + 1)
        if not page:
            return
        first = page[-1].sequence + 1
        yield [one for one in page if one.sequence <= last]


async def last_pages(
    port: Port, stream: str, subjects: Iterable[str]
) -> AsyncIterator[dict[str, Stored]]:
    """The last message of each subject that has one."""
    left = dict.fromkeys(subjects)
    while left:
        page, whole = await port.last_some(stream, list(left), PAGE_BYTES)
        for subject in page:
            left.pop(subject, None)
        if page:
            yield page
        if whole:
            return
