"""Instance ids that sort by time: 26 characters of Crockford's base 32, laid out like a ULID.

48 bits of milliseconds since the epoch, then 80 bits that tell ids of one millisecond apart:
random ones where a client chooses the id, the stream sequence of the start event where the
orchestrator derives it. Pure: time and randomness come in as arguments.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import blake2b

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
LENGTH = 26
RANDOM_BYTES = 10

_TIME_LIMIT = 1 << 48
_TAIL_LIMIT = 1 << (8 * RANDOM_BYTES)


def new_id(now_ms: int, random_bytes: bytes) -> str:
    """An id for a client to start an instance under; `random_bytes` are 10 fresh random bytes.

    Raises ValueError for another number of bytes, or a time outside 48 bits.
    """
    if len(random_bytes) != RANDOM_BYTES:
        raise ValueError(f"new_id needs {RANDOM_BYTES} random bytes, found {len(random_bytes)}")
    return _encode(now_ms, int.from_bytes(random_bytes, "big"))


def derived_id(sequence: int, timestamp_ms: int) -> str:
    """The id of an instance whose start named none: the same event always gives the same id.

    `sequence` and `timestamp_ms` are those that the stream gave the start event. Raises ValueError
    when either is out of range.
    """
    if not 0 <= sequence < _TAIL_LIMIT:
        raise ValueError(f"sequence {sequence} does not fit into 80 bits")
    return _encode(timestamp_ms, sequence)


def scheduled_id(workflow: str, due_ms: int) -> str:
    """The id of the instance of `workflow` (qualified) that is due at `due_ms`, and only of that.

    Such as `nightly-20261125T020000Z-` and eight digits, which tell namespaces and milliseconds
    apart.
    """
    due = datetime.fromtimestamp(due_ms / 1000, UTC).strftime("%Y%m%dT%H%M%SZ")
    name = workflow.rpartition(".")[2][:SCHEDULED_READABLE]
    digits = blake2b(f"{workflow}/{due_ms}".encode(), digest_size=4).hexdigest()
    return f"{name}-{due}-{digits}"


def triggered_id(workflow: str, events: Sequence[str]) -> str:
    """The id of the instance of `workflow` (qualified) that these events start, and only they.

    `events`: what tells each from all others. Twenty digits, because there may be very many.
    """
    name = workflow.rpartition(".")[2][:TRIGGERED_READABLE]
    digits = blake2b("/".join([workflow, *events]).encode(), digest_size=10).hexdigest()
    return f"{name}-{digits}"


SCHEDULED_READABLE = 36
TRIGGERED_READABLE = 43
CHILD_READABLE = 40
CHILD_DIGITS = 12


def child_id(parent: str, run: int) -> str:
    """The id of the instance that `run` of `parent` starts: at most 64 characters.

    What can be read of it may be cut; the digits at the end tell it from what anybody else, or
    another parent, would call an instance.
    """
    digits = blake2b(f"{parent}/{run}".encode(), digest_size=CHILD_DIGITS // 2).hexdigest()
    return f"{parent[:CHILD_READABLE]}-{run}"[: 63 - CHILD_DIGITS] + f"-{digits}"


def _encode(time_ms: int, tail: int) -> str:
    if not 0 <= time_ms < _TIME_LIMIT:
        raise ValueError(f"time {time_ms} ms does not fit into 48 bits")
    number = (time_ms << (8 * RANDOM_BYTES)) | tail
    return "".join(ALPHABET[(number >> shift) & 31] for shift in range(5 * (LENGTH - 1), -1, -5))
