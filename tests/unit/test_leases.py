"""What is held is kept alive; what waits for room in a queue is not work in hand."""

from __future__ import annotations

from typing import Any, cast

from orchestrator.ingest.ack_renewal import Leases
from orchestrator.ingest.messages_in import Item
from wf.jetstream.port import Delivery, Port


class Signs:
    """A port that only hears signs of life."""

    def __init__(self) -> None:
        self.heard: list[int] = []

    def in_progress(self, delivery: Delivery) -> None:
        self.heard.append(delivery.sequence)


def leases(signs: Signs | None = None) -> Leases:
    return Leases(cast("Port", signs or Signs()), 10.0)


def item(sequence: int, stream: str = "E", **more: Any) -> Item:
    delivery = Delivery(stream, "c", "s", b"", None, sequence, 1, 0, 0, "")
    return Item(delivery, more.get("instance", "i"), {"kind": "timer"})


def test_what_is_taken_is_in_hand_until_it_is_dropped() -> None:
    held = leases()
    held.take(item(1), 0.0)
    held.take(item(2), 0.0)
    assert (len(held), held.active("E")) == (2, 2)
    held.drop(item(1))
    assert (len(held), held.active("E")) == (1, 1)


def test_each_stream_is_counted_for_itself() -> None:
    held = leases()
    held.take(item(1, "E"), 0.0)
    held.take(item(1, "T"), 0.0)
    held.take(item(2, "T"), 0.0)
    assert (held.active("E"), held.active("T"), held.active("other")) == (1, 2, 0)


def test_a_redelivery_is_the_same_work_and_not_more_of_it() -> None:
    held = leases()
    held.take(item(1), 0.0)
    held.take(item(1), 1.0)
    assert (len(held), held.active("E")) == (1, 1)
    held.drop(item(1))
    held.drop(item(1))
    assert (len(held), held.active("E")) == (0, 0)


def test_what_is_set_aside_is_held_but_not_in_hand_until_it_is_brought_back() -> None:
    held = leases()
    for n in (1, 2, 3):
        held.take(item(n), 0.0)
    held.set_aside([item(1), item(2)])
    assert (len(held), held.active("E")) == (3, 1)
    held.bring_back([item(1)])
    assert held.active("E") == 2


def test_setting_aside_and_bringing_back_twice_counts_once() -> None:
    held = leases()
    held.take(item(1), 0.0)
    held.set_aside([item(1), item(1)])
    held.set_aside([item(1)])
    assert held.active("E") == 0
    held.bring_back([item(1), item(1)])
    held.bring_back([item(1)])
    assert held.active("E") == 1


def test_what_is_not_held_can_be_neither_set_aside_nor_brought_back() -> None:
    held = leases()
    held.set_aside([item(1)])
    held.bring_back([item(1)])
    assert (len(held), held.active("E")) == (0, 0)


def test_what_was_set_aside_and_dropped_leaves_no_trace() -> None:
    held = leases()
    held.take(item(1), 0.0)
    held.set_aside([item(1)])
    held.drop(item(1))
    held.bring_back([item(1)])
    assert (len(held), held.active("E")) == (0, 0)
    held.take(item(1), 0.0)
    assert held.active("E") == 1


def test_an_event_of_an_instance_that_waits_is_set_aside_as_it_comes() -> None:
    held = leases()
    held.take(item(1), 0.0, aside=True)
    held.take(item(1), 1.0, aside=True)
    assert (len(held), held.active("E")) == (1, 0)
    held.bring_back([item(1)])
    assert held.active("E") == 1


def test_signs_of_life_go_out_for_what_was_silent_long_set_aside_or_not() -> None:
    signs = Signs()
    held = leases(signs)
    held.take(item(1), 0.0)
    held.take(item(2), 0.0)
    held.take(item(3), 5.0)
    held.set_aside([item(2)])
    assert held.renew(9.9) == 0
    assert held.renew(10.0) == 2
    assert signs.heard == [1, 2]
    assert held.renew(15.0) == 1
    assert held.renew(19.9) == 0


def test_bytes_in_hand_are_counted_as_the_events_are() -> None:
    held = leases()
    large = Item(Delivery("E", "c", "s", b"x" * 100, None, 1, 1, 0, 0, ""), "i", {"kind": "timer"})
    held.take(large, 0.0)
    held.take(large, 1.0)  # delivered again
    assert held.active_bytes("E") == 100
    held.set_aside([large])
    assert held.active_bytes("E") == 0
    held.bring_back([large])
    held.drop(large)
    held.drop(large)
    assert held.active_bytes("E") == 0
