"""Sequences, jumps, data flow: what happens between start and end without anything failing."""

import pytest

from orchestrator.machine import DEFAULT_LIMITS, Dispatch, Finished, SetTimer
from tests.support.machine import ERRORS, Driver, define, run_through


def call(activity="work", **more):
    return {"call": activity, **more}


def test_a_start_creates_the_instance_and_dispatches_the_first_call_in_one_step():
    driver = Driver(define({"a": call(**{"with": {"x": "${ .n + 1 }", "y": [True, "${ .n }"]}})}))
    driver.start({"n": 1})
    assert driver.types() == [
        "instance.created",
        "instance.started",
        "task.started",
        "run.dispatched",
    ]
    assert driver.last.history[0]["status"] == "pending"
    assert driver.last.commands == [Dispatch(1)]
    assert driver.status == "running"
    run = driver.state["runs"]["1"]
    assert run["input"] == {"x": 2, "y": [True, 1]}
    assert (run["activity"], run["attempt"], run["pointer"]) == ("work", 1, "/do/0/a")


def test_a_result_moves_on_to_the_next_call_and_the_last_one_completes():
    driver = Driver(define({"a": call("one")}, {"b": call("two")}))
    driver.start({"n": 1})
    driver.done({"from": "a"})
    assert driver.last.commands == [Dispatch(2)]
    assert driver.state["runs"]["2"]["input"] == {"from": "a"}
    driver.done("last")
    assert driver.status == "completed"
    assert driver.state["output"] == "last"
    assert driver.state["ended_ms"] == driver.now_ms
    assert driver.last.commands == [Finished()]
    assert driver.types()[-1] == "instance.completed"


def test_without_with_the_input_of_the_task_is_the_input_of_the_activity():
    driver = Driver(define({"a": call(input={"from": ".deep"})}))
    driver.start({"deep": {"k": 1}})
    assert driver.state["runs"]["1"]["input"] == {"k": 1}


def test_long_sequences_keep_as_many_frames_as_they_are_deep():
    driver = Driver(define({"outer": {"do": [{f"t{n}": call()} for n in range(50)]}}))
    driver.start({})
    sizes = set()
    for _ in range(49):
        sizes.add(len(driver.state["frames"]))
        driver.done({})
    assert sizes == {4}


def test_set_replaces_the_output():
    driver = run_through(define({"s": {"set": {"b": "${ .a }"}}}), {"a": 1, "c": 2})
    assert driver.state["output"] == {"b": 1}


def test_data_passes_through_the_stages_in_order():
    task = {
        "if": ".raw",
        "input": {"from": "{seen: .raw}"},
        "set": {"got": "${ .seen }", "input": "${ $input.seen }", "raw": "${ $task.input.raw }"},
        "output": {"as": "{out: .got, input: $input.seen, raw: $task.output.raw}"},
        "export": {"as": "{exported: $output.out, dot: .out, previous: $context}"},
    }
    flow = define(
        {"t": task}, input={"from": ".order"}, output={"as": {"all": "${ [., $context] }"}}
    )
    driver = run_through(flow, {"order": {"raw": 7}})
    output = {"out": 7, "input": 7, "raw": 7}
    context = {"exported": 7, "dot": 7, "previous": {}}
    assert driver.state["context"] == context
    assert driver.state["output"] == {"all": [output, context]}


def test_output_as_of_a_call_sees_the_input_that_the_task_had():
    driver = Driver(define({"a": call(output={"as": "[., $input.k, $task.name, $task.input.k]"})}))
    driver.start({"k": 5})
    driver.done("o")
    assert driver.state["output"] == ["o", 5, "a", 5]


def test_frames_keep_input_only_when_it_is_needed_later():
    driver = Driver(define({"a": call()}))
    driver.start({"big": "x" * 100})
    assert all(
        "input" not in frame and "raw" not in frame for frame in driver.state["frames"].values()
    )


def test_export_replaces_the_context():
    flow = define(
        {"a": {"set": {"x": 1}, "export": {"as": "{a: .x}"}}},
        {"b": {"set": {"y": "${ $context.a }"}, "export": {"as": "$context + {b: .y}"}}},
        {"c": {"set": "${ $context }"}},
    )
    assert run_through(flow).state["output"] == {"a": 1, "b": 1}


def test_the_descriptors_of_workflow_task_and_runtime():
    flow = define(
        {
            "a/b": {
                "set": {
                    "id": "${ $workflow.id }",
                    "input": "${ $workflow.input }",
                    "name": "${ $workflow.definition.document.name }",
                    "when": "${ $workflow.startedAt }",
                    "task": "${ $task | [.name, .reference, (.definition | keys)] }",
                    "second": "${ $task.startedAt.epoch.seconds }",
                    "runtime": "${ $runtime.name }",
                    "now": "${ now }",
                }
            }
        }
    )
    output = run_through(flow, 3).state["output"]
    assert output["id"] == "i-1"
    assert output["input"] == 3
    assert output["name"] == "flow"
    assert output["when"] == {
        "iso8601": "1970-01-01T00:16:40.000Z",
        "epoch": {"seconds": 1000, "milliseconds": 1000000},
    }
    assert output["task"] == ["a/b", "/do/0/a~1b", ["set"]]
    assert output["second"] == 1000
    assert output["runtime"] == "wf-supervisor"
    assert output["now"] == 1000


def test_a_skipped_task_passes_its_raw_input_on_and_its_then_does_not_count():
    flow = define(
        {"a": {"if": ".no", "input": {"from": ".x"}, "set": {"never": 1}, "then": "end"}},
        {"b": {"set": {"got": "${ . }"}}},
    )
    driver = run_through(flow, {"x": 1})
    assert driver.state["output"] == {"got": {"x": 1}}
    assert "task.skipped" in driver.types()


@pytest.mark.parametrize("condition", ["${ .go }", ".go", True])
def test_conditions_may_be_marked_or_bare(condition):
    driver = run_through(define({"a": {"if": condition, "set": {"done": 1}}}), {"go": True})
    assert driver.state["output"] == {"done": 1}


def test_jq_truth_decides_zero_and_empty_text_are_true():
    flow = define({"a": {"if": ".x", "set": {"done": 1}}})
    assert run_through(flow, {"x": 0}).state["output"] == {"done": 1}
    assert run_through(flow, {"x": ""}).state["output"] == {"done": 1}
    assert run_through(flow, {"x": None}).state["output"] == {"x": None}


def switch_flow():
    return define(
        {
            "pick": {
                "switch": [
                    {"other": {"then": "c"}},
                    {"small": {"when": ".n < 10", "then": "b"}},
                    {"stop": {"when": "${ .n == 10 }", "then": "end"}},
                ]
            }
        },
        {"a": {"set": {"at": "a"}, "then": "end"}},
        {"b": {"set": {"at": "b"}, "then": "exit"}},
        {"c": {"set": {"at": "c"}}},
    )


@pytest.mark.parametrize(("n", "output"), [(5, {"at": "b"}), (10, {"n": 10}), (11, {"at": "c"})])
def test_switch_takes_the_first_case_that_matches_and_the_default_last(n, output):
    assert run_through(switch_flow(), {"n": n}).state["output"] == output


def test_switch_without_a_match_goes_on_with_its_own_then():
    flow = define(
        {"pick": {"switch": [{"never": {"when": "false", "then": "end"}}], "then": "b"}},
        {"a": {"set": {"at": "a"}}},
        {"b": {"set": {"seen": "${ . }"}}},
    )
    assert run_through(flow, 1).state["output"] == {"seen": 1}


def test_exit_leaves_the_list_and_the_task_around_goes_on():
    flow = define(
        {
            "outer": {
                "do": [{"x": {"set": {"v": 1}, "then": "exit"}}, {"y": {"set": {"v": 2}}}],
                "output": {"as": "{v: (.v + 10)}"},
            }
        },
        {"after": {"set": {"v": "${ .v + 100 }"}}},
    )
    assert run_through(flow).state["output"] == {"v": 111}


def test_end_ends_the_workflow_from_any_depth():
    flow = define(
        {
            "outer": {
                "do": [{"inner": {"do": [{"x": {"set": {"v": 1}, "then": "end"}}]}}],
                "output": {"as": "{v: 99}"},
            }
        },
        {"after": {"set": {"v": 2}}},
        output={"as": "{final: .v}"},
    )
    assert run_through(flow).state["output"] == {"final": 1}


def loop():
    return define(
        {"count": {"set": {"n": "${ .n + 1 }"}}},
        {"again": {"switch": [{"more": {"when": ".n < 50", "then": "count"}}]}},
        {"done": {"set": {"n": "${ .n }", "done": True}}},
    )


def test_jumps_backwards_loop_and_are_counted():
    driver = run_through(loop(), {"n": 0})
    assert driver.state["output"] == {"n": 50, "done": True}
    assert driver.state["jumps"] == 49


def test_too_many_jumps_fault_the_instance():
    driver = Driver(loop(), DEFAULT_LIMITS._replace(max_jumps=10))
    driver.start({"n": 0})
    assert driver.status == "faulted"
    assert driver.state["error"]["title"] == "Too many jumps"
    assert driver.state["error"]["instance"] == "/do/1/again"


def test_a_loop_that_never_waits_is_stopped():
    flow = define({"a": {"set": {"x": 1}, "then": "a"}})
    driver = Driver(flow, DEFAULT_LIMITS._replace(max_steps=1000))
    driver.start({})
    assert driver.status == "faulted"
    assert driver.state["error"]["title"] == "Too many steps"


def test_no_try_can_catch_the_end_of_a_loop_without_end():
    body = {"try": [{"a": {"set": {}, "then": "a"}}], "catch": {"retry": {}}}
    driver = Driver(define({"t": body}), DEFAULT_LIMITS._replace(max_jumps=5, max_steps=10_000))
    driver.start({})
    assert driver.state["error"]["title"] == "Too many jumps"


@pytest.mark.parametrize(
    ("duration", "ms"),
    [
        ("PT1.5S", 1500),
        ({"minutes": 1, "seconds": 1}, 61_000),
        ("P1DT1H", 90_000_000),
        ("${ .for }", 2000),
        ({"seconds": "${ .n }"}, 3000),
    ],
)
def test_wait_sets_a_durable_timer_and_passes_its_input_on(duration, ms):
    driver = Driver(define({"w": {"wait": duration}}, {"s": {"set": {"got": "${ .n }"}}}))
    driver.start({"for": "PT2S", "n": 3})
    assert driver.status == "waiting"
    assert driver.types()[-2:] == ["timer.set", "instance.waiting"]
    assert driver.last.commands == [SetTimer(1)]
    assert driver.state["timers"]["1"]["due_ms"] == driver.now_ms + ms
    driver.fire()
    assert driver.state["output"] == {"got": 3}


def test_waiting_then_calling_is_running_again():
    driver = Driver(define({"w": {"wait": "PT1S"}}, {"c": call()}, {"v": {"wait": "PT1S"}}))
    driver.start({})
    driver.fire()
    assert driver.status == "running"
    assert driver.types()[-1] == "instance.running"
    driver.done({})
    assert driver.status == "waiting"


def test_a_wait_of_nothing_goes_on_at_once():
    assert run_through(define({"w": {"wait": "PT0S"}}), 1).state["output"] == 1


def test_a_wait_for_what_is_no_duration_faults():
    driver = run_through(define({"w": {"wait": "${ .for }"}}), {"for": "soon"})
    assert driver.state["error"]["type"] == ERRORS + "expression"
    assert driver.state["error"]["instance"] == "/do/0/w"


def test_a_definition_that_is_refused_makes_a_faulted_instance():
    driver = Driver(None)
    driver.start({"a": 1}, refused={"type": ERRORS + "configuration", "status": 404, "title": "No"})
    assert driver.status == "faulted"
    assert driver.state["input"] == {"a": 1}
    assert driver.state["error"]["status"] == 404
    assert driver.types() == ["instance.created", "instance.faulted"]
    assert driver.last.commands == [Finished()]


def test_a_start_without_definition_names_what_is_missing():
    driver = Driver(None)
    driver.start({})
    assert "default.flow 1.0.0" in driver.state["error"]["detail"]


def test_a_second_start_changes_nothing():
    driver = Driver(define({"a": call()}))
    driver.start({})
    assert driver.start({"other": 1}).ignored == "exists"


def test_expression_faults_of_the_workflow_itself_name_their_place():
    driver = run_through(define({"a": {"set": {}}}, input={"from": ".a.b"}), {"a": 1})
    assert driver.state["error"]["instance"] == "/input/from"
    driver = run_through(define({"a": {"set": {}}}, output={"as": 'error("x")'}))
    assert driver.state["error"]["instance"] == "/output/as"
    assert driver.state["error"]["type"] == ERRORS + "expression"
    assert driver.state["error"]["status"] == 400


def test_too_many_timers_fault_the_task():
    driver = Driver(define({"w": {"wait": "PT1S"}}), DEFAULT_LIMITS._replace(max_timers=0))
    driver.start({})
    assert driver.state["error"]["title"] == "Too many timers"
