"""What goes wrong inside one instance faults that instance, with its evidence, and nothing else."""

import orjson
import pytest

from orchestrator.machine.flow.basic import SetHandler
from tests.support.engine import (
    FakeWorker,
    deploy,
    ended,
    engine,
    history,
    send,
    settled,
    start,
    succeed,
)
from wf.jetstream import topology

RUNAWAYS = {
    "endless": "${ [range(1000000000)] | length }",
    "deep": "${ def f: f + 1; f }",
    "large": "${ [range(100000)] | map(tostring * 20) }",
    "none": "${ empty }",
    "half": r"""${ "{\"name\": \"Ann \\ud83d\"}" | fromjson | error("no \(.name)") }""",
    "kept": r"""${ "\"Ann \\ud83d\"" | fromjson }""",
}


def definition(name, value):
    document = {"dsl": "1.0.3", "namespace": "default", "name": name, "version": "1.0.0"}
    tasks = [{"a": {"call": "a"}}, {"bad": {"set": {"x": value}}}, {"b": {"call": "a"}}]
    return {"document": document, "do": tasks}


async def dead_letters(js):
    stored = await js.scan(topology.DEAD_LETTERS, "dead.>")
    return {one.subject: orjson.loads(one.data) for one in stored}


@pytest.mark.parametrize("name", RUNAWAYS)
async def test_a_runaway_expression_faults_its_own_instance(nats_server, js, name):
    async with engine(nats_server), FakeWorker(js, {"a": succeed({"n": 1})}):
        await deploy(js, definition(name, RUNAWAYS[name]))
        await deploy(js, definition("fine", "${ .n }"))
        for number in range(3):
            await start(js, "fine", f"fine-{number}", {})
            await start(js, name, f"bad-{number}", {})
        for number in range(3):
            assert (await ended(js, f"fine-{number}", limit_s=60))["status"] == "completed"
            found = await ended(js, f"bad-{number}", limit_s=60)
            assert found["status"] == "faulted"
            assert found["error"]["type"].endswith("/expression")
            assert found["error"]["instance"] == "/do/1/bad"


async def test_a_bug_of_the_machine_faults_the_instance_that_meets_it_with_evidence(
    nats_server, js, monkeypatch
):
    enter = SetHandler.enter

    def with_a_bug(self, step, frame, input):
        if input == {"n": "bug"}:
            raise ZeroDivisionError("a bug of the engine")
        enter(self, step, frame, input)

    monkeypatch.setattr(SetHandler, "enter", with_a_bug)
    async with (
        engine(nats_server),
        FakeWorker(js, {"a": lambda task: succeed(task["input"])(task)}),
    ):
        await deploy(js, definition("flow", "${ .n }"))
        for number in range(6):
            await start(js, "flow", f"i-{number}", {"n": "bug" if number % 2 else 1})
        for number in range(6):
            found = await ended(js, f"i-{number}")
            assert found["status"] == ("faulted" if number % 2 else "completed")
        await settled(js)
        letters = await dead_letters(js)
        assert sorted(letters) == ["dead.engine.i-1", "dead.engine.i-3", "dead.engine.i-5"]
        assert "ZeroDivisionError" in letters["dead.engine.i-1"]["evidence"]["traceback"]
        assert (await history(js, "i-1"))[-1]["entries"][-1]["type"] == "instance.faulted"


async def test_instances_of_a_definition_that_cannot_be_used_fault_with_the_reason(broker):
    async with engine(broker) as e:
        body = {
            "document": {
                "dsl": "1.0.3",
                "namespace": "default",
                "name": "many",
                "version": "1.0.0",
            },
            "do": [{"z": {"set": {"x": 1}}}],
            **{f"k{n}": n for n in range(60_000)},
        }
        await send(e.js, "$KV.WORKFLOW_DEFINITIONS.default.many.1.0.0", body)
        document = definition("good", 1)
        await deploy(e.js, {**document, "do": document["do"][1:2]})
        await start(e.js, "many", "bad")
        await start(e.js, "good", "good")
        assert (await ended(e.js, "good"))["status"] == "completed"
        faulted = await ended(e.js, "bad")
        assert faulted["status"] == "faulted"
        assert "cannot be used" in faulted["error"]["detail"]
        assert 'unknown key "k0"' in faulted["error"]["detail"]
