"""run: what registration accepts and refuses, each with its place and the remedy."""

import pytest

from orchestrator.definition import parse
from orchestrator.definition.compiler.nodes import RunWorkflow
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
        ({}, "/do/0/t/run", "runs nothing: give it one of script, shell, workflow"),
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
        ({"shell": {}}, "/do/0/t/run/shell", "needs `command`"),
        ({"shell": {"command": "a", "stdn": "b"}}, "/do/0/t/run/shell/stdn", "stdin"),
        ({"shell": {"command": "a"}, "await": False}, "/do/0/t/run/await", "of its own"),
        ({"shell": {"command": 5}}, "/do/0/t/run/shell/command", "non-empty string"),
        (
            {"shell": {"command": "a", "arguments": {"a": 1}}},
            "/do/0/t/run/shell/arguments",
            "one argument per item",
        ),
        (
            {"shell": {"command": "a", "environment": []}},
            "/do/0/t/run/shell/environment",
            "an object or an expression",
        ),
        (
            {"shell": {"command": "a", "stdin": "${ $authorization }"}},
            "/do/0/t/run/shell/stdin",
            "$authorization",
        ),
        (
            {"script": {"language": "js", "code": ""}},
            "/do/0/t/run/script/code",
            "non-empty string",
        ),
        ({"script": {"language": "python"}}, "/do/0/t/run/script", "needs `code`"),
        (
            {"script": {"language": "ruby", "code": "1"}},
            "/do/0/t/run/script/language",
            "must be one of js, python",
        ),
        (
            {"script": {"language": "js", "source": {"endpoint": "https://x"}}},
            "/do/0/t/run/script/source",
            "is not fetched",
        ),
    ],
)
def test_what_is_wrong_is_refused_with_its_place(run, place, words):
    problem = the_problem(run)
    assert problem.startswith(f"f: {place}: ")
    assert words in problem
