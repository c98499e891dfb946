"""A group of events on their way through the engine together. Pure."""

from __future__ import annotations

from orchestrator.ingest.messages_in import Item

Group = dict[str, list[Item]]  # by instance, each in stream order


def one_each(group: Group) -> tuple[Group, Group]:
    """The first event of each instance, so that a death names it; what waits for the next round."""
    now = {instance: items[:1] for instance, items in group.items()}
    return now, {instance: items[1:] for instance, items in group.items() if items[1:]}


def count(group: Group) -> int:
    """How many events there are."""
    return sum(map(len, group.values()))


def starting(group: Group) -> set[str]:
    """The instances that a start is among the events of."""
    return {
        instance
        for instance, items in group.items()
        if any(item.event["kind"] == "start" for item in items)
    }


def merge(into: Group, more: Group) -> None:
    """Put `more` before what `into` has."""
    for instance, items in more.items():
        into[instance] = items + into.get(instance, [])
