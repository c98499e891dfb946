"""run: what registration accepts and refuses, each with its place and the remedy."""

import pytest

from orchestrator.definition import parse
from orchestrator.definition.nodes import RunWorkflow
from tests.support.machine import HEADER
from wf.errors import DefinitionError

GOOD = {"workflow": {"namespace": "default", "name": "ship"}}


def compiled(run):
    definition = parse({"document": HEADER, "do": [{"t": {"run": run}}]}, "f")
    return definition.workflow.block.tasks[0].body


def the_problem(run):
    with pytest.raises(DefinitionError) as raised:
        compiled(run)
    (problem,) = raised.value.problems
    return problem


def test_a_workflow_is_run_awaited_and_by_its_latest_version():
    body = compiled(GOOD)
    assert body == RunWorkflow("default", "ship", None, None, awaited=True, returns=True)
    body = compiled({"workflow": {**GOOD["workflow"], "version": "1.0.0"}, "await": False})
    assert (body.version, body.awaited) == ("1.0.0", False)


@pytest.mark.parametrize(
    ("run", "place", "words"),
    [
        ({}, "/do/0/t/run", "runs nothing: give it one of workflow"),
        ({"container": {"image": "x"}}, "/do/0/t/run/container", "containers are not supported"),
        ({**GOOD, "await": "no"}, "/do/0/t/run/await", "must be true or false"),
        ({**GOOD, "return": "all"}, "/do/0/t/run/return", "a workflow has no `all`"),
        ({**GOOD, "return": "it"}, "/do/0/t/run/return", "must be one of stdout"),
        ({**GOOD, "awaits": True}, "/do/0/t/run/awaits", "await"),
        ({"workflow": {"namespace": "default"}}, "/do/0/t/run/workflow", "needs `name`"),
        ({"workflow": {"name": "ship"}}, "/do/0/t/run/workflow", "needs `namespace`"),
        (
            {"workflow": {**GOOD["workflow"], "name": "a b"}},
            "/do/0/t/run/workflow/name",
            "not a valid name",
        ),
        (
            {"workflow": {**GOOD["workflow"], "version": "newest"}},
            "/do/0/t/run/workflow/version",
            "must be `latest` or a version",
        ),
        (
            {"workflow": {**GOOD["workflow"], "input": "x"}},
            "/do/0/t/run/workflow/input",
            "an object or an expression",
        ),
        ({"workflow": "ship"}, "/do/0/t/run/workflow", "must be an object"),
    ],
)
def test_what_is_wrong_is_refused_with_its_place(run, place, words):
    problem = the_problem(run)
    assert problem.startswith(f"f: {place}: ")
    assert words in problem
