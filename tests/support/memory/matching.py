"""Subjects: wildcards, and the transform that appends an instance's partition. Pure."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

_FUNCTION = re.compile(r"\{\{(\w+)\(([\d,\s]+)\)\}\}")


@lru_cache(maxsize=4096)
def _tokens(subject: str) -> tuple[str, ...]:
    return tuple(subject.split("."))


def matches(pattern: str, subject: str) -> bool:
    """Whether a subject (without wildcards) is one of the pattern's."""
    wanted = _tokens(pattern)
    found = subject.split(".")
    for place, token in enumerate(wanted):
        if token == ">":
            return len(found) > place
        if place >= len(found) or (token != "*" and token != found[place]):
            return False
    return len(found) == len(wanted)


def partition(count: int, key: str) -> int:
    """As the server's `partition(count, …)`: FNV-1a of 32 bits."""
    value = 2166136261
    for byte in key.encode():
        value = ((value ^ byte) * 16777619) & 0xFFFFFFFF
    return value % count


def transformed(config: dict[str, Any], subject: str) -> str:
    """The subject under which a stream of this config stores a message sent to `subject`."""
    rule = config.get("subject_transform")
    if not rule or not matches(rule["src"], subject):
        return subject
    found = subject.split(".")
    wild = [found[n] for n, token in enumerate(rule["src"].split(".")) if token == "*"]

    def fill(match: re.Match[str]) -> str:
        numbers = [int(part) for part in match[2].split(",")]
        if match[1] == "wildcard":
            return wild[numbers[0] - 1]
        assert match[1] == "partition", f"{match[1]} is not modelled"
        return str(partition(numbers[0], "".join(wild[n - 1] for n in numbers[1:])))

    return _FUNCTION.sub(fill, rule["dest"])
