"""for: one iteration after the other, and side by side."""

import sys

import orjson
import pytest

from orchestrator.definition import parse
from orchestrator.machine import Dispatch, advance
from orchestrator.machine.calls.run_identity import PLACES
from orchestrator.machine.flow.for_items import item, length, pack
from tests.support.machine import ERRORS, HEADER, Driver, define, run_through


def loop(*tasks, items=".items", concurrency=None, **more):
    task = {"for": {"in": items, **more.pop("names", {})}, "do": list(tasks), **more}
    if concurrency is not None:
        task["metadata"] = {"wf": {"concurrency": concurrency}}
    return task


def started(*tasks, input=None):
    driver = Driver(define(*tasks))
    driver.start(input)
    return driver


ADD = {"add": {"set": "${ . + [$item, $index] }"}}


def test_an_iteration_gets_the_output_of_the_one_before():
    flow = define({"l": loop(ADD, items='["a", "b", "c"]')})
    assert run_through(flow, []).state["output"] == ["a", 0, "b", 1, "c", 2]


def test_of_an_empty_array_the_input_is_the_output():
    assert run_through(define({"l": loop(ADD, items="[]")}), {"n": 1}).state["output"] == {"n": 1}


def test_the_array_is_evaluated_once():
    task = {"step": {"set": {"items": [], "seen": "${ (.seen // []) + [$item] }"}}}
    driver = run_through(define({"l": loop(task)}), {"items": [1, 2]})
    assert driver.state["output"] == {"items": [], "seen": [1, 2]}


def test_each_and_at_name_the_variables_and_an_inner_loop_sees_the_outer_ones():
    inner = loop({"add": {"set": "${ . + [[$row, $r, $item, $index]] }"}}, items="$row")
    flow = define(
        {"l": loop({"in": inner}, items="[[1, 2], [3]]", names={"each": "row", "at": "r"})}
    )
    assert run_through(flow, []).state["output"] == [
        [[1, 2], 0, 1, 0],
        [[1, 2], 0, 2, 1],
        [[3], 1, 3, 0],
    ]


def test_while_is_asked_before_each_iteration_with_the_output_so_far():
    flow = define({"l": loop(ADD, items="[range(10)]", **{"while": "length < 3 and $item < 5"})})
    assert run_through(flow, []).state["output"] == [0, 0, 1, 1]
    flow = define({"l": loop(ADD, items="[1]", **{"while": "false"})})
    assert run_through(flow, []).state["output"] == []


def test_while_sees_the_input_and_the_descriptor_of_the_task():
    condition = {"while": '$input.n == 1 and $task.name == "l" and $task.input.n == 1'}
    flow = define({"l": loop({"s": {"set": {"n": 2}}}, items="[1, 2]", **condition)})
    assert run_through(flow, {"n": 1}).state["output"] == {"n": 2}


def test_what_one_iteration_exports_the_next_one_sees():
    task = {"s": {"set": {}, "export": {"as": "{n: (($context.n // 0) + $item)}"}}}
    assert run_through(define({"l": loop(task, items="[1, 2, 3]")})).state["context"] == {"n": 6}


def test_exit_leaves_the_iteration_and_end_the_workflow():
    tasks = (
        {"odd": {"switch": [{"skip": {"when": "$item % 2 == 0", "then": "exit"}}]}},
        {"add": {"set": "${ . + [$item] }"}},
    )
    assert run_through(define({"l": loop(*tasks, items="[1, 2, 3]")}), []).state["output"] == [1, 3]
    stop = {"stop": {"if": "$item == 2", "set": "stopped", "then": "end"}}
    stop["stop"]["set"] = {"stopped": True}
    flow = define({"l": loop(stop, items="[1, 2, 3]")}, {"never": {"call": "never"}})
    assert run_through(flow, []).state["output"] == {"stopped": True}


@pytest.mark.parametrize("found", ["null", "1", '"text"', "{a: 1}"])
def test_what_is_no_array_is_an_expression_fault(found):
    driver = run_through(define({"l": loop(ADD, items=found)}))
    assert driver.state["error"]["type"] == f"{ERRORS}expression"
    assert driver.state["error"]["instance"] == "/do/0/l"
    assert "must give an array" in driver.state["error"]["detail"]


def test_errors_name_the_task_of_the_definition_and_runs_are_numbered_on():
    driver = started({"l": loop({"c": {"call": "w"}}, items="[1, 2]")}, input=0)
    driver.done(1)
    assert driver.state["runs"]["2"] == {
        "activity": "w",
        "attempt": 1,
        "pointer": "/do/0/l/do/0/c",
        "input": 1,
        "frame": driver.state["runs"]["2"]["frame"],
    }
    driver.failed()
    assert driver.state["error"]["instance"] == "/do/0/l/do/0/c"


def test_each_iteration_keeps_its_run_when_the_try_around_begins_again():
    tasks = loop({"c": {"call": "w", "with": {"n": "${ $item }"}}}, items="[10, 20, 30]")
    retry = {"retry": {"limit": {"attempt": {"count": 3}}}}
    driver = started({"t": {"try": [{"l": tasks}], "catch": retry}})
    driver.done("a", 1)
    driver.failed(2)
    seen = []
    while not driver.terminal:
        ((run, state),) = driver.state["runs"].items()
        seen.append((int(run), state["attempt"], state["input"]["n"]))
        driver.done("x")
    assert seen == [(1, 2, 10), (2, 2, 20), (3, 1, 30)]


def test_side_by_side_iterations_keep_their_runs_too_whatever_ended_first():
    tasks = loop(
        {"c": {"call": "w", "with": {"n": "${ $item }"}}}, items="[10, 20, 30]", concurrency=3
    )
    retry = {"retry": {"limit": {"attempt": {"count": 3}}}}
    driver = started({"t": {"try": [{"l": tasks}], "catch": retry}})
    driver.done("third", 3)
    driver.done("first", 1)
    driver.failed(2)
    runs = driver.state["runs"]
    assert {int(run): (state["attempt"], state["input"]["n"]) for run, state in runs.items()} == {
        1: (2, 10),
        2: (2, 20),
        3: (2, 30),
    }


def test_a_loop_remembers_so_many_iterations_and_not_more():
    tasks = loop({"c": {"call": "w"}}, items=f"[range({PLACES + 20})]")
    retry = {"retry": {"limit": {"attempt": {"count": 3}}}}
    driver = Driver(define({"t": {"try": [{"l": tasks}], "catch": retry}}))
    driver.start(0)
    state = driver.state
    for run in range(1, PLACES + 15):
        event = {"kind": "result", "activity": "w", "run": run, "attempt": 1, "output": 1}
        event["outcome"] = "completed"
        state = advance(driver.definition, state, event, 1, reuse=True).snapshot
    (calls,) = [frame["calls"] for frame in state["frames"].values() if "calls" in frame]
    assert len(calls) == PLACES


# --- side by side -----------------------------------------------------------------------------


CALL = {"c": {"call": "w", "with": {"n": "${ $item }", "of": "${ . }"}}}


def test_so_many_iterations_run_at_once_and_each_gets_the_input_of_the_loop():
    driver = started({"l": loop(CALL, items="[1, 2, 3, 4]", concurrency=2)}, input="in")
    assert driver.last.commands == [Dispatch(1), Dispatch(2)]
    driver.done("second", 2)
    assert driver.last.commands == [Dispatch(3)]
    assert driver.state["runs"]["3"]["input"] == {"n": 3, "of": "in"}
    driver.done("third", 3)
    driver.done("fourth", 4)
    assert driver.status == "running"
    driver.done("first", 1)
    assert driver.state["output"] == ["first", "second", "third", "fourth"]


def test_the_limit_may_be_one_and_the_array_empty():
    driver = started({"l": loop(CALL, items="[1, 2]", concurrency=1)}, input="in")
    driver.done("a")
    assert driver.state["runs"]["2"]["input"] == {"n": 2, "of": "in"}
    driver.done("b")
    assert driver.state["output"] == ["a", "b"]
    assert run_through(define({"l": loop(CALL, items="[]", concurrency=3)})).state["output"] == []


def test_contexts_are_copies_joined_in_order_of_the_items():
    task = {"c": {"call": "w", "export": {"as": "$context + {($item): .n, last: $item}"}}}
    driver = started(
        {"l": loop(task, items='["a", "b"]', concurrency=9)}, {"s": {"set": "${ $context }"}}
    )
    driver.done({"n": 2}, 2)
    driver.done({"n": 1}, 1)
    assert driver.state["output"] == {"a": 1, "b": 2, "last": "b"}


def test_while_stops_further_iterations_and_those_that_run_count():
    task = loop(CALL, items="[1, 2, 3, 4]", concurrency=2, **{"while": "$item < 4"})
    driver = started({"l": task})
    for run in (1, 2, 3):
        driver.done(run, run)
    assert driver.state["output"] == [1, 2, 3]


def test_a_fault_of_one_iteration_cancels_the_others():
    task = loop({"w": {"if": "$item == 2", "wait": "PT1H"}}, CALL, items="[1, 2, 3]", concurrency=3)
    driver = started({"t": {"try": [{"l": task}], "catch": {"do": [{"m": {"call": "mend"}}]}}})
    driver.failed(1)
    assert [run["activity"] for run in driver.state["runs"].values()] == ["mend"]
    assert not driver.state["timers"]
    entries = [(entry["type"], entry.get("name")) for entry in driver.last.history]
    assert entries.count(("task.faulted", "l")) == 1
    assert ("task.cancelled", "w") in entries
    assert ("task.cancelled", "l") not in entries


def test_end_in_one_of_many_iterations_ends_the_workflow():
    task = loop({"c": {"call": "w", "then": "end"}}, items="[1, 2]", concurrency=2)
    driver = started({"l": task}, {"never": {"call": "never"}})
    driver.done("the end", 2)
    assert driver.status == "completed"
    assert driver.state["output"] == "the end"


def test_more_iterations_than_one_group_holds_are_joined_in_order():
    driver = started({"l": loop(CALL, items="[range(300)]", concurrency=50)})
    while not driver.terminal:
        run = max(driver.state["runs"], key=int)
        driver.done(driver.state["runs"][run]["input"]["n"], int(run))
    assert driver.state["output"] == list(range(300))


def test_suspend_and_cancel_hold_for_all_iterations():
    driver = started({"l": loop(CALL, items="[1, 2, 3]", concurrency=2)})
    driver.command("suspend")
    driver.done("a", 1)
    assert driver.last.commands == []
    driver.command("resume")
    assert driver.last.commands == [Dispatch(3)]
    driver.command("cancel")
    assert driver.status == "cancelled"


# --- size -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "values",
    [
        [],
        [1],
        [1, 2],
        [3, 4, 5],
        [1, 2, 4],
        [True, 2, 3],
        [0.0, 1, 2],
        [[]] * 9,
        list("abc") * 100,
        list(range(-5, 400)),
        [2**63 - 3, 2**63 - 2, 2**63 - 1],
    ],
)
def test_items_come_as_they_were(values):
    packed = orjson.loads(orjson.dumps(pack(values)))
    taken = [item(packed, at) for at in range(length(packed))]
    assert orjson.dumps(taken) == orjson.dumps(values)


def test_the_snapshot_does_not_grow_with_the_iterations_that_are_done():
    driver = Driver(define({"l": loop({"c": {"call": "w"}}, items="[.[] | tostring]")}))
    driver.start(list(range(200)))
    sizes = []
    for _ in range(199):
        driver.done(0)
        sizes.append(len(orjson.dumps(driver.state["frames"])))
    digits = 10  # of the index and the run, wherever they stand
    assert max(sizes) <= sizes[0] + digits * 2


def test_ten_thousand_numbers_take_no_room():
    driver = Driver(define({"l": loop({"c": {"call": "w"}}, items="[range(10000)]")}))
    driver.start()
    assert len(orjson.dumps(driver.state)) < 1000


@pytest.mark.parametrize("concurrency", [None, 50])
def test_ten_thousand_iterations_cost_as_much_each_as_a_thousand(concurrency):
    """Counted in calls of Python functions, so that a busy host does not matter."""

    def calls_of(count):
        flow = loop({"c": {"call": "w"}}, items=f"[range({count})]", concurrency=concurrency)
        definition = parse({"document": HEADER, "do": [{"l": flow}]})
        start = {"kind": "start", "id": "i", "input": 0}
        state = advance(definition, None, start, 1).snapshot
        calls = 0

        def counted(frame, event, argument):
            nonlocal calls
            calls += event in ("call", "c_call")

        sys.setprofile(counted)
        try:
            for run in range(1, count + 1):
                event = {"kind": "result", "activity": "w", "run": run, "attempt": 1, "output": 1}
                event["outcome"] = "completed"
                state = advance(definition, state, event, 1, reuse=True).snapshot
        finally:
            sys.setprofile(None)
        assert state["status"] == "completed"
        return calls / count

    assert calls_of(5000) < 1.2 * calls_of(500)
