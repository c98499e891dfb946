"""Events for instances that do not exist: dropped only when no start can come before them."""

from orchestrator.ingest.early_events import droppable
from orchestrator.ingest.messages_in import Item
from wf.jetstream.port import Delivery
from wf.jetstream.topology import WORKFLOW_EVENTS, WORKFLOW_TIMERS


def item(sequence: int, stream: str = WORKFLOW_EVENTS) -> Item:
    return Item(Delivery(stream, "c", "s", b"", None, sequence, 1, 0, 0, ""), "i", {})


def split(items: list[Item], floor: int) -> tuple[list[int], list[int]]:
    drop, wait = droppable(items, floor)
    return [i.delivery.sequence for i in drop], [i.delivery.sequence for i in wait]


def test_an_event_waits_while_one_below_it_is_unacked() -> None:
    assert split([item(10)], floor=8) == ([], [10])


def test_an_event_right_above_the_floor_is_dropped() -> None:
    assert split([item(10)], floor=9) == ([10], [])


def test_neighbours_that_are_all_unknown_go_together() -> None:
    assert split([item(12), item(10), item(11), item(14)], floor=9) == ([10, 11, 12], [14])


def test_a_timer_never_waits() -> None:
    assert split([item(10, WORKFLOW_TIMERS)], floor=0) == ([10], [])
