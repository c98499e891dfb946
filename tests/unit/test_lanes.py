"""One instance is never in two uncommitted groups."""

from orchestrator.ingest.instance_queues import Lanes
from orchestrator.ingest.messages_in import Item
from wf.jetstream.port import Delivery

MANY = 1_000_000


def item(instance: str, sequence: int, data: bytes = b"") -> Item:
    delivery = Delivery("S", "c", "s", data, None, sequence, 1, 0, 0, "")
    return Item(delivery, instance, {"kind": "timer"})


def sequences(items: list[Item]) -> list[int]:
    return [one.delivery.sequence for one in items]


def test_several_events_of_one_instance_go_in_one_group_in_order() -> None:
    lanes = Lanes()
    for n, name in enumerate(["a", "b", "a"]):
        lanes.offer(item(name, n))
    group = lanes.take(10, MANY)
    assert {name: sequences(items) for name, items in group.items()} == {"a": [0, 2], "b": [1]}
    assert not lanes.has_ready


def test_an_event_of_a_busy_instance_waits_until_its_group_is_through() -> None:
    lanes = Lanes()
    lanes.offer(item("a", 1))
    lanes.take(10, MANY)
    lanes.offer(item("a", 2))
    lanes.offer(item("b", 3))
    assert list(lanes.take(10, MANY)) == ["b"]
    lanes.release("a", [])
    assert sequences(lanes.take(10, MANY)["a"]) == [2]


def test_what_was_left_over_goes_before_what_came_later() -> None:
    lanes = Lanes()
    first = item("a", 1)
    lanes.offer(first)
    lanes.take(10, MANY)
    lanes.offer(item("a", 2))
    lanes.release("a", [first])
    assert sequences(lanes.take(10, MANY)["a"]) == [1, 2]


def test_a_group_stops_at_its_limit_and_the_rest_stays_ready() -> None:
    lanes = Lanes()
    for n in range(5):
        lanes.offer(item(f"i{n}", n))
    assert len(lanes.take(3, MANY)) == 3
    assert len(lanes.take(3, MANY)) == 2


def test_the_rest_of_an_instance_beyond_the_limit_waits_for_its_group() -> None:
    lanes = Lanes()
    for n in range(3):
        lanes.offer(item("a", n))
    assert sequences(lanes.take(2, MANY)["a"]) == [0, 1]
    assert lanes.take(2, MANY) == {}
    lanes.release("a", [])
    assert sequences(lanes.take(2, MANY)["a"]) == [2]


def test_drain_gives_everything_that_is_in_no_group() -> None:
    lanes = Lanes()
    for n, name in enumerate(["a", "a", "b"]):
        lanes.offer(item(name, n))
    lanes.take(1, MANY)
    lanes.offer(item("a", 9))
    assert sorted(sequences(lanes.drain())) == [1, 2, 9]
    assert not lanes.has_ready


def test_waiting_tells_what_waits_for_a_busy_instance_and_leaves_it_there() -> None:
    lanes = Lanes()
    lanes.offer(item("a", 1))
    assert lanes.waiting("a") == []
    lanes.take(10, MANY)
    assert lanes.waiting("a") == []
    lanes.offer(item("a", 2))
    lanes.offer(item("b", 3))
    assert sequences(lanes.waiting("a")) == [2]
    assert lanes.waiting("b") == []
    assert sequences(lanes.waiting("a")) == [2]


def test_release_tells_what_has_become_ready_in_order() -> None:
    lanes = Lanes()
    first = item("a", 1)
    lanes.offer(first)
    lanes.take(10, MANY)
    lanes.offer(item("a", 2))
    assert sequences(lanes.release("a", [first])) == [1, 2]
    assert lanes.waiting("a") == []
    assert sequences(lanes.take(10, MANY)["a"]) == [1, 2]
    assert lanes.release("a", []) == []


def test_a_group_takes_as_many_bytes_as_it_may() -> None:
    lanes = Lanes()
    for n in range(5):
        lanes.offer(item(f"i{n}", n, b"x" * 100))
    assert list(lanes.take(10, 250)) == ["i0", "i1"]
    assert list(lanes.take(10, 300)) == ["i2", "i3", "i4"]


def test_an_event_that_is_larger_than_a_group_may_be_is_one_of_its_own() -> None:
    lanes = Lanes()
    for n in range(2):
        lanes.offer(item(f"i{n}", n, b"x" * 100))
    assert list(lanes.take(10, 50)) == ["i0"]
    assert list(lanes.take(10, 50)) == ["i1"]


def test_what_waits_behind_a_busy_instance_takes_no_room_of_a_group() -> None:
    lanes = Lanes()
    lanes.offer(item("a", 0))
    lanes.offer(item("b", 1))
    lanes.take(1, MANY)
    lanes.release("a", [item("a", 2, b"x" * 100), item("a", 3, b"x" * 100)])
    lanes.take(1, MANY)
    assert lanes.take(10, 150).keys() <= {"a", "b"}
