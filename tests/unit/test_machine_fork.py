"""fork: branches side by side, their context, their order, who wins, what is cancelled."""

import orjson
import pytest

from orchestrator.machine import CancelTimer, Dispatch
from orchestrator.machine.flow.branches import merged
from tests.support.machine import ERRORS, Driver, define, run_through


def fork(*branches, **more):
    return {"fork": {"branches": list(branches), **more}}


def calls(*names, **more):
    return fork(*({name: {"call": name}} for name in names), **more)


def started(*tasks, input=None, **more):
    driver = Driver(define(*tasks, **more))
    driver.start(input)
    return driver


def test_all_branches_begin_at_once_with_the_input_of_the_fork():
    driver = started({"f": calls("a", "b", "c")}, input={"n": 1})
    assert driver.last.commands == [Dispatch(1), Dispatch(2), Dispatch(3)]
    assert [run["input"] for run in driver.state["runs"].values()] == [{"n": 1}] * 3
    assert driver.state["runs"]["2"]["pointer"] == "/do/0/f/fork/branches/1/b"


def test_outputs_come_in_order_of_declaration_whatever_came_first():
    driver = started({"f": calls("a", "b", "c")})
    driver.done("third", 3)
    driver.done("first", 1)
    assert driver.status == "running"
    driver.done("second", 2)
    assert driver.state["output"] == ["first", "second", "third"]


def test_the_tasks_after_the_join_see_what_every_branch_exported():
    export = {"export": {"as": "$context + {(.key): .value, last: .key}"}}
    driver = started(
        {"f": fork({"a": {"call": "a", **export}}, {"b": {"call": "b", **export}})},
        {"after": {"set": "${ $context }"}},
    )
    driver.done({"key": "b", "value": 2}, 2)
    assert driver.state["context"] == {}
    driver.done({"key": "a", "value": 1}, 1)
    # In order of declaration: b is the last one, although it ended first.
    assert driver.state["output"] == {"a": 1, "b": 2, "last": "b"}


def test_a_branch_sees_its_own_exports_and_not_those_of_another():
    branch = {
        "do": [
            {"one": {"call": "x", "export": {"as": "$context + {seen: .}"}}},
            {"two": {"call": "y", "with": "${ $context }"}},
        ]
    }
    driver = started({"f": fork({"a": branch}, {"b": branch})})
    driver.done("from a", 1)
    assert driver.state["runs"]["3"]["input"] == {"seen": "from a"}
    driver.done("from b", 2)
    assert driver.state["runs"]["4"]["input"] == {"seen": "from b"}


def test_exports_of_a_fork_inside_a_branch_stay_in_that_branch_until_its_join():
    inner = fork({"x": {"set": {"k": 1}, "export": {"as": "$context + {inner: 1}"}}})
    driver = started(
        {"f": fork({"a": inner}, {"b": {"call": "b", "export": {"as": "$context + {b: 2}"}}})},
        {"after": {"set": "${ $context }"}},
    )
    driver.done(0)
    assert driver.state["output"] == {"inner": 1, "b": 2}


@pytest.mark.parametrize(
    ("base", "first", "second", "joined"),
    [
        ({"a": 1}, {"a": 1, "b": 2}, {"a": 1, "c": 3}, {"a": 1, "b": 2, "c": 3}),
        ({"a": 1}, {"a": 2}, {"a": 3}, {"a": 3}),
        ({"a": 1, "b": 1}, {"b": 1}, {"a": 1, "b": 2}, {"b": 2}),
        ({"a": 1}, {"a": 2}, {"a": 1}, {"a": 2}),
        ({"a": 1}, {"a": True}, {"a": 1}, {"a": True}),
        ({"a": [1, {"b": 2}]}, {"a": [1, {"b": 2}]}, {"a": []}, {"a": []}),
        ({"a": 1}, [1], {"b": 2}, {"b": 2}),
        ({"a": 1}, {"b": 2}, [1], [1]),
    ],
)
def test_changes_of_the_context_are_applied_key_by_key(base, first, second, joined):
    # Whether two values are one object in this process must not matter.
    for copy in (lambda value: value, lambda value: orjson.loads(orjson.dumps(value))):
        found = merged(merged(copy(base), copy(base), copy(first)), copy(base), copy(second))
        assert orjson.dumps(found, option=orjson.OPT_SORT_KEYS) == orjson.dumps(
            joined, option=orjson.OPT_SORT_KEYS
        )


def test_a_fault_of_one_branch_cancels_the_others_and_is_the_fork_s():
    driver = started(
        {
            "t": {
                "try": [{"f": fork({"a": {"call": "a"}}, {"w": {"wait": "PT1H"}})}],
                "catch": {"do": [{"after": {"call": "mend", "with": "${ $error }"}}]},
            }
        }
    )
    driver.failed(1)
    assert CancelTimer(1) in driver.last.commands
    cancelled = [entry for entry in driver.last.history if entry["type"] == "task.cancelled"]
    assert [entry["name"] for entry in cancelled] == ["w"]
    assert driver.state["runs"]["2"]["input"]["instance"] == ("/do/0/t/try/0/f/fork/branches/0/a")


def test_the_result_of_a_cancelled_branch_comes_too_late():
    driver = started(
        {"t": {"try": [{"f": calls("a", "b")}], "catch": {"do": [{"c": {"call": "c"}}]}}}
    )
    driver.failed(1)
    assert driver.result(2, 1, activity="b", output=1).ignored == "late"


def test_a_branch_that_is_skipped_passes_the_input_on():
    driver = started(
        {"f": fork({"a": {"if": "false", "call": "a"}}, {"b": {"call": "b"}})}, input={"n": 1}
    )
    driver.done("b")
    assert driver.state["output"] == [{"n": 1}, "b"]


def test_a_fork_whose_branches_wait_for_nothing_is_joined_at_once():
    flow = define({"f": fork({"a": {"set": {"x": 1}}}, {"b": {"set": {"x": 2}}})})
    assert run_through(flow).state["output"] == [{"x": 1}, {"x": 2}]


def test_output_and_export_of_the_fork_itself_come_after_the_join():
    driver = started(
        {
            "f": {
                **calls("a", "b"),
                "output": {"as": "add"},
                "export": {"as": "$context + {sum: .}"},
            }
        },
        {"after": {"set": "${ [., $context.sum] }"}},
    )
    driver.done(2, 2)
    driver.done(1, 1)
    assert driver.state["output"] == [3, 3]


def test_exit_leaves_the_branch_and_end_ends_the_workflow():
    block = [{"x": {"set": {"n": 1}, "then": "exit"}}, {"never": {"call": "never"}}]
    driver = started({"f": fork({"a": {"do": block}}, {"b": {"call": "b"}})})
    driver.done("b")
    assert driver.state["output"] == [{"n": 1}, "b"]
    # A directive of the branch itself.
    driver = started(
        {"f": fork({"a": {"set": {"n": 1}, "then": "exit"}}, {"b": {"set": {"n": 2}}})},
        {"after": {"call": "z"}},
    )
    assert driver.state["runs"]["1"]["input"] == [{"n": 1}, {"n": 2}]


@pytest.mark.parametrize(
    "inner",
    [
        {"stop": {"call": "stop", "then": "end"}},
        {"deep": {"do": [{"stop": {"call": "stop", "then": "end"}}]}},
        {"deep": fork({"x": {"wait": "PT1H"}}, {"stop": {"call": "stop", "then": "end"}})},
    ],
)
def test_end_inside_of_nested_forks_ends_the_workflow_and_cancels_what_runs(inner):
    driver = started(
        {"f": fork({"w": {"wait": "PT1H"}}, {"g": fork(inner, {"z": {"call": "z"}})})},
        {"never": {"call": "never"}},
    )
    (stop,) = [run for run, state in driver.state["runs"].items() if state["activity"] == "stop"]
    driver.done("the end", int(stop))
    assert driver.status == "completed"
    assert driver.state["output"] == "the end"


def test_of_competing_branches_the_first_to_complete_wins():
    export = {"export": {"as": "$context + {(.): 1}"}}
    driver = started(
        {
            "f": fork(
                {"a": {"do": [{"x": {"call": "x", **export}}, {"y": {"call": "y"}}]}},
                {"b": {"call": "b", **export}},
                {"c": {"wait": "PT1H"}},
                compete=True,
            )
        },
        {"after": {"call": "after", "with": "${ {won: ., context: $context} }"}},
    )
    driver.done("a", 2)
    driver.done("b", 1)
    assert driver.types() == [
        "run.completed",
        "task.completed",
        "task.cancelled",
        "task.cancelled",
        "task.cancelled",
        "task.completed",
        "task.started",
        "run.dispatched",
    ]
    assert CancelTimer(1) in driver.last.commands
    assert driver.state["runs"]["4"]["input"] == {"won": "b", "context": {"b": 1}}
    assert driver.result(3, 1, activity="y", output=1).ignored == "late"


def test_competing_branches_fail_only_when_all_have_failed():
    driver = started({"f": calls("a", "b", compete=True)})
    driver.failed(1)
    assert driver.status == "running"
    driver.done("b", 2)
    assert driver.state["output"] == "b"
    driver = started({"f": calls("a", "b", compete=True)})
    driver.failed(2, error={"title": "first"})
    driver.failed(1, error={"title": "second"})
    assert driver.status == "faulted"
    assert driver.state["error"]["title"] == "second"


def test_a_skipped_branch_does_not_win():
    skipped = {"s": {"if": "false", "call": "s"}}
    driver = started({"f": fork(skipped, {"b": {"call": "b"}}, compete=True)}, input={"n": 1})
    driver.done("b")
    assert driver.state["output"] == "b"
    driver = started({"f": fork(skipped, {"b": {"call": "b"}}, compete=True)})
    driver.failed(1)
    assert driver.status == "faulted"
    driver = started({"f": fork(skipped, compete=True)}, input={"n": 1})
    assert driver.state["output"] == {"n": 1}


def test_a_branch_that_needs_no_waiting_wins_before_the_others_have_sent_anything():
    driver = started({"f": fork({"a": {"call": "a"}}, {"b": {"set": {"n": 1}}}, compete=True)})
    assert driver.status == "completed"
    assert not [command for command in driver.last.commands if isinstance(command, Dispatch)]


def test_a_fork_that_is_tried_again_keeps_the_runs_of_its_calls():
    flow = {
        "t": {
            "try": [{"f": calls("a", "b")}],
            "catch": {"retry": {"limit": {"attempt": {"count": 2}}}},
        }
    }
    driver = started(flow)
    driver.done("a", 1)
    driver.failed(2)
    runs = driver.state["runs"]
    assert {key: (run["activity"], run["attempt"]) for key, run in runs.items()} == {
        "1": ("a", 2),
        "2": ("b", 2),
    }


def test_calls_that_were_cancelled_with_their_fork_keep_their_runs_too():
    retry = {"retry": {"limit": {"attempt": {"count": 3}}}}
    race = {"try": [{"f": calls("a", "b")}, {"x": {"call": "x"}}], "catch": retry}
    driver = started({"t": race})
    driver.failed(1)  # b still runs
    assert [run["attempt"] for run in driver.state["runs"].values()] == [2, 2]
    assert driver.result(2, 1, activity="b", output="of the first attempt").ignored == "late"
    race["try"][0] = {"f": calls("a", "b", compete=True)}
    driver = started({"t": race})
    driver.done("a", 1)
    driver.failed(3)
    runs = {run["activity"]: run["attempt"] for run in driver.state["runs"].values()}
    assert runs == {"a": 2, "b": 2}


def test_suspended_branches_keep_their_results_until_resume():
    driver = started({"f": calls("a", "b")})
    driver.command("suspend")
    driver.done("b", 2)
    driver.done("a", 1)
    assert driver.result(1, output="other").ignored == "duplicate"
    driver.command("resume")
    assert driver.state["output"] == ["a", "b"]


def test_cancel_ends_every_branch():
    driver = started({"f": fork({"a": {"call": "a"}}, {"w": {"wait": "PT1H"}})})
    driver.command("cancel")
    assert driver.status == "cancelled"
    assert driver.done("a", 1).ignored == "terminal"


def test_a_duplicate_result_counts_once():
    driver = started({"f": calls("a", "b")})
    driver.done("a", 1)
    assert driver.result(1, 1, activity="a", output="again").ignored == "late"
    driver.done("b", 2)
    assert driver.state["output"] == ["a", "b"]


@pytest.mark.parametrize("count", [10, 1000])
def test_the_context_is_not_stored_once_for_every_branch(count):
    big = "x" * 100_000
    branches = [{f"b{n}": {"call": "work", "with": {"n": n}}} for n in range(count)]
    driver = Driver(define({"s": {"set": {}, "export": {"as": "$input"}}}, {"f": fork(*branches)}))
    driver.start({"big": big})
    size = len(orjson.dumps(driver.state))
    assert size < 2 * len(big) + 300 * count + 2000


def test_errors_say_where_the_branch_was():
    driver = started(
        {"f": fork({"a": {"raise": {"error": {"type": f"{ERRORS}runtime", "status": 500}}}})}
    )
    assert driver.state["error"]["instance"] == "/do/0/f/fork/branches/0/a"
