"""`call: http` as its activity runs it, against a service on a loopback port."""

from __future__ import annotations

import asyncio
import base64
import json
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.http_worker import outcomes
from tests.support.machine import Driver, define
from tests.support.web import PASSWORD, USER, Web
from wf import Context
from wf.builtin import http_calls
from wf.errors import ActivityError, NonRetryable, NotRetriedByPolicy

COMMUNICATION = "https://open-workflow-specification.org/spec/1.0.0/errors/communication"

JsonObject = dict[str, Any]
Go = Callable[..., Any]


def task_input(
    call: JsonObject, given: Any = None, wf: JsonObject | None = None, **use: Any
) -> JsonObject:
    """What the engine sends for this `with`, and `metadata.wf`."""
    more = {} if wf is None else {"metadata": {"wf": wf}}
    driver = Driver(define({"t": {"call": "http", "with": call, **more}}, use=use))
    driver.start(given)
    found: JsonObject = driver.state["runs"]["1"]["input"]
    return json.loads(json.dumps(found))


async def perform(*inputs: JsonObject) -> list[Any]:
    return await outcomes(http_calls.http, *inputs)


def go(call: JsonObject, given: Any = None, **use: Any) -> Any:
    (outcome,) = asyncio.run(perform(task_input(call, given, **use)))
    return outcome


def failing(call: JsonObject, given: Any = None, **use: Any) -> ActivityError:
    outcome = go(call, given, **use)
    assert isinstance(outcome, ActivityError), outcome
    return outcome


pytestmark = pytest.mark.usefixtures("settle")


# --- requests ---------------------------------------------------------------------------------


def test_the_endpoint_is_a_template_over_the_input(web: Web) -> None:
    output = go(
        {"method": "get", "endpoint": web.url + "/pets/{petId}{?tag*,empty}"},
        {"petId": "a/b ü", "tag": ["x", "y"], "empty": None},
    )
    assert output["path"] == "/pets/a%2Fb%20%C3%BC"
    assert output["query"] == "tag=x&tag=y"


def test_data_is_never_a_template(web: Web) -> None:
    output = go({"method": "get", "endpoint": "${ .uri }"}, {"uri": web.url + "/a/%7Bb%7D", "b": 1})
    assert output["path"] == "/a/%7Bb%7D"


def test_a_list_where_the_template_needs_a_scalar_is_an_expression_error(web: Web) -> None:
    error = failing({"method": "get", "endpoint": web.url + "/{id}"}, {"id": [1]})
    assert error.type is not None
    assert error.type.endswith("/expression")
    assert "{id}" in error.detail


def test_query_and_headers_take_scalars_and_lists(web: Web) -> None:
    output = go(
        {
            "method": "get",
            "endpoint": web.url + "/echo?a=1#part",
            "query": {"b": [1, True], "c": "x y&z", "d": None, "e": "${ .n }"},
            "headers": {"X-Number": 5, "X-Text": "${ .t }", "X-None": None},
        },
        {"n": 2.5, "t": "täxt"},
    )
    assert output["query"] == "a=1&b=1&b=true&c=x%20y%26z&e=2.5"
    assert output["headers"]["x-number"] == "5"
    assert output["headers"]["x-text"].encode("latin-1").decode() == "täxt"
    assert "x-none" not in output["headers"]


@pytest.mark.parametrize(
    ("body", "headers", "sent", "kind"),
    [
        ({"a": "${ .v }"}, {}, b'{"a":1}', "application/json"),
        ([1], {}, b"[1]", "application/json"),
        ("text", {}, b"text", "text/plain; charset=utf-8"),
        ('{"raw":1}', {"Content-Type": "application/json"}, b'{"raw":1}', "application/json"),
        (
            {"a": "x y", "b": [1, 2]},
            {"content-type": "application/x-www-form-urlencoded"},
            b"a=x+y&b=1&b=2",
            "application/x-www-form-urlencoded",
        ),
    ],
)
def test_bodies(web: Web, body: Any, headers: JsonObject, sent: bytes, kind: str) -> None:
    go({"method": "put", "endpoint": web.url, "body": body, "headers": headers}, {"v": 1})
    assert web.last().body == sent
    assert web.last().headers["content-type"] == kind


def test_a_method_that_may_do_a_thing_twice_carries_the_idempotency_key(
    web: Web, settle: Callable[..., None]
) -> None:
    go({"method": "post", "endpoint": web.url})
    assert web.last().headers["idempotency-key"] == "order-1:7"
    go({"method": "get", "endpoint": web.url})
    assert "idempotency-key" not in web.last().headers
    go({"method": "post", "endpoint": web.url, "headers": {"idempotency-key": "mine"}})
    assert web.last().headers["idempotency-key"] == "mine"
    settle(idempotency_header="")
    go({"method": "post", "endpoint": web.url})
    assert "idempotency-key" not in web.last().headers


def test_proxies_of_the_environment_are_ignored(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert go({"method": "get", "endpoint": web.url})["method"] == "GET"


def test_a_proxy_of_the_settings_is_used(web: Web, settle: Callable[..., None]) -> None:
    settle(proxy=web.url)
    output = go({"method": "get", "endpoint": "http://nowhere.invalid/echo"})
    assert output["headers"]["host"] == "nowhere.invalid"


def test_no_cookie_of_one_call_reaches_another(web: Web) -> None:
    call = task_input({"method": "get", "endpoint": web.url + "/cookie"})
    assert asyncio.run(perform(call, call)) == [{"cookie": None}] * 2


# --- answers ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "output"),
    [
        ("/text", "grüß"),
        ("/binary", base64.b64encode(b"\x00\x01\xff").decode()),
        ("/nothing", None),
        ("/status/200", {"why": "as asked"}),
    ],
)
def test_content_is_data_text_or_base64_by_its_type(web: Web, path: str, output: Any) -> None:
    assert go({"method": "get", "endpoint": web.url + path}) == output


def test_raw_is_base64_whatever_the_type(web: Web) -> None:
    output = go({"method": "get", "endpoint": web.url + "/status/200", "output": "raw"})
    assert json.loads(base64.b64decode(output)) == {"why": "as asked"}


def test_response_shows_request_status_headers_and_content(web: Web) -> None:
    call = {"method": "get", "endpoint": web.url + "/status/201", "output": "response"}
    output = go(call)
    assert output["statusCode"] == 201
    assert output["content"] == {"why": "as asked"}
    assert output["headers"]["content-type"] == "application/json"
    assert output["request"]["method"] == "GET"
    assert output["request"]["uri"] == web.url + "/status/201"


def test_a_redirection_is_an_error_unless_it_is_asked_for(web: Web) -> None:
    call = {"method": "get", "endpoint": web.url + "/moved", "output": "response"}
    error = failing(call)
    assert error.status == 302
    assert "to /echo" in error.detail
    output = go({**call, "redirect": True})
    assert (output["statusCode"], output["headers"]["location"]) == (302, "/echo")
    assert web.paths() == ["GET /moved"] * 2


@pytest.mark.parametrize("status", [400, 404, 409, 422, 501])
def test_an_error_carries_the_real_status_and_is_left_alone_by_the_policy(
    web: Web, status: int
) -> None:
    error = failing({"method": "get", "endpoint": f"{web.url}/status/{status}"})
    assert (error.type, error.status) == (COMMUNICATION, status)
    assert isinstance(error, NotRetriedByPolicy)
    assert "as asked" in error.detail


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_what_may_pass_is_retried_by_the_policy(web: Web, status: int) -> None:
    error = failing({"method": "get", "endpoint": f"{web.url}/status/{status}"})
    assert error.status == status
    assert type(error) is ActivityError


@pytest.mark.parametrize("path", ["/hangs-up"])
def test_no_answer_is_a_communication_error_that_may_pass(web: Web, path: str) -> None:
    for place in (web.url + path, "http://127.0.0.1:1/"):
        error = failing({"method": "get", "endpoint": place})
        assert (error.type, error.status) == (COMMUNICATION, 503)
        assert type(error) is ActivityError


def test_json_that_is_none_is_an_error(web: Web) -> None:
    assert failing({"method": "get", "endpoint": web.url + "/broken"}).status == 502


def test_an_answer_over_the_limit_is_an_error_and_is_not_read_to_its_end(
    web: Web, settle: Callable[..., None]
) -> None:
    settle(max_response=100_000)
    error = failing({"method": "get", "endpoint": web.url + "/large"})
    assert isinstance(error, NonRetryable)
    assert error.status == 413
    assert "max_response" in error.detail


@pytest.mark.parametrize("given", ["ftp://x/", "/path", "http://", "http://[::1", ""])
def test_what_is_no_endpoint_is_refused_for_good(given: str) -> None:
    error = failing({"method": "get", "endpoint": "${ .uri }"}, {"uri": given})
    assert isinstance(error, NonRetryable)


# --- authentication ---------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["basic", "digest"])
def test_basic_and_digest(web: Web, scheme: str) -> None:
    def call(password: str) -> JsonObject:
        fields = {"username": USER, "password": password}
        endpoint = {"uri": f"{web.url}/{scheme}", "authentication": {scheme: fields}}
        return {"method": "post", "endpoint": endpoint, "body": {"a": 1}}

    assert go(call(PASSWORD)) == {"welcome": True}
    assert json.loads(web.last().body) == {"a": 1}
    assert failing(call("wrong")).status == 401


def oauth2(web: Web, **more: Any) -> JsonObject:
    return {
        "oauth2": {
            "authority": web.url,
            "grant": "client_credentials",
            "client": {"id": "client", "secret": "s3cret-of-client"},
            **more,
        }
    }


def bearer_call(web: Web, authentication: JsonObject) -> JsonObject:
    endpoint = {"uri": web.url + "/bearer", "authentication": authentication}
    return {"method": "get", "endpoint": endpoint}


def test_an_oauth2_token_is_got_once_and_kept(web: Web) -> None:
    call = task_input(bearer_call(web, oauth2(web, scopes=["a", "b"], audiences=["c"])))
    assert asyncio.run(perform(call, call)) == [{"welcome": True}] * 2
    assert web.paths() == ["POST /oauth2/token", "GET /bearer", "GET /bearer"]
    assert b"scope=a+b" in web.seen[0].body
    assert b"audience=c" in web.seen[0].body
    assert b"grant_type=client_credentials" in web.seen[0].body


def test_calls_side_by_side_ask_for_one_token(web: Web) -> None:
    call = task_input(bearer_call(web, oauth2(web)))

    async def both() -> list[Any]:
        context = Context()
        try:
            return await asyncio.gather(
                *(http_calls.http(**call, context=context) for _ in range(5))
            )
        finally:
            await http_calls.caller().close()

    assert asyncio.run(both()) == [{"welcome": True}] * 5
    assert len(web.tokens) == 1


def test_a_short_lived_token_is_renewed_before_it_expires(web: Web) -> None:
    web.expires_in = 0
    call = task_input(bearer_call(web, oauth2(web)))
    assert asyncio.run(perform(call, call)) == [{"welcome": True}] * 2
    assert len(web.tokens) == 2


def test_a_kept_token_that_is_refused_is_renewed_once(web: Web) -> None:
    call = task_input(bearer_call(web, oauth2(web)))

    async def run() -> list[Any]:
        context = Context()
        try:
            first = await http_calls.http(**call, context=context)
            web.revoked.update(web.tokens)
            return [first, await http_calls.http(**call, context=context)]
        finally:
            await http_calls.caller().close()

    assert asyncio.run(run()) == [{"welcome": True}] * 2
    assert len(web.tokens) == 2


def test_a_call_that_is_cancelled_while_it_gets_a_token_leaves_nothing_behind(web: Web) -> None:
    call = task_input(bearer_call(web, oauth2(web)))
    slow = oauth2(web, endpoints={"token": "/slow"})

    async def run() -> Any:
        context = Context()
        try:
            stuck = asyncio.create_task(
                http_calls.http(**task_input(bearer_call(web, slow)), context=context)
            )
            while "POST /slow" not in web.paths():
                await asyncio.sleep(0.001)
            stuck.cancel()
            await asyncio.gather(stuck, return_exceptions=True)
            assert not http_calls.caller().tokens._locks
            return await http_calls.http(**call, context=context)
        finally:
            await http_calls.caller().close()

    assert asyncio.run(run()) == {"welcome": True}


@pytest.mark.parametrize(
    "more",
    [
        {"client": {"id": "client", "secret": "s3cret-of-client",
                    "authentication": "client_secret_basic"}},
        {"request": {"encoding": "application/json"}},
        {"grant": "password", "username": "u", "password": "p"},
        {"endpoints": {"token": "/oauth2/v2"}},
    ],
)  # fmt: skip
def test_the_ways_to_ask_for_a_token(web: Web, more: JsonObject) -> None:
    assert go(bearer_call(web, oauth2(web, **more))) == {"welcome": True}


def test_oidc_finds_the_token_endpoint(web: Web) -> None:
    fields = {**oauth2(web)["oauth2"], "authority": web.url + "/realm"}
    assert go(bearer_call(web, {"oidc": fields})) == {"welcome": True}
    assert web.paths()[0] == "GET /realm/.well-known/openid-configuration"


def test_a_refused_client_is_an_authentication_error(web: Web) -> None:
    client = {"id": "client", "secret": "wrong-secret"}
    error = failing(bearer_call(web, oauth2(web, client=client)))
    assert error.status == 401
    assert (error.type or "").endswith("/authentication")
    assert "invalid_client" in error.detail
    assert "wrong-secret" not in error.detail


def test_an_authority_that_is_down_may_come_back(web: Web) -> None:
    error = failing(bearer_call(web, oauth2(web, endpoints={"token": "/status/503"})))
    assert error.status == 503
    assert type(error) is ActivityError


def test_the_issuer_of_a_token_is_checked(web: Web) -> None:
    error = failing(bearer_call(web, oauth2(web, issuers=["https://right"])))
    assert "no JWT" in error.detail


# --- secrets ----------------------------------------------------------------------------------


def test_secrets_reach_the_service_and_nothing_else(
    web: Web, secret: Callable[[str, str], None]
) -> None:
    secret("key", "t0p-s3cret\n")
    call = {
        "method": "post",
        "endpoint": web.url + "/echo",
        "headers": {"X-Key": "${ $secrets.key }", "X-Mix": '${ "\\($secrets.key)-\\(.id)" }'},
        "query": {"k": "${ $secrets.key | @base64 }"},
        "body": {"deep": ["${ $secrets.key }"]},
        "output": "response",
    }
    task = task_input(call, {"id": 5}, secrets=["key"])
    assert "t0p" not in json.dumps(task)
    (output,) = asyncio.run(perform(task))
    assert web.last().headers["x-key"] == "t0p-s3cret"
    assert web.last().headers["x-mix"] == "t0p-s3cret-5"
    assert web.last().query == "k=dDBwLXMzY3JldA%3D%3D"
    assert web.last().json() == {"deep": ["t0p-s3cret"]}
    shown = json.dumps(output)
    assert "t0p" not in shown
    assert "dDBwLXMzY3JldA" not in shown
    assert output["content"]["headers"]["x-key"] == "***"


def test_authentications_by_name_take_whole_secrets(
    web: Web, secret: Callable[[str, str], None]
) -> None:
    secret("login", json.dumps({"username": USER, "password": PASSWORD}))
    use: JsonObject = {"secrets": ["login"], "authentications": {"a": {"basic": {"use": "login"}}}}
    endpoint = {"uri": web.url + "/basic", "authentication": {"use": "a"}}
    assert go({"method": "get", "endpoint": endpoint}, **use) == {"welcome": True}


def test_authorization_is_known_where_the_request_is_made(web: Web) -> None:
    endpoint = {"uri": web.url, "authentication": {"bearer": {"token": "abcdef"}}}
    headers = {"X-Copy": '${ "\\($authorization.scheme) \\($authorization.parameter)" }'}
    go({"method": "get", "endpoint": endpoint, "headers": headers})
    assert web.last().headers["x-copy"] == "Bearer abcdef"
    assert web.last().headers["authorization"] == "Bearer abcdef"


def test_a_missing_secret_is_named_with_its_remedy(web: Web, tmp_path: Path) -> None:
    call = {"method": "get", "endpoint": web.url, "headers": {"X": "${ $secrets.no-such }"}}
    call["headers"] = {"X": '${ $secrets["no-such"] }'}
    task = task_input(call, secrets=["no-such"])
    with pytest.raises(NonRetryable) as caught:
        asyncio.run(http_calls.http(**task, context=Context()))
    assert "no-such is not there" in caught.value.detail
    assert "WF_SECRET_NO_SUCH" in caught.value.detail
    assert str(tmp_path) in caught.value.detail


def test_a_failed_expression_over_secrets_does_not_quote_them(
    web: Web, secret: Callable[[str, str], None]
) -> None:
    secret("key", "t0p-s3cret")
    error = failing(
        {"method": "get", "endpoint": web.url, "query": {"x": "${ $secrets.key | tonumber }"}},
        secrets=["key"],
    )
    assert "tonumber" in error.detail
    assert "t0p" not in repr(error)


def test_a_service_that_says_when_to_ask_again_is_heard(web: Web) -> None:
    error = failing({"method": "get", "endpoint": web.url + "/busy"})
    assert (error.status, error.retry_after_s) == (503, 7.0)


# --- redirections that are followed ---------------------------------------------------------------


def followed(call: JsonObject, most: int = 3) -> Any:
    (outcome,) = asyncio.run(perform(task_input(call, wf={"redirects": most})))
    return outcome


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_as_many_as_the_task_allows_are_followed_within_the_origin(web: Web, status: int) -> None:
    call = {"method": "get", "endpoint": f"{web.url}/hop/{status}/1", "headers": {"X-A": "b"}}
    output = followed(call)
    assert (output["path"], output["headers"]["x-a"]) == ("/echo", "b")
    error = followed(call, 1)
    assert error.status == status
    assert len(web.paths()) == 3 + 2


@pytest.mark.parametrize(
    ("status", "method"), [(303, "GET"), (307, "POST"), (308, "POST"), (301, None), (302, None)]
)
def test_a_post_is_sent_again_only_where_the_answer_says_so(
    web: Web, status: int, method: str | None
) -> None:
    call = {"method": "post", "endpoint": f"{web.url}/hop/{status}/0", "body": {"n": 1}}
    output = followed(call)
    if method is None:
        assert output.status == status
        assert web.paths() == [f"POST /hop/{status}/0"]
        return
    assert output["method"] == method
    assert output["body"] == ('{"n":1}' if method == "POST" else "")
    assert ("idempotency-key" in output["headers"]) is (method == "POST")
    assert ("content-type" in output["headers"]) is (method == "POST")


@pytest.mark.parametrize(
    "target",
    [
        "http://localhost:{port}/echo",
        "https://127.0.0.1:{port}/echo",
        "//127.0.0.1:1/echo",
        "http://127.0.0.1:{port}@127.0.0.2/echo",
        "http://a:b@127.0.0.1:{port}/echo",
        "file:///etc/passwd",
        "http://[::1]:{port}/echo",
        "http://127.0.0.1:{port}\\@evil.example/echo",
    ],
)
def test_nothing_leaves_the_origin(web: Web, target: str) -> None:
    away = target.format(port=web.url.rpartition(":")[2])
    call = {
        "method": "get",
        "endpoint": {
            "uri": f"{web.url}/away?{urllib.parse.quote(away, safe='')}",
            "authentication": {"basic": {"username": USER, "password": PASSWORD}},
        },
    }
    outcome = followed(call)
    assert isinstance(outcome, ActivityError), outcome
    assert web.paths() == ["GET /away"]


def test_credentials_go_on_within_the_origin_and_no_further(web: Web) -> None:
    call = {
        "method": "get",
        "endpoint": {
            "uri": f"{web.url}/hop/307/0",
            "authentication": {"bearer": {"token": "t0k3n"}},
        },
    }
    assert followed(call)["headers"]["authorization"]
    assert web.last().headers["authorization"] == "Bearer t0k3n"
