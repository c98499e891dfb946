"""A SIGKILL of the kernel's memory killer is told from any other."""

from __future__ import annotations

from pathlib import Path

from supervisor.processes.oom_kills import CLAIM_S, MemoryKiller, counted, oom_kills


class Counter:
    value: int | None = 3

    def __call__(self) -> int | None:
        return self.value


def test_a_kill_while_the_counter_stands_still_is_somebody_else_s() -> None:
    assert not MemoryKiller(Counter()).claim(1.0)


def test_each_rise_is_claimed_once() -> None:
    counter = Counter()
    killer = MemoryKiller(counter)
    counter.value = 5
    assert [killer.claim(1.0) for _ in range(3)] == [True, True, False]


def test_a_rise_that_was_noticed_before_the_death_counts_too() -> None:
    counter = Counter()
    killer = MemoryKiller(counter)
    counter.value = 4
    killer.look(1.0)
    assert killer.claim(1.5)


def test_an_old_rise_was_for_a_process_of_others() -> None:
    counter = Counter()
    killer = MemoryKiller(counter)
    counter.value = 4
    killer.look(1.0)
    assert not killer.claim(1.0 + CLAIM_S + 0.1)


def test_without_a_counter_nothing_is_claimed() -> None:
    counter = Counter()
    counter.value = None
    killer = MemoryKiller(counter)
    counter.value = 7
    assert not killer.claim(1.0)


def test_the_counter_is_read_from_the_kernel_s_files(tmp_path: Path) -> None:
    events = tmp_path / "memory.events"
    events.write_text("low 0\nhigh 0\nmax 12\noom 2\noom_kill 7\noom_group_kill 0\n")
    assert counted(events) == 7
    assert counted(tmp_path / "none") is None
    assert oom_kills() is not None
