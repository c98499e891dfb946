"""The index of listeners: who may be meant by an event."""

import orjson
import pytest

from orchestrator.cloudevents.listener_index import Listeners
from orchestrator.machine.kernel.digest import digest

ORDER = (("order", ".data.order"),)


def entry(correlate=()):
    return orjson.dumps({"v": 1, "from_ms": 0, "correlate": correlate})


def key(type_="paid", who="i.1", correlate=(), values=()):
    return f"{type_}.{digest(tuple(correlate), list(values))}.{who}"


def event(type_="paid", **data):
    return {"type": type_, "data": data}


def index(*entries):
    made = Listeners()
    for text, value in entries:
        made.put(text, value)
    return made


def test_only_listeners_of_the_type_are_found():
    made = index((key(), entry()), (key("sent", "j.1"), entry()))
    assert made.match(event()) == ["paid.all.i.1"]
    assert made.match(event("none")) == []


def test_a_type_with_dots_is_a_type_of_its_own():
    made = index((key("com.example.paid"), entry()))
    assert made.match(event("com.example.paid")) == ["com.example.paid.all.i.1"]
    assert made.match(event("com.example")) == []


def test_only_those_whose_value_the_event_has_are_found():
    made = index(
        *((key(who=f"i{n}.1", correlate=ORDER, values=[n]), entry(ORDER)) for n in range(50))
    )
    (found,) = made.match(event(order=7))
    assert found.endswith(".i7.1")
    assert made.match(event(order=99)) == []
    assert made.match({"type": "paid", "data": "no object"}) == []


def test_several_may_wait_for_the_same():
    made = index(*((key(who=f"i{n}.1"), entry()) for n in (2, 1, 3)))
    assert [text.rpartition("all.")[2] for text in made.match(event())] == ["i1.1", "i2.1", "i3.1"]


def test_listeners_to_any_type_hear_all_but_the_lifecycle():
    made = index((key("="), entry()))
    assert made.match(event("whatever")) == ["=.all.i.1"]
    assert made.match(event("io.serverlessworkflow.task.started.v1")) == []
    named = index((key("io.serverlessworkflow.task.started.v1"), entry()))
    assert len(named.match(event("io.serverlessworkflow.task.started.v1"))) == 1


def test_what_is_taken_out_leaves_nothing_behind():
    entries = [(key(who=f"i{n}.1"), entry()) for n in range(3)]
    entries += [(key(who="k.1", correlate=ORDER, values=[1]), entry(ORDER))]
    made = index(*entries, *entries)
    assert len(made) == 4
    made.remove("unknown")
    made.remove("paid.all.nobody.1")
    assert len(made) == 4
    for text, _ in entries:
        made.remove(text)
        made.remove(text)
    assert len(made) == 0
    assert made._types == {}


@pytest.mark.parametrize("value", [b"", b"[]", b"{}", b'{"correlate": 5}', b'{"correlate": [1]}'])
def test_what_is_no_entry_is_refused(value):
    with pytest.raises(ValueError):  # noqa: PT011 — orjson's own is one of them
        Listeners().put("a.b.c.1", value)


def test_an_expression_that_is_none_finds_nobody():
    odd = (("order", ".data["),)
    made = index((key(correlate=odd, values=[1]), entry(odd)))
    assert made.match(event(order=1)) == []
