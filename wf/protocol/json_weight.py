"""How large a value would be as JSON, and JSON as a value, without making either. Pure.

A value may hold the same list many times over: `reduce range(40) as $i (0; [., .])` is 40 lists in
memory and a terabyte of JSON. An encoder finds out by running out of memory.
"""

from __future__ import annotations

from typing import Any

SMALL_BYTES = 64 * 1024  # less than this is not looked at
CONTAINER_BYTES = 72  # what an empty list takes in memory, with its place in another
MEMBER_BYTES = 40  # a number or a short string, likewise


def weight(data: bytes) -> int:
    """Bytes that JSON takes together with the value that is decoded from it, about: three bytes of
    `[],` become 72."""
    size = len(data)
    if size < SMALL_BYTES:
        return size
    containers = data.count(b"[") + data.count(b"{")
    return size + CONTAINER_BYTES * containers + MEMBER_BYTES * data.count(b",")


def exceeds(value: Any, limit_bytes: int) -> bool:
    """Whether `value` certainly takes more than `limit_bytes` as JSON. Looks at no more than so
    many values. What does not exceed may still take some more: escapes and digits are not counted.
    """
    left = limit_bytes
    pending = [value]
    while pending:
        one = pending.pop()
        kind = type(one)
        if kind is dict:
            left -= 1 + 4 * len(one) + sum(map(len, one))
            if left < 0:
                return True
            pending.extend(one.values())
        elif kind is list:
            left -= 1 + len(one)
            if left < 0:
                return True
            pending.extend(one)
        elif kind is str:
            left -= len(one)
    return left < 0
