"""What one instance's events come to: commit record, KV value, messages."""

from orchestrator.apply import HISTORY_ENTRIES, trimmed


def test_a_short_history_is_kept_whole() -> None:
    entries = [{"type": str(n)} for n in range(HISTORY_ENTRIES)]
    assert trimmed(entries) == entries


def test_a_long_history_keeps_its_ends_its_facts_and_the_number_left_out() -> None:
    entries: list[dict[str, object]] = [{"type": str(n)} for n in range(50_000)]
    entries[25_000] = {"type": "expression.faulted", "fact": {"evaluation": 3}}
    kept = trimmed(entries)
    assert kept[0] == entries[0]
    assert kept[-1] == entries[-1]
    assert entries[25_000] in kept
    (note,) = [entry for entry in kept if entry["type"] == "entries.omitted"]
    assert note["count"] == 50_000 - HISTORY_ENTRIES - 1
    assert len(kept) == HISTORY_ENTRIES + 2
