"""Any definition, any schedule of events: nothing raises, nothing is lost, replays agree."""

import json

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.definition import parse
from orchestrator.machine import DEFAULT_LIMITS, Dispatch, Send, SetTimer, advance
from orchestrator.machine.calls.child_workflow import CANCEL_CHILD
from orchestrator.machine.control.retry import places
from orchestrator.machine.events.correlation import Key
from orchestrator.machine.kernel.commands import DeadLetter
from orchestrator.machine.kernel.compensate import LETTER
from orchestrator.machine.kernel.step import START_CHILD
from tests.support.machine import HEADER, Driver, define

LIMITS = DEFAULT_LIMITS._replace(max_steps=2000, max_jumps=50)

CONDITIONS = st.sampled_from([".n > 2", "true", "false", ".", ".a.b", '$task.name == "t0"'])
VALUES = st.sampled_from(
    [
        "${ . }",
        "${ .n }",
        "${ $context }",
        "${ $input.n + 1 }",
        "${ .a.b }",
        "${ [.] | length }",
        {"n": "${ .n // 1 }"},
        {"n": 3, "deep": ["${ . | type }"]},
        "${ $workflow.input }",
    ]
)
DURATIONS = st.sampled_from(["PT0S", "PT1S", {"minutes": 1}, '${ .wait // "PT2S" }'])
ERRORS = st.sampled_from(
    [{"type": "x", "status": 400}, {"type": "x", "status": 503, "title": "${ .n | tostring }"}]
)
EVENTS = st.sampled_from(
    [
        {"event": {"with": {"type": "x.done", "data": "${ . }"}}},
        {"event": {"with": {"type": "x.done", "subject": "${ .n }"}}},
    ]
)
FILTERS = st.sampled_from(
    [
        {"with": {"type": "x.done"}},
        {"with": {"type": "x.other", "data": "${ .n > 1 }"}},
        {"with": {"data": {"n": 5}}},
        {"with": {"type": "x.done"}, "correlate": {"k": {"from": ".data.n"}}},
        {"with": {"type": "x.done"}, "correlate": {"k": {"from": ".data.n", "expect": "${ .n }"}}},
    ]
)
ENDS = st.sampled_from(["length > 1", False, ".[0].n == 5"]) | FILTERS.map(lambda one: {"one": one})
TO = (
    st.fixed_dictionaries({"one": FILTERS})
    | st.fixed_dictionaries({"any": st.lists(FILTERS, max_size=2)}, optional={"until": ENDS})
    | st.fixed_dictionaries({"all": st.lists(FILTERS, min_size=1, max_size=2)})
)
LISTENS = st.fixed_dictionaries(
    {"to": TO}, optional={"read": st.sampled_from(["data", "envelope", "raw"])}
)
RETRIES = st.fixed_dictionaries(
    {
        "limit": st.sampled_from(
            [
                {"attempt": {"count": 3}},
                {"duration": "PT3S"},
                {"attempt": {"count": 3, "duration": "PT2S"}},
            ]
        )
    },
    optional={
        "delay": DURATIONS,
        "backoff": st.sampled_from([{"constant": {}}, {"linear": {}}, {"exponential": {}}]),
        "jitter": st.just({"from": "PT0S", "to": "PT1S"}),
        "when": st.sampled_from(["$error.status == 503", "true"]),
    },
)

LOOPS = st.fixed_dictionaries(
    {"in": st.sampled_from(["[1, 2, 3]", "${ [range(5)] }", "[]", ".list", '[{n: 1}, "x"]'])},
)
WATCHED = st.sampled_from(
    [
        {"heartbeat": "PT2S"},
        {"scheduleToStart": "PT1S"},
        {"heartbeat": "PT1S", "scheduleToStart": "PT3S"},
    ]
)

UNDO = st.lists(
    st.sampled_from(
        [
            {"call": "undo", "with": {"it": "${ . }"}},
            {"set": "${ $compensated.input }"},
            {"wait": "PT1S"},
            {"raise": {"error": {"type": "x", "status": 500}}},
            {
                "try": [{"again": {"call": "undo"}}],
                "catch": {"retry": {"limit": {"attempt": {"count": 2}}}},
            },
            {"run": {"workflow": {"namespace": "default", "name": "flow"}}},
            {"fork": {"branches": [{"a": {"call": "undo"}}, {"b": {"wait": "PT2S"}}]}},
            {"set": {}, "then": "end"},
        ]
    ),
    min_size=1,
    max_size=2,
).map(lambda tasks: [{f"u{at}": task} for at, task in enumerate(tasks)])


def objects(value):
    return value if isinstance(value, dict) else {"v": value}


def bodies(depth):
    kinds = [
        st.fixed_dictionaries(
            {"call": st.sampled_from(["one", "two"])}, optional={"with": VALUES.map(objects)}
        ),
        st.fixed_dictionaries(
            {
                "run": st.fixed_dictionaries(
                    {"workflow": st.just({"namespace": "default", "name": "flow"})},
                    optional={"await": st.booleans(), "return": st.just("none")},
                )
            }
        ),
        st.fixed_dictionaries({"set": VALUES}),
        st.fixed_dictionaries({"wait": DURATIONS}),
        st.fixed_dictionaries({"emit": EVENTS}),
        st.fixed_dictionaries({"listen": LISTENS}),
        st.fixed_dictionaries({"raise": st.fixed_dictionaries({"error": ERRORS})}),
        st.fixed_dictionaries(
            {
                "switch": st.tuples(CONDITIONS).map(
                    lambda found: [{"case": {"when": found[0], "then": "continue"}}]
                )
            }
        ),
    ]
    if depth > 0:
        inner = blocks(depth - 1)
        catch = st.fixed_dictionaries(
            {},
            optional={
                "retry": RETRIES,
                "do": inner,
                "when": st.just("$error.status > 400"),
                "errors": st.just({"with": {"status": 503}}),
            },
        )
        kinds += [
            st.fixed_dictionaries({"do": inner}),
            st.fixed_dictionaries({"try": inner, "catch": catch}),
            st.fixed_dictionaries({"fork": forks(depth - 1)}),
            st.fixed_dictionaries(
                {"for": LOOPS, "do": inner},
                optional={
                    "while": st.sampled_from(["$index < 2", "$item != null", ".n != 5"]),
                    "metadata": st.sampled_from([1, 2, 200]).map(
                        lambda limit: {"wf": {"concurrency": limit}}
                    ),
                },
            ),
            st.fixed_dictionaries({"listen": LISTENS, "foreach": iterators(inner)}),
        ]
    return st.one_of(kinds)


@st.composite
def blocks(draw, depth):
    count = draw(st.integers(1, 3))
    tasks = []
    for number in range(count):
        task = dict(draw(bodies(depth)))
        if draw(st.booleans()):
            task["then"] = draw(
                st.sampled_from(["continue", "exit", "end", *(f"t{n}" for n in range(count))])
            )
        if "for" not in task and draw(st.integers(0, 3)) == 0:
            task["metadata"] = {"wf": {"compensate": draw(UNDO)}}
        if "call" in task and draw(st.integers(0, 3)) == 0:
            beyond = task.get("metadata", {}).get("wf", {})
            task["metadata"] = {"wf": {**beyond, **draw(WATCHED)}}
        for key, value in {
            "if": CONDITIONS,
            "input": st.just({"from": '{n: 1} + (if type == "object" then . else {} end)'}),
            "output": VALUES.map(lambda found: {"as": found}),
            "export": st.just({"as": "$context + {n: $output}"}),
            "timeout": st.sampled_from([{"after": "PT1S"}, {"after": '${ .wait // "PT2S" }'}]),
        }.items():
            if draw(st.integers(0, 5)) == 0:
                task[key] = draw(value)
        tasks.append({f"t{number}": task})
    return tasks


def iterators(inner):
    return st.fixed_dictionaries(
        {},
        optional={
            "do": inner,
            "item": st.just("each"),
            "output": st.just({"as": "${ {n: .} }"}),
            "export": st.just({"as": "$context + {n: $output}"}),
        },
    )


def forks(depth):
    return st.fixed_dictionaries({"branches": branches(depth)}, optional={"compete": st.booleans()})


@st.composite
def branches(draw, depth):
    """As `blocks`, without what one branch cannot say of another."""
    tasks = draw(blocks(depth))
    for task in tasks:
        for body in task.values():
            if body.get("then") not in (None, "continue", "exit", "end"):
                del body["then"]
    return tasks


DEFINITIONS = blocks(2).map(lambda tasks: define(*tasks))
OUTPUTS = st.sampled_from([None, 1, {"n": 5}, {"n": 1, "wait": "PT1S"}, [], "text"])
OUTCOMES = st.sampled_from(
    ["completed"] * 4
    + ["failed", "failed", "timed-out", "crashed", "out-of-memory", "undeliverable"]
    + ["started", "heartbeat", "expired", "redelivered", "overdue"]
)
# What the schedule does next: usually something that fits, at times something odd.
MOVES = st.lists(
    st.tuples(
        st.sampled_from(
            ["result"] * 6
            + ["timer"] * 3
            + ["event"] * 4
            + ["signal"]
            + ["old", "suspend", "resume", "odd"]
            + ["cancel", "fault", "retry", "retry"]
        ),
        st.integers(0, 50),
        OUTCOMES,
        OUTPUTS,
        st.integers(0, 5000),
    ),
    max_size=25,
)
ODD = [
    {},
    {"kind": "result"},
    {"kind": "result", "run": 1},
    {"kind": "timer", "timer": "1"},
    {"kind": "command", "verb": "cancel", "sequence": None},
    {"kind": "start", "id": 5},
    {"kind": "result", "run": True, "attempt": 1},
    {"kind": ["x"]},
    {"kind": "signal"},
    {"kind": "child", "run": 1, "child": "x", "status": "completed"},
    {"kind": "result", "run": 10**30, "activity": "one", "attempt": 1, "outcome": {}},
]


def next_event(driver, move):
    """The event of one move; None when it has nothing to act on."""
    what, pick, outcome, output, _ = move
    if what == "old":
        return driver.log[pick % len(driver.log)][0]
    if what == "odd":
        return ODD[pick % len(ODD)]
    if what == "fault":
        return {"kind": "fault", "error": {"title": "shell"}, "run": pick % 7 or None}
    if what in ("suspend", "resume", "cancel"):
        if what == "cancel" and pick % 4:
            return None
        sequence = pick if pick % 3 == 0 else 50 + pick
        return {"kind": "command", "verb": what, "sequence": sequence, "now": pick % 8 == 0}
    if what == "signal":
        name = ["t0", "t1", "x.done", "nobody"][pick % 4]
        return {"kind": "signal", "name": name, "sequence": 100 + pick, "data": output}
    if what == "event":
        return cloud_event(driver, pick, output)
    if what == "retry":
        event = {"kind": "command", "verb": "retry", "sequence": 200 + pick}
        if driver.status == "faulted" and pick % 2:
            known = places(driver.definition, driver.state)
            return {**event, "from": known[pick % len(known)], "input": output}
        return event
    table = driver.state["runs" if what == "result" else "timers"]
    if not table:
        return None
    key = sorted(table)[pick % len(table)]
    if what == "timer":
        return {"kind": "timer", "timer": int(key)}
    run = table[key]
    if "child" in run:
        status = {"completed": "completed", "timed-out": "cancelled"}.get(outcome, "faulted")
        child = {"kind": "child", "run": int(key), "child": run["child"], "status": status}
        return {**child, "output": output, "error": {"status": 503}}
    event = {
        "kind": "result",
        "activity": run["activity"],
        "run": int(key),
        "outcome": outcome,
        "attempt": max(1, run["attempt"] - pick % 2),
    }
    if outcome == "completed":
        return {**event, "output": output}
    retry = {"max_attempts": pick % 4, "delay_s": pick % 3, "jitter": 0.5}
    return {**event, "error": {"status": 503}, "retryable": pick % 5 > 0, "retry": retry}


def cloud_event(driver, pick, data):
    """An event for one of the listeners; at times one that was there before."""
    if not driver.listeners:
        return None
    listener = driver.name_of(driver.listeners[pick % len(driver.listeners)])
    type_ = ["x.done", "x.other", "x.third"][pick % 3]
    event = {"specversion": "1.0", "id": str(pick), "source": "/s", "type": type_, "data": data}
    return {
        "kind": "event",
        "listener": listener,
        "sequence": pick,
        "time_ms": driver.now_ms,
        "match": f"{listener}:{pick}",
        "event": event,
    }


def registered(driver):
    """The listeners that are in the index after all that was sent."""
    keys = set()
    for command in driver.commands:
        if isinstance(command, Send) and command.kind == "listen":
            keys.add(command.body["key"])
        if isinstance(command, Send) and command.kind == "unlisten":
            keys.remove(command.body["key"])
    return {Key.parse(key).listener for key in keys}


def check(driver):
    """What holds between any two events."""
    state = driver.state
    commands = [repr(one) for one in driver.last.commands if not isinstance(one, DeadLetter)]
    assert len(commands) == len(set(commands))
    started = {body["id"] for body in driver.sent(START_CHILD)}
    cancelled = [body["id"] for body in driver.sent(CANCEL_CHILD)]
    assert len(cancelled) == len(set(cancelled))
    awaited = {run["child"] for run in state["runs"].values() if "child" in run}
    assert awaited <= started - set(cancelled)
    for command in driver.last.commands:
        if isinstance(command, Dispatch):
            assert str(command.run) in state["runs"]
        if isinstance(command, SetTimer):
            assert str(command.timer) in state["timers"]
    assert registered(driver) == {driver.name_of(frame) for frame in driver.listeners}
    if driver.terminal:
        # Letters may be alike, when equal work was done twice; there is one for each all the same.
        letters = [one for one in driver.commands if isinstance(one, DeadLetter)]
        given_up = state.get("compensated", {"failed": []})["failed"]
        assert sum(one.kind == LETTER for one in letters) == len(given_up)
        assert "ended_ms" in state
        assert ("error" in state) is (driver.status == "faulted")
        return
    for run in state["runs"].values():
        assert run["frame"] in state["frames"]
    for timer in state["timers"].values():
        assert timer["frame"] in state["frames"]
    assert all(frame["parent"] in (*state["frames"], "") for frame in state["frames"].values())
    held = state.get("held", [])
    # Nothing hangs: something is open that will come, or has come and is held.
    assert state["runs"] or state["timers"] or held or driver.listeners
    if driver.status != "suspended":
        active = "running" if state["runs"] else "waiting"
        assert driver.status == ("compensating" if "ending" in state else active)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(DEFINITIONS, OUTPUTS, MOVES)
def test_any_schedule_of_events_keeps_what_must_hold(definition, input, moves):
    driver = Driver(definition, LIMITS)
    driver.start(input)
    check(driver)
    for move in moves:
        driver.now_ms += move[4]
        event = next_event(driver, move)
        if event is not None:
            driver.feed(event)
            check(driver)
    assert driver.replay() == driver.state


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(DEFINITIONS, OUTPUTS)
def test_whatever_is_answered_ends(definition, input):
    driver = Driver(definition, LIMITS)
    driver.start(input)
    for _ in range(400):
        if driver.terminal:
            break
        if driver.state["runs"]:
            driver.done({"n": 1}, int(min(driver.state["runs"], key=int)))
        elif driver.state["timers"]:
            driver.fire(int(min(driver.state["timers"], key=int)))
        else:
            break  # what listens waits for what may never come
    # Only jumps back can make it longer than this, and those are counted.
    assert driver.terminal or driver.listeners or driver.state["jumps"] > 0


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
KEYS = st.sampled_from(
    [
        "id",
        "run",
        "attempt",
        "outcome",
        "activity",
        "timer",
        "verb",
        "sequence",
        "error",
        "evidence",
        "facts",
        "refused",
        "parent",
        "depth",
        "child",
        "status",
        "input",
        "output",
        "retry",
        "reason",
        "retryable",
        "crash_limit",
    ]
)
LIKELY = st.sampled_from([1, "one", "completed", "failed", "crashed", "cancel", "suspend"])


@settings(max_examples=400, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["start", "result", "timer", "command", "fault", "child", "x"])
            | ANY_JSON,
            st.dictionaries(KEYS, LIKELY | ANY_JSON, max_size=8),
        ),
        max_size=4,
    )
)
def test_any_json_may_come_as_an_event(events):
    definition = parse(
        {"document": HEADER, "do": [{"a": {"call": "one"}}, {"w": {"wait": "PT1S"}}]}
    )
    for snapshot in (None, advance(definition, None, {"kind": "start", "id": "i"}, 1).snapshot):
        for kind, fields in events:
            result = advance(definition, snapshot, {**fields, "kind": kind}, 1000)
            if result.ignored is None:
                snapshot = json.loads(json.dumps(result.snapshot))


def test_the_end_of_no_child_is_not_that_of_a_call():
    driver = Driver(parse({"document": HEADER, "do": [{"a": {"call": "one"}}]}))
    driver.start({})
    driver.feed({"kind": "child", "run": 1, "status": "completed"})
    assert driver.last.ignored == "late"


def test_data_that_nests_too_deeply_is_refused_and_not_stored():
    deep = []
    for _ in range(900):
        deep = [deep]
    driver = Driver(parse({"document": HEADER, "do": [{"a": {"call": "one"}}]}))
    driver.start(deep)
    assert driver.status == "faulted"
    driver = Driver(parse({"document": HEADER, "do": [{"a": {"call": "one"}}]}))
    driver.start({})
    driver.done(deep)
    assert driver.status == "faulted"
    assert driver.state["error"]["title"] == "Data refused"
    assert driver.command("cancel", reason=deep).ignored == "terminal"
