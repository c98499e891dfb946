"""Who has announced an activity with which consumer, and which of them holds."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from wf.protocol.consumer_claims import LAPSE_S, REFRESH_S, Announcement, claims

LOOK_S = 5.0


def entry(owner: str, ack_wait_s: float, **more: Any) -> dict[str, Any]:
    consumer = {"ack_wait_s": ack_wait_s, "max_deliver": 20, "max_ack_pending": 100}
    return {"v": 1, "name": "a", "owner": owner, "consumer": consumer, **more}


def test_a_lone_pool_writes_its_entry_once() -> None:
    mine = Announcement(entry("one/a", 30.0))
    assert mine.first(None, 0.0) == mine.entry
    assert mine.first(mine.entry, 0.0) is None
    assert mine.next(mine.entry, 1000.0) is None


def test_pools_that_agree_do_not_write_over_each_other() -> None:
    one, two = Announcement(entry("one/a", 30.0)), Announcement(entry("two/a", 30.0))
    stored = two.first(one.entry, 0.0)
    assert stored == two.entry
    assert one.next(stored, 5.0) is None


def test_what_is_missing_or_no_entry_is_written_again() -> None:
    mine = Announcement(entry("one/a", 30.0))
    for broken in (None, {}, {"consumer": 7}, {"consumer": {"ack_wait_s": "long"}}, {"claims": []}):
        assert mine.next(broken, 5.0) == mine.entry


def test_the_largest_holds_while_both_announce_and_the_other_when_it_is_gone() -> None:
    long, short = Announcement(entry("one/a", 30.0)), Announcement(entry("two/a", 10.0))
    stored: dict[str, Any] = short.first(long.entry, 0.0) or {}
    writes = 0
    now_s = 0.0
    while now_s < 600.0:
        now_s += LOOK_S
        for one in (long, short):
            new = one.next(stored, now_s)
            writes += new is not None
            stored = new or stored
            assert stored["consumer"]["ack_wait_s"] == 30.0
    assert writes <= 2 * 600.0 / REFRESH_S + 2  # they do not write against each other
    while now_s < 600.0 + LAPSE_S + 2 * LOOK_S:  # `long` is gone
        now_s += LOOK_S
        stored = short.next(stored, now_s) or stored
    assert stored["consumer"]["ack_wait_s"] == 10.0
    assert "claims" not in stored


def test_an_entry_that_a_hand_has_changed_is_put_back() -> None:
    mine = Announcement(entry("one/a", 30.0))
    stored = entry("one/a", 5.0)
    assert (mine.next(stored, 0.0) or {})["consumer"]["ack_wait_s"] == 30.0


@given(
    waits=st.lists(st.floats(1, 100), min_size=1, max_size=4),
    turns=st.lists(st.tuples(st.integers(0, 3), st.floats(0.1, 8)), max_size=60),
)
def test_whoever_writes_the_largest_of_those_who_are_there_holds(
    waits: list[float], turns: list[tuple[int, float]]
) -> None:
    pools = [Announcement(entry(f"host{n}/a", wait)) for n, wait in enumerate(waits)]
    stored: dict[str, Any] | None = None
    for pool in pools:
        stored = pool.first(stored, 0.0) or stored
    now_s = 0.0
    for who, later_s in turns:  # everybody looks often enough
        for pool in [pools[who % len(pools)], *pools]:
            now_s += later_s / len(pools)
            stored = pool.next(stored, now_s) or stored
            assert stored is not None
            assert stored["consumer"]["ack_wait_s"] == max(waits)
            assert len(claims(stored)) <= len(pools)
