"""Large values of a snapshot that are stored beside it (docs/protocol.md, WORKFLOW_STATES).

The commit that a snapshot carries names them: `apart` is {key: [path, …]}. The value is the
message of `$KV.WORKFLOW_STATES.<id>.<key>`, and each path is a place in the snapshot where it
belongs, as the names from the root on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

JsonObject = dict[str, Any]

Places = dict[str, list[list[str]]]  # by key: where in the snapshot its value belongs


def places(snapshot: JsonObject) -> Places:
    """What a snapshot, as it is stored, does not hold itself."""
    found: Places = snapshot.get("commit", {}).get("apart", {})
    return found if isinstance(found, dict) else {}


def put_back(snapshot: JsonObject, apart: Places, values: Mapping[str, Any]) -> list[str]:
    """Put the values (by key) where they belong, and null where there is none; the keys of the
    missing ones are returned."""
    for key, paths in apart.items():
        for path in paths:
            entry = snapshot
            for name in path[:-1]:
                entry = entry[name]
            entry[path[-1]] = values.get(key)
    return [key for key in apart if key not in values]
