"""listen: which events count, when it ends, and what it gives."""

import pytest

from orchestrator.machine import DEFAULT_LIMITS, Send
from orchestrator.machine.events.correlation import Key
from tests.support.machine import ERRORS, Driver, define
from wf.errors import DefinitionError

DAY_MS = 86_400_000


def listen(to, **more):
    """One task that listens; `read` belongs into `listen`, the rest beside it."""
    inside = {"to": to, **({"read": more.pop("read")} if "read" in more else {})}
    return {"hear": {"listen": inside, **more}}


def of(type_, **attributes):
    """A filter."""
    return {"with": {"type": type_, **attributes}}


def started(*tasks, input=None, limits=DEFAULT_LIMITS, now_ms=10_000_000, **more):
    driver = Driver(define(*tasks, **more), limits)
    driver.now_ms = now_ms
    driver.start(input)
    return driver


def sent(driver, kind):
    return [c.body for c in driver.commands if isinstance(c, Send) and c.kind == kind]


def output(driver):
    assert driver.status == "completed", driver.state
    return driver.state["output"]


# --- one, any, all ----------------------------------------------------------------------------


def test_one_event_gives_an_array_of_its_data():
    driver = started(listen({"one": of("paid")}))
    assert driver.status == "waiting"
    driver.event("paid", 5, {"n": 1})
    assert output(driver) == [{"n": 1}]


def test_an_event_that_no_filter_wants_changes_nothing():
    driver = started(listen({"one": of("paid")}))
    assert driver.event("other", 5).ignored == "filter"
    assert driver.event("paid", 6).ignored is None


def test_any_takes_the_first_that_fits():
    driver = started(listen({"any": [of("a"), of("b")]}))
    driver.event("b", 1, 7)
    assert output(driver) == [7]


def test_all_waits_for_one_event_of_each_filter_in_whatever_order():
    driver = started(listen({"all": [of("a"), of("b")]}))
    driver.event("b", 1, "b1")
    assert driver.event("b", 2, "b2").ignored == "filter"
    driver.event("a", 3, "a1")
    assert output(driver) == ["b1", "a1"]


def test_one_event_does_not_count_for_two_filters_of_all():
    driver = started(listen({"all": [of("a"), of("a")]}))
    driver.event("a", 1, 1)
    assert driver.event("a", 1, 1).ignored == "duplicate"
    driver.event("a", 2, 2)
    assert output(driver) == [1, 2]


def test_any_without_filters_takes_every_event():
    driver = started(listen({"any": []}))
    (entry,) = sent(driver, "listen")
    assert Key.parse(entry["key"]).type == "="
    driver.event("whatever", 1, 1)
    assert output(driver) == [1]


# --- until ------------------------------------------------------------------------------------


def test_until_a_condition_on_what_was_heard():
    driver = started(listen({"any": [of("t")], "until": "length >= 3"}))
    for n in range(3):
        driver.event("t", n + 1, n)
    assert output(driver) == [0, 1, 2]


def test_the_event_that_ends_it_is_not_in_the_output():
    to = {"any": [], "until": {"one": of("stop")}}
    driver = started(listen(to))
    driver.event("t", 1, 1)
    driver.event("t", 2, 2)
    driver.event("stop", 3, 3)
    assert output(driver) == [1, 2]


def test_until_may_need_several_events():
    driver = started(listen({"any": [of("t")], "until": {"all": [of("x"), of("y")]}}))
    driver.event("x", 1)
    driver.event("t", 2, "t")
    driver.event("y", 3)
    assert output(driver) == ["t"]


@pytest.mark.parametrize("never", [False, "${ false }", "false"])
def test_until_false_listens_for_ever_and_keeps_nothing(never):
    driver = started(listen({"any": [of("t")], "until": never}))
    for n in range(5):
        driver.event("t", n + 1, n)
    assert driver.status == "waiting"
    (listener,) = driver.listeners
    assert driver.state["frames"][listener]["outputs"] == []
    driver.command("cancel", 99)
    assert len(sent(driver, "unlisten")) == 1


def test_a_condition_that_fails_is_an_error_of_the_task():
    driver = started(listen({"any": [of("t")], "until": ".[0].a.b.c > 1"}))
    driver.event("t", 1, "text")
    assert driver.state["error"]["type"] == f"{ERRORS}expression"
    assert driver.state["error"]["instance"] == "/do/0/hear"


# --- filters ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "data", "fits"),
    [
        ("${ .t > 38 }", {"t": 39}, True),
        ("${ .t > 38 }", {"t": 37}, False),
        ("${ .t }", {"t": None}, False),
        ("${ {t: 1} }", {"t": 1.0}, True),
        ("${ .a.b }", "text", False),
        ({"t": 1}, {"t": 1, "more": 2}, True),
        ({"t": 1}, {"t": True}, False),
        ({"t": 1}, {}, False),
        ({"t": None}, {}, False),
        ({"t": "${ . > 1 }"}, {"t": 2}, True),
        ({"t": "${ $input.limit }"}, {"t": 9}, True),
        ([1, {"a": 1}], [1, {"a": 1}], True),
        (["${ . > 0 }"], [1, 2], False),
        ("plain", "plain", True),
        (5, 6, False),
    ],
)
def test_what_a_filter_says_of_the_data(wanted, data, fits):
    driver = started(listen({"one": of("t", data=wanted)}), input={"limit": 9})
    assert driver.event("t", 1, data).ignored == (None if fits else "filter")


def test_attributes_are_compared_and_expressions_see_the_attribute():
    filters = {"source": "/test", "subject": '${ startswith("order-") }', "ext": 3}
    driver = started(listen({"one": of("t", **filters)}))
    assert driver.event("t", 1, ext=3).ignored == "filter"
    assert driver.event("t", 2, subject="order-1", ext=4).ignored == "filter"
    driver.event("t", 3, subject="order-1", ext=3)
    assert driver.status == "completed"


def test_a_type_that_is_computed_is_indexed_under_any_type():
    driver = started(listen({"one": of("${ $input.type }")}), input={"type": "t.x"})
    assert Key.parse(sent(driver, "listen")[0]["key"]).type == "="
    assert driver.event("t.y", 1).ignored == "filter"
    driver.event("t.x", 2)
    assert driver.status == "completed"


# --- correlations -----------------------------------------------------------------------------

ORDER = {"order": {"from": ".data.order", "expect": "${ .order }"}}


def test_a_correlation_expects_what_the_instance_knows():
    driver = started(listen({"one": {**of("paid"), "correlate": ORDER}}), input={"order": 7})
    assert driver.event("paid", 1, {"order": 8}).ignored == "filter"
    driver.event("paid", 2, {"order": 7.0})
    assert output(driver) == [{"order": 7.0}]


def test_the_index_tells_instances_with_other_expectations_apart():
    def key(order):
        one = {**of("paid"), "correlate": ORDER}
        return Key.parse(
            sent(started(listen({"one": one}), input={"order": order}), "listen")[0]["key"]
        )

    assert key(1).hash == key(1.0).hash
    assert key(1).hash != key(2).hash
    assert key(1).type == "paid"


def test_the_first_event_sets_an_expectation_that_is_left_open():
    one = {"correlate": {"order": {"from": ".data.order"}}}
    driver = started(listen({"all": [{**of("a"), **one}, {**of("b"), **one}]}))
    assert driver.event("a", 1, {}).ignored == "filter", "nothing to go by"
    driver.event("a", 2, {"order": 5})
    assert driver.event("b", 3, {"order": 6}).ignored == "filter"
    driver.event("b", 4, {"order": 5})
    assert driver.status == "completed"
    assert driver.last.history[1]["type"] == "listen.completed"
    assert driver.last.history[1]["correlated"] == {"order": 5}


# --- read and foreach -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "data", "gives"),
    [
        ("data", {"n": 1}, {"n": 1}),
        ("raw", {"n": 1}, '{"n":1}'),
        ("raw", "text", "text"),
        ("data", None, None),
    ],
)
def test_how_an_event_is_read(how, data, gives):
    driver = started(listen({"one": of("t")}, read=how))
    driver.event("t", 1, data)
    assert output(driver) == [gives]


def test_the_envelope_is_the_whole_event():
    driver = started(listen({"one": of("t")}, read="envelope"))
    driver.event("t", 1, 5, subject="s")
    assert output(driver) == [
        {
            "specversion": "1.0",
            "id": "e1",
            "source": "/test",
            "type": "t",
            "data": 5,
            "subject": "s",
        }
    ]


def test_events_wait_their_turn_in_foreach():
    foreach = {
        "item": "reading",
        "at": "n",
        "do": [{"ask": {"call": "one", "with": {"r": "${ $reading }", "n": "${ $n }"}}}],
        "output": {"as": "${ {got: ., of: $reading} }"},
        "export": {"as": "${ {last: $output, was: $context.last.of} }"},
    }
    to = {"any": [of("t")], "until": "length == 2"}
    driver = started(listen(to, foreach=foreach))
    driver.event("t", 1, "a")
    driver.event("t", 2, "b")
    assert driver.state["runs"]["1"]["input"] == {"r": "a", "n": 0}
    assert len(driver.state["runs"]) == 1
    driver.done("A")
    assert driver.state["runs"]["2"]["input"] == {"r": "b", "n": 1}
    driver.done("B")
    assert output(driver) == [{"got": "A", "of": "a"}, {"got": "B", "of": "b"}]
    assert driver.state["context"] == {"last": {"got": "B", "of": "b"}, "was": "a"}


def test_foreach_without_do_only_shapes_the_output():
    driver = started(listen({"one": of("t")}, foreach={"output": {"as": "${ [$item, $index] }"}}))
    driver.event("t", 1, 7)
    assert output(driver) == [[7, 0]]


def test_what_came_after_the_event_that_met_until_is_there_for_the_next_listen():
    foreach = {"do": [{"ask": {"call": "one"}}]}
    first = listen({"any": [of("t")], "until": "length == 1"}, foreach=foreach)
    driver = started(first, {"again": {"listen": {"to": {"one": of("t")}}}})
    driver.event("t", 1, "a")
    driver.event("t", 2, "b")
    driver.done("A")
    assert driver.event("t", 1, "a").ignored == "consumed"
    driver.event("t", 2, "b")
    assert output(driver) == ["b"]


def test_the_last_event_has_its_turn_before_the_listen_ends_and_nothing_more_is_taken():
    driver = started(listen({"one": of("t")}, foreach={"do": [{"ask": {"call": "one"}}]}))
    (listener,) = driver.listeners
    driver.event("t", 1, "a")
    assert len(sent(driver, "unlisten")) == 1
    assert driver.event("t", 2, "b", listener).ignored == "late"
    driver.done("A")
    assert output(driver) == ["A"]
    assert len(sent(driver, "unlisten")) == 1


def test_end_in_a_foreach_ends_the_workflow():
    foreach = {"do": [{"stop": {"set": {"n": "${ $item }"}, "if": "$item == 2", "then": "end"}}]}
    driver = started(listen({"any": [of("t")], "until": False}, foreach=foreach))
    driver.event("t", 1, 1)
    assert driver.status == "waiting"
    driver.event("t", 2, 2)
    assert output(driver) == {"n": 2}
    assert len(sent(driver, "unlisten")) == 1


def test_exit_in_a_foreach_leaves_the_turn():
    do = [{"a": {"set": "${ $item }", "then": "exit"}}, {"b": {"set": {"never": True}}}]
    driver = started(listen({"one": of("t")}, foreach={"do": do}))
    driver.event("t", 1, {"n": 1})
    assert output(driver) == [{"n": 1}]


def test_an_error_in_a_foreach_is_the_listens_and_may_be_caught():
    foreach = {"do": [{"bad": {"raise": {"error": {"type": "x", "status": 400}}}}]}
    caught = {
        "try": [listen({"one": of("t")}, foreach=foreach)],
        "catch": {"do": [{"s": {"set": {"ok": 1}}}]},
    }
    driver = started({"safe": caught})
    driver.event("t", 1)
    assert output(driver) == {"ok": 1}
    assert driver.replay() == driver.state


def test_an_item_of_an_outer_loop_is_what_the_filter_sees():
    inner = listen({"any": [of("t", data="${ . == $error.status }")]}, foreach={"item": "error2"})
    catch = {"do": [inner]}
    bad = {"raise": {"error": {"type": "x", "status": 409}}}
    driver = started({"t": {"try": [{"bad": bad}], "catch": catch}})
    assert driver.event("t", 1, 400).ignored == "filter"
    driver.event("t", 2, 409)
    assert output(driver) == [409]


# --- once, in order, later listeners ----------------------------------------------------------


def test_an_event_counts_once_for_a_listener():
    driver = started(listen({"any": [of("t")], "until": "length == 3"}))
    driver.event("t", 1, 1)
    assert driver.event("t", 1, 1).ignored == "duplicate"
    driver.event("t", 5, 5)
    assert driver.event("t", 5, 5).ignored == "duplicate"
    driver.event("t", 3, 3)
    assert output(driver) == [1, 5, 3], "in the order of arrival"


def test_an_event_that_one_listen_took_is_not_found_again_by_the_next():
    driver = started(listen({"one": of("t")}), {"again": {"listen": {"to": {"one": of("t")}}}})
    driver.event("t", 1, 1)
    assert driver.event("t", 1, 1).ignored == "consumed"
    driver.event("t", 2, 2)
    assert output(driver) == [2]


def test_listens_side_by_side_take_the_same_event_each():
    branches = [listen({"one": of("t")}), {"other": {"listen": {"to": {"one": of("t")}}}}]
    driver = started({"both": {"fork": {"branches": branches}}})
    first, second = driver.listeners
    driver.event("t", 1, 1, first)
    driver.event("t", 1, 1, second)
    assert output(driver) == [[1], [1]]


def test_a_listener_looks_back_over_the_buffer_but_without_correlation_not_before_the_start():
    pause = {"pause": {"wait": {"hours": 1}}}
    for one, from_ms in (({}, 13_300_000), ({"correlate": ORDER}, 13_300_000)):
        driver = started(pause, listen({"one": {**of("t"), **one}}), input={"order": 1})
        driver.fire()
        assert sent(driver, "listen")[0]["from_ms"] == from_ms
    driver = started(listen({"one": of("t")}))
    assert sent(driver, "listen")[0]["from_ms"] == 10_000_000
    driver = started(listen({"one": {**of("t"), "correlate": ORDER}}), input={"order": 1})
    assert sent(driver, "listen")[0]["from_ms"] == 9_700_000


def test_more_events_than_one_listen_may_hold_are_an_error():
    limits = DEFAULT_LIMITS._replace(max_listened=3)
    driver = started(listen({"any": [of("t")], "until": "length == 9"}), limits=limits)
    for n in range(4):
        driver.event("t", n + 1, n)
    assert driver.state["error"]["title"] == "Too many events"


# --- the end, and what stops it ---------------------------------------------------------------


def test_what_was_registered_is_taken_back_however_it_ends():
    def registered(driver):
        keys = sorted(body["key"] for body in sent(driver, "listen"))
        assert keys == sorted(body["key"] for body in sent(driver, "unlisten"))
        return len(keys)

    driver = started(listen({"any": [of("a"), of("b"), of("a")]}))
    driver.event("a", 1)
    assert registered(driver) == 2, "one entry for each type"
    driver = started(listen({"one": of("a")}))
    driver.command("cancel")
    assert registered(driver) == 1
    branches = [listen({"one": of("a")}), {"quick": {"call": "one"}}]
    driver = started({"race": {"fork": {"compete": True, "branches": branches}}})
    driver.done(1)
    assert output(driver) == 1
    assert registered(driver) == 1


def test_events_that_come_while_suspended_are_taken_in_order_on_resume():
    driver = started(listen({"any": [of("t")], "until": "length == 2"}))
    driver.command("suspend")
    assert driver.event("other", 1).ignored == "filter", "not worth keeping"
    driver.event("t", 2, "a")
    assert driver.types() == ["event.held"]
    assert driver.event("t", 2, "a").ignored == "duplicate"
    driver.event("t", 3, "b")
    driver.event("t", 4, "c")
    driver.command("resume")
    assert output(driver) == ["a", "b"]
    assert driver.replay() == driver.state


def test_after_the_end_an_event_is_told_to_be_late():
    driver = started(listen({"one": of("t")}))
    (listener,) = driver.listeners
    driver.event("t", 1)
    assert driver.event("t", 2, listener=listener).ignored == "terminal"


@pytest.mark.parametrize(
    "change",
    [{"listener": 5}, {"sequence": "1"}, {"event": []}, {"match": "x"}, {"time_ms": None}],
)
def test_an_event_that_is_malformed_is_ignored(change):
    driver = started(listen({"one": of("t")}))
    listener = driver.only_listener
    good = {
        "kind": "event",
        "listener": listener,
        "sequence": 1,
        "time_ms": 1,
        "event": {"type": "t"},
    }
    event = {**good, "match": f"{listener}:1", **change}
    assert driver.feed(event).ignored == "malformed"


# --- definitions ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "says"),
    [
        ({"listen": {}}, "/do/0/hear/listen: needs `to`"),
        ({"listen": {"to": {}}}, "/do/0/hear/listen/to: needs just one of"),
        ({"listen": {"to": {"one": of("a"), "any": []}}}, "needs just one of"),
        ({"listen": {"to": {"all": []}}}, "/listen/to/all: must be a list of event filters"),
        ({"listen": {"to": {"one": {}}}}, "/listen/to/one: needs `with`"),
        ({"listen": {"to": {"one": {"with": {"type": 5}}}}}, "`type` must be"),
        ({"listen": {"to": {"one": of("a"), "until": "true"}}}, "only `any` can have `until`"),
        ({"listen": {"to": {"any": [of("a")], "until": True}}}, "true would end it at once"),
        (
            {"listen": {"to": {"any": [], "until": {"one": of("a"), "until": "x"}}}},
            'unknown key "until"',
        ),
        ({"listen": {"to": {"one": of("a")}, "read": "text"}}, "must be data, envelope or raw"),
        ({"listen": {"to": {"one": of("a")}}, "foreach": {"item": "x", "at": "x"}}, "both `x`"),
        (
            {"listen": {"to": {"one": of("a")}}, "foreach": {"item": "input"}},
            "cannot name a variable",
        ),
        (
            {"listen": {"to": {"one": of("a")}}, "foreach": {"output": {"schema": {}}}},
            "schemas are not",
        ),
        (
            {"listen": {"to": {"one": {**of("a"), "correlate": {"k": {"expect": "1"}}}}}},
            "/correlate/k/from: `from` must be a non-empty string",
        ),
        (
            {"listen": {"to": {"one": {**of("a"), "correlate": {"k": {"from": "$context.a"}}}}}},
            "`$context` is not known",
        ),
    ],
)
def test_a_listen_that_cannot_be_is_refused_with_its_place(task, says):
    with pytest.raises(DefinitionError) as refused:
        define({"hear": task})
    assert says in str(refused.value)


def test_a_timeout_ends_the_listening():
    driver = started(listen({"one": of("t")}, timeout={"after": "PT5M"}))
    driver.fire()
    assert driver.state["error"]["type"] == f"{ERRORS}timeout"
    assert driver.state["error"]["status"] == 408
    assert len(sent(driver, "unlisten")) == 1


def test_an_event_in_time_ends_the_timeout():
    driver = started(listen({"one": of("t")}, timeout={"after": "PT5M"}))
    driver.event("t", 1, 1)
    assert output(driver) == [1]
    assert driver.state["timers"] == {}
