"""Workers that want to be replaced are, one of a pool at a time."""

from __future__ import annotations

from pool_directory import PoolDirectory, until


def test_all_are_replaced_and_never_two_at_once(pool: PoolDirectory) -> None:
    pool.module("mail")
    pool.behaves("mail", "wants-recycle")
    pool.configure({"mail": 3})
    pool.start()
    until(lambda: len(pool.events("ready worker")) == 6, "each was replaced", limit_s=25.0)
    away = 0
    for event in pool.events()[-12:]:
        if event.startswith("draining worker"):
            away += 1
            assert away == 1, "another one is not back yet"
        if event.startswith("ready worker") and away:
            away -= 1
    exits = pool.logged("process.exited")
    assert [one["cause"] for one in exits] == ["recycle"] * 3
    assert [one["reason"] for one in pool.logged("process.recycling")] == ["because"] * 3
