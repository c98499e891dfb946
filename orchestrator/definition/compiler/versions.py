"""Semantic versions: which are valid, and which is the latest."""

from __future__ import annotations

import re

# Build metadata is left out: versions that differ in it alone would be equal, and `+` may not
# stand in a KV key.
SEMANTIC = re.compile(
    r"(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)"
    r"(?:-((?:0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*)"
    r"(?:\.(?:0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*))*))?\Z"
)
VERSION_RULE = "write a semantic version such as 1.0.0 or 1.1.0-beta.2, without build metadata"

VersionKey = tuple[int, tuple[int, int, int], int, tuple[tuple[int, int, str], ...], str]


def version_key(version: str) -> VersionKey:
    """Sorts by semver precedence (a release after its pre-releases). Text that is no version
    sorts first, so that it is never the latest."""
    match = SEMANTIC.match(version)
    if match is None:
        return (0, (0, 0, 0), 0, (), version)
    major, minor, patch, pre = match.groups()
    core = (int(major), int(minor), int(patch))
    if pre is None:
        return (1, core, 1, (), "")
    parts = tuple(
        (0, int(part), "") if part.isdecimal() else (1, 0, part) for part in pre.split(".")
    )
    return (1, core, 0, parts, "")
