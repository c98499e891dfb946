"""Every example of the specification is executed here, or refused with the documented problem."""

import re
from pathlib import Path

import pytest

from orchestrator.definition import parse
from orchestrator.offline.explain import explain
from tests.support.conformance import EXAMPLES
from wf.errors import DefinitionError

DOCUMENT = "document: {dsl: 1.0.3, namespace: default, name: example, version: 1.0.0}\n"
PROFILE = Path(__file__).parents[2] / "docs" / "language.md"
EXECUTED = [example for example in EXAMPLES if not example.refused]
REFUSED = [example for example in EXAMPLES if example.refused]


def first_name(example):
    return example.names[0]


@pytest.mark.parametrize("example", EXECUTED, ids=first_name)
def test_it_is_executed(example):
    shape = explain(
        DOCUMENT + example.body, "f", example.input, example.stubs, 1_000_000, example.events
    )
    if example.error is not None:
        assert (shape["status"], shape["error"]["status"]) == ("faulted", example.error)
        return
    assert (shape["status"], shape.get("output")) == ("completed", example.output), shape
    if example.sent is not None:
        assert shape["calls"][-1]["input"] == example.sent


@pytest.mark.parametrize("example", REFUSED, ids=first_name)
def test_it_is_refused_with_its_place(example):
    with pytest.raises(DefinitionError) as refusal:
        parse(DOCUMENT + example.body)
    (problem,) = refusal.value.problems
    for words in example.refused:
        assert words in problem


def documented():
    """Name → "executed" or "refused", as docs/language.md has it."""
    section = PROFILE.read_text().partition("## The specification's examples")[2]
    found = {}
    for line in section.partition("\n## ")[0].splitlines():
        row = re.match(r"\| (.+) \| (executed|refused) \|", line)
        for name in re.findall("`([^`]+)`", row.group(1)) if row else ():
            assert name not in found, name
            found[name] = row.group(2)
    return found


def test_the_list_in_the_profile_is_that_of_the_tests():
    tested = {
        name: "refused" if example.refused else "executed"
        for example in EXAMPLES
        for name in example.names
    }
    assert documented() == tested


# --- each document has what its row is about ------------------------------------------------------

# What must be in it, as key/key:type, from the specification's example of that name.
HTTP = "with/endpoint:str"
ACCESS = "endpoint/authentication:dict"
CONSTRUCTS = {
    "do-single": "do/0:dict",
    "do-multiple": "do/1:dict",
    "do-single-multiple": "do/1:dict",
    "set": "shape/set:dict",
    "set-expression": "shape/set:str",
    "conditional-task": "note/if:str",
    "switch-then-string": "sort/switch:list paper/when:str paper/then:str",
    "for": "for/each:str for/in:str for/at:str all/do:list",
    "for-inline-array": "for/each:str for/in:list in/0:dict in/1:dict",
    "while": "all/for:dict all/while:str",
    "fork": "fork/branches:list fork/compete:bool",
    "wait-duration-inline": "rest/wait:dict wait/hours:int wait/days:int",
    "wait-duration-iso8601": "rest/wait:str",
    "schedule-cron": "schedule/cron:str",
    "cron-schedule": "schedule/cron:str",
    "schedule-event-driven": "schedule/on:dict on/one:dict",
    "event-driven-schedule": "schedule/on:dict on/one:dict",
    "emit": "emit/event:dict with/source:str with/type:str with/data:dict",
    "listen-to-one": "to/one:dict",
    "listen-to-any": "to/any:list any/1:dict",
    "listen-to-any-filter": "to/any:list with/data:str",
    "listen-to-all": "to/all:list all/1:dict",
    "listen-to-all read-envelope": "to/all:list listen/read:str",
    "listen-to-any-until-condition": "to/any:list to/until:str",
    "listen-to-any-until-consumed": "to/any:list to/until:dict until/one:dict",
    "listen-to-any-forever-foreach": "to/any:list to/until:bool hear/foreach:dict foreach/do:list",
    "accumulate-room-readings": "to/all:list correlate/room:dict",
    "raise-inline": "raise/error:dict error/type:str error/status:int error/title:str",
    "raise-inline copy": "raise/error:dict error/type:str error/status:int error/title:str",
    "raise": "raise/error:dict error/type:str error/status:int",
    "raise-reusable": "use/errors:dict raise/error:str",
    "try-catch": "catch/errors:dict catch/as:str catch/do:list",
    "try-catch-then": "catch/then:str",
    "try-catch-then-directive": "catch/then:str",
    "try-catch-retry-inline": "retry/delay:dict retry/backoff:dict retry/limit:dict",
    "try-catch-retry-reusable": "use/retries:dict catch/retry:str",
    "run-subflow": "workflow/namespace:str workflow/version:str workflow/input:dict",
    "call-http-shorthand-endpoint": HTTP,
    "call-http-endpoint-interpolation-shorthand": HTTP,
    "call-http-endpoint-interpolation": HTTP,
    "call-http-query-parameters": f"{HTTP} with/query:dict",
    "http-query-params": f"{HTTP} with/query:dict",
    "call-http-query-headers-expressions": f"{HTTP} with/query:str with/headers:str",
    "call-http-redirect": f"{HTTP} with/redirect:bool",
    "star-wars-homeworld": "input/schema:dict schema/document:dict",
    "call-openapi": "with/document:dict with/operationId:str with/parameters:dict",
    "call-openapi-redirect": "with/document:dict with/operationId:str with/redirect:bool",
    "authentication-bearer": ACCESS,
    "authentication-bearer-uri-format": ACCESS,
    "bearer-auth-uri-format": ACCESS,
    "bearer-auth": ACCESS,
    "authentication-reusable": "use/authentications:dict authentication/use:str",
    "use-authentication": "use/authentications:dict endpoint/authentication:str",
    "authentication-oauth2": "endpoints/token:str endpoints/introspection:str oauth2/issuers:list",
    "oauth2": "endpoints/token:str endpoints/introspection:str oauth2/issuers:list",
    "authentication-oidc": "oidc/authority:str oidc/client:dict",
    "authentication-oauth2-secret": "use/secrets:list oauth2/use:str",
    "authentication-oidc-secret": "use/secrets:list oidc/use:str",
    "run-shell-stdin-and-arguments": "run/shell:dict shell/stdin:str shell/arguments:list",
    "run-shell-external-script": "shell/command:str shell/arguments:list shell/environment:dict",
    "run-script-with-arguments": "run/script:dict script/arguments:list script/code:str",
    "run-script-with-stdin-and-arguments": "script/arguments:list script/stdin:str",
}


def constructs(value, key=""):
    """Every key/key:type of a document; an index counts as a key."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for inner, child in pairs:
        yield f"{key}/{inner}:{type(child).__name__}"
        if isinstance(child, dict | list):
            yield from constructs(child, inner)


def test_every_row_that_is_executed_says_what_it_is_about():
    assert set(CONSTRUCTS) == {name for example in EXECUTED for name in example.names}


@pytest.mark.parametrize("example", EXECUTED, ids=first_name)
def test_its_document_has_the_specifications_own_construct(example):
    found = set(constructs(parse(DOCUMENT + example.body).document))
    for name in example.names:
        assert set(CONSTRUCTS[name].split()) <= found, name
