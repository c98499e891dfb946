"""How an activity's consumer is to be when several pools have announced it. Pure.

Two hosts may offer an activity with another `ack_wait`, and a pool that is rolled does so with
itself for a while. Were the last one to hold, each would change it back under the other, and a
task would be delivered twice. So the entry in the catalogue then lists everybody's claim, and the
largest of each number holds until who wanted it has been silent for LAPSE_S.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from wf.protocol.messages import JsonObject

REFRESH_S = 20.0  # a claim is made again this often, as long as they differ
LAPSE_S = 90.0


@dataclass(frozen=True, slots=True)
class Claim:
    """What the workers of `owner` (`<host>/<pool>`) want; `beat` changes while they are there."""

    owner: str
    consumer: JsonObject
    beat: int

    @property
    def key(self) -> tuple[str, bytes]:
        return self.owner, orjson.dumps(self.consumer, option=orjson.OPT_SORT_KEYS)


def claims(entry: Mapping[str, Any]) -> list[Claim]:
    """Those that the entry lists; else that of the one who wrote it."""
    listed = entry.get("claims")
    if not isinstance(listed, list):
        listed = [{"owner": entry.get("owner"), "consumer": entry.get("consumer")}]
    return [
        Claim(str(one.get("owner")), one["consumer"], _whole(one.get("beat")))
        for one in listed
        if isinstance(one, dict) and _is_consumer(one.get("consumer"))
    ]


def differ(found: list[Claim]) -> bool:
    """Whether not all want the same."""
    return len({one.key[1] for one in found}) > 1


class Announcement:
    """What one worker says of one of its activities, and what it has heard others say."""

    def __init__(self, entry: JsonObject) -> None:
        self.entry = entry
        (self._mine,) = claims(entry)
        self._heard: dict[tuple[str, bytes], tuple[int, float]] = {}  # claim → beat, since when

    def first(self, stored: JsonObject | None, now_s: float) -> JsonObject | None:
        """The entry that has to be written when the worker starts; None: it is there already."""
        wanted = self._joined(self.entry, self._others(stored, now_s), now_s)
        return None if stored == wanted else wanted

    def next(self, stored: JsonObject | None, now_s: float) -> JsonObject | None:
        """The entry that has to be written now; None: the stored one will do."""
        found = claims(stored) if stored is not None else []
        if stored is None or not found:
            return self.entry
        others = self._others(stored, now_s)
        mine = next((one for one in found if one.key == self._mine.key), None)
        if "claims" not in stored and not differ([self._mine, *found]):
            return None
        if mine is not None and len(others) == len(found) - 1 and not self._is_due(mine, now_s):
            return None
        return self._joined(stored, others, now_s)

    def _others(self, stored: JsonObject | None, now_s: float) -> list[Claim]:
        """The claims of others that have not lapsed. What counts is how long we have heard nothing
        new of them: clocks of other hosts do not matter."""
        alive = []
        for one in claims(stored) if stored is not None else []:
            beat, since_s = self._heard.get(one.key, (None, now_s))
            if beat != one.beat:
                since_s = now_s
            self._heard[one.key] = (one.beat, since_s)
            if one.key != self._mine.key and now_s - since_s < LAPSE_S:
                alive.append(one)
        return alive

    def _is_due(self, mine: Claim, now_s: float) -> bool:
        return now_s - self._heard[mine.key][1] >= REFRESH_S

    def _joined(self, base: JsonObject, others: list[Claim], now_s: float) -> JsonObject:
        entry = {key: value for key, value in base.items() if key != "claims"}
        if not differ([self._mine, *others]):
            return {**entry, "consumer": self._mine.consumer}
        mine = Claim(self._mine.owner, self._mine.consumer, int(now_s * 1000))
        everybody = sorted([mine, *others], key=lambda one: one.key)
        listed = [
            {"owner": one.owner, "consumer": one.consumer, "beat": one.beat} for one in everybody
        ]
        return {**entry, "consumer": largest(everybody), "claims": listed}


def largest(found: list[Claim]) -> JsonObject:
    """The largest of each number: leases, deliveries and room are enough for each of them."""
    keys = sorted({key for one in found for key in one.consumer})
    return {key: max(one.consumer[key] for one in found if key in one.consumer) for key in keys}


def _is_consumer(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and bool(value)
        and all(
            isinstance(one, int | float) and not isinstance(one, bool) for one in value.values()
        )
    )


def _whole(value: Any) -> int:
    return value if isinstance(value, int) else 0
