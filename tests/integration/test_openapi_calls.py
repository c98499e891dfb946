"""`call: openapi` as its activity runs it, against a service on a loopback port."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl

import pytest
import yaml

from tests.support.http_worker import outcomes
from tests.support.machine import Driver, define
from tests.support.web import PASSWORD, USER, Web
from wf import Context
from wf.builtin import http_calls
from wf.errors import ActivityError, NonRetryable, NotRetriedByPolicy

JsonObject = dict[str, Any]
ERRORS = "https://open-workflow-specification.org/spec/1.0.0/errors/"

PETS: JsonObject = {
    "openapi": "3.0.3",
    "info": {"title": "Pets", "version": "1"},
    "servers": [{"url": "/v{major}", "variables": {"major": {"default": "2"}}}],
    "components": {
        "parameters": {"id": {"name": "id", "in": "path", "required": True, "schema": {}}},
        "requestBodies": {
            "pet": {"required": True, "content": {"application/json": {"schema": {}}}}
        },
        "securitySchemes": {"key": {"type": "apiKey", "in": "header", "name": "X-Key"}},
    },
    "paths": {
        "/pets": {
            "get": {
                "operationId": "findPets",
                "security": [{"key": []}],
                "parameters": [
                    {"name": "status", "in": "query", "schema": {"type": "array"}},
                    {"name": "session", "in": "cookie", "schema": {}},
                ],
                "responses": {"200": {"content": {"text/xml": {}, "application/json": {}}}},
            },
            "post": {
                "operationId": "addPet",
                "requestBody": {"$ref": "#/components/requestBodies/pet"},
            },
        },
        "/pets/{id}": {
            "parameters": [{"$ref": "#/components/parameters/id"}],
            "get": {"operationId": "getPet"},
            "put": {
                "operationId": "renamePet",
                "requestBody": {"content": {"application/x-www-form-urlencoded": {}}},
            },
        },
        "/status/{code}": {
            "servers": [{"url": "/"}],
            "get": {
                "operationId": "askStatus",
                "parameters": [{"name": "code", "in": "path", "schema": {}}],
            },
        },
        **{
            f"/{way}": {"servers": [{"url": "/"}], "get": {"operationId": way}}
            for way in ("basic", "bearer", "digest", "moved")
        },
    },
}


def task_input(call: JsonObject, given: Any = None, server: str = "", **use: Any) -> JsonObject:
    """What the engine sends for this `with`."""
    task: JsonObject = {"call": "openapi", "with": call}
    if server:
        task["metadata"] = {"wf": {"server": server}}
    driver = Driver(define({"t": task}, use=use))
    driver.start(given)
    (run,) = driver.state["runs"].values()
    assert run["activity"] == "wf-openapi"
    found: JsonObject = json.loads(json.dumps(run["input"]))
    return found


def perform(*inputs: JsonObject) -> list[Any]:
    return asyncio.run(outcomes(http_calls.openapi, *inputs))


def go(call: JsonObject, given: Any = None, **use: Any) -> Any:
    (outcome,) = perform(task_input(call, given, **use))
    return outcome


def failing(call: JsonObject, given: Any = None, **use: Any) -> ActivityError:
    outcome = go(call, given, **use)
    assert isinstance(outcome, ActivityError), outcome
    return outcome


@pytest.fixture
def pets(web: Web) -> str:
    """The address of the document."""
    web.documents["/docs/pets.json"] = json.dumps(PETS)
    return web.url + "/docs/pets.json"


def asks(document: str, operation: str, **more: Any) -> JsonObject:
    return {"document": {"endpoint": document}, "operationId": operation, **more}


pytestmark = pytest.mark.usefixtures("settle")


# --- requests ---------------------------------------------------------------------------------


def test_an_operation_is_found_and_its_parameters_are_put_in_their_places(
    web: Web, pets: str
) -> None:
    parameters = {"status": ["sold", "${ .s }"], "session": "a b", "X-Key": "k3y"}
    output = go(asks(pets, "findPets", parameters=parameters), {"s": "new & old"})
    assert web.paths() == ["GET /docs/pets.json", "GET /v2/pets"]
    assert output["query"] == "status=sold&status=new%20%26%20old"
    assert output["headers"]["cookie"] == "session=a%20b"
    assert output["headers"]["x-key"] == "k3y"
    assert output["headers"]["accept"] == "application/json, */*;q=0.5"


def test_a_body_is_sent_as_the_document_says(web: Web, pets: str) -> None:
    go(asks(pets, "addPet", parameters={"body": {"name": "${ .n }"}}), {"n": "Tom"})
    assert web.last().json() == {"name": "Tom"}
    assert web.last().headers["content-type"] == "application/json"
    assert web.last().headers["idempotency-key"] == "order-1:7"
    go(asks(pets, "renamePet", parameters={"id": "a/b", "body": {"name": "T m", "x": [1, 2]}}))
    assert (web.last().path, web.last().body) == ("/v2/pets/a%2Fb", b"name=T%20m&x=1&x=2")


def test_yaml_is_read_as_json_is_and_the_endpoint_is_a_template(web: Web) -> None:
    web.documents["/pets.yaml"] = yaml.safe_dump(PETS)
    web.told["/pets.yaml"] = {"content-type": "application/yaml"}
    output = go(asks(web.url + "/{kind}.yaml", "getPet", parameters={"id": 7}), {"kind": "pets"})
    assert output["path"] == "/v2/pets/7"


def test_swagger_2_is_known(web: Web) -> None:
    document = {
        "swagger": "2.0",
        "basePath": "/v2",
        "consumes": ["application/json"],
        "paths": {
            "/pet": {
                "post": {
                    "operationId": "addPet",
                    "parameters": [
                        {"name": "pet", "in": "body", "required": True},
                        {"name": "tags", "in": "query", "collectionFormat": "pipes"},
                    ],
                }
            }
        },
    }
    web.documents["/swagger.json"] = json.dumps(document)
    parameters = {"pet": {"name": "Tom"}, "tags": ["a", "b|c"]}
    output = go(asks(web.url + "/swagger.json", "addPet", parameters=parameters))
    assert output["path"] == "/v2/pet"
    assert output["query"] == "tags=a%7Cb%7Cc"
    assert json.loads(output["body"]) == {"name": "Tom"}


def test_what_is_missing_and_what_is_unknown_is_named_before_anything_is_sent(
    web: Web, pets: str
) -> None:
    error = failing(asks(pets, "getPet", parameters={"idd": 1}))
    assert (error.type, error.status) == (ERRORS + "validation", 400)
    assert isinstance(error, NonRetryable)
    assert "`idd` is no parameter of it: did you mean `id`?" in error.detail
    assert "`id` (path) is missing" in error.detail
    assert "`body`" in failing(asks(pets, "addPet")).detail
    assert web.paths() == ["GET /docs/pets.json"] * 2


def test_a_header_that_would_be_two_is_not_sent(web: Web, pets: str) -> None:
    error = failing(asks(pets, "findPets", parameters={"X-Key": "a\r\nX-Other: b"}))
    assert error.type == ERRORS + "configuration"
    assert web.paths() == ["GET /docs/pets.json"]


def test_an_operation_that_is_not_there_is_named_with_one_like_it(web: Web, pets: str) -> None:
    error = failing(asks(pets, "findPet"))
    assert (error.type, error.status) == (ERRORS + "configuration", 400)
    assert "did you mean `findPets`" in error.detail


# --- answers ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("status", "kind"), [(404, NotRetriedByPolicy), (503, ActivityError)])
def test_errors_carry_the_real_status(web: Web, pets: str, status: int, kind: type) -> None:
    error = failing(asks(pets, "askStatus", parameters={"code": status}))
    assert (type(error), error.status, error.type) == (kind, status, ERRORS + "communication")


def test_output_and_redirect_are_those_of_http(web: Web, pets: str) -> None:
    ask = asks(pets, "askStatus", parameters={"code": 200})
    assert json.loads(base64.b64decode(go({**ask, "output": "raw"}))) == {"why": "as asked"}
    assert go({**ask, "output": "response"})["statusCode"] == 200
    assert failing(asks(pets, "moved")).status == 302
    assert go(asks(pets, "moved", redirect=True, output="response"))["statusCode"] == 302
    assert "GET /echo" not in web.paths()


# --- credentials ------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["basic", "digest"])
def test_the_operation_is_authenticated_and_the_document_is_not(
    web: Web, pets: str, scheme: str
) -> None:
    access = {scheme: {"username": USER, "password": PASSWORD}}
    assert go(asks(pets, scheme, authentication=access)) == {"welcome": True}
    assert "authorization" not in web.seen[0].headers
    assert failing(asks(pets, scheme)).status == 401


def test_the_operation_and_the_document_take_tokens_that_are_renewed(web: Web, pets: str) -> None:
    client = {"id": "client", "secret": "s3cret-of-client"}
    fields = {"authority": web.url, "grant": "client_credentials", "client": client}
    ask = task_input(asks(pets, "bearer", authentication={"use": "a"}), authentications={
        "a": {"oauth2": fields}})  # fmt: skip

    async def both() -> list[Any]:
        first = await http_calls.openapi(**ask, context=Context())
        web.revoked.update(web.tokens)
        return [first, *await outcomes(http_calls.openapi, ask)]

    assert asyncio.run(both()) == [{"welcome": True}] * 2
    assert len(web.tokens) == 2


def test_the_document_gets_its_own_credentials_and_the_operation_does_not(
    web: Web, pets: str, secret: Callable[[str, str], None]
) -> None:
    pair = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    web.guarded["/docs/pets.json"] = f"Basic {pair}"
    secret("login", json.dumps({"username": USER, "password": PASSWORD}))
    endpoint = {"uri": pets, "authentication": {"basic": {"use": "login"}}}
    ask = {"document": {"endpoint": endpoint}, "operationId": "findPets"}
    output = go(ask, secrets=["login"])
    assert "authorization" not in output["headers"]
    error = failing(asks(pets, "findPets"))
    assert error.status == 401
    assert "`document.endpoint.authentication`" in error.detail


def test_who_may_not_read_a_document_does_not_get_it_from_memory(web: Web, pets: str) -> None:
    web.guarded["/docs/pets.json"] = "Bearer t0ken"
    endpoint = {"uri": pets, "authentication": {"bearer": {"token": "t0ken"}}}
    allowed = task_input({"document": {"endpoint": endpoint}, "operationId": "findPets"})
    first, second = perform(allowed, task_input(asks(pets, "findPets")))
    assert first["path"] == "/v2/pets"
    assert second.status == 401


def test_secrets_reach_the_service_and_are_shown_nowhere(
    web: Web, secret: Callable[[str, str], None]
) -> None:
    key = 't0p "s3/cret;?'
    secret("key", key)
    reserved = {"name": "a", "in": "query", "allowReserved": True}
    written = {"name": "b", "in": "query", "content": {"application/json": {}}}
    parameters = [{"name": "X-Key", "in": "header"}, reserved, written]
    one = {"operationId": "ask", "parameters": parameters}
    document = {"openapi": "3.1.0", "paths": {"/echo": {"get": one}}}
    web.documents["/pets.json"] = json.dumps(document)
    given = dict.fromkeys(("X-Key", "a", "b"), "${ $secrets.key }")
    ask = asks(web.url + "/pets.json", "ask", parameters=given, output="response")
    task = task_input(ask, secrets=["key"])
    assert "t0p" not in json.dumps(task)
    (output,) = perform(task)
    assert web.last().headers["x-key"] == key
    sent = dict(parse_qsl(web.last().query))
    assert (sent["a"], json.loads(sent["b"])) == (key, key)
    assert output["statusCode"] == 200
    assert "t0p" not in json.dumps(output)


def test_no_document_sends_credentials_or_data_to_another_origin(web: Web) -> None:
    document = {**PETS, "servers": [{"url": "http://127.0.0.1:1/v2"}]}
    web.documents["/pets.json"] = json.dumps(document)
    ask = asks(web.url + "/pets.json", "findPets")
    error = failing(ask)
    assert error.type == ERRORS + "configuration"
    assert "http://127.0.0.1:1/v2, which is another origin" in error.detail
    assert "metadata: {wf: {server:" in error.detail
    assert web.paths() == ["GET /pets.json"]
    (output,) = perform(task_input(ask, server=web.url + "/elsewhere/"))
    assert output["path"] == "/elsewhere/pets"


# --- documents --------------------------------------------------------------------------------


def fetched(web: Web) -> int:
    return web.paths().count("GET /docs/pets.json")


def test_a_document_is_fetched_once_for_calls_side_by_side(web: Web, pets: str) -> None:
    ask = task_input(asks(pets, "findPets"))

    async def many() -> None:
        calls = (http_calls.openapi(**ask, context=Context()) for _ in range(5))
        try:
            await asyncio.gather(*calls)
        finally:
            await http_calls.caller().close()

    asyncio.run(many())
    assert fetched(web) == 1


@pytest.mark.parametrize("control", ["no-store", "no-cache", "max-age=0", "public, max-age=0"])
def test_a_document_whose_server_says_so_is_asked_for_each_time(
    web: Web, pets: str, control: str
) -> None:
    web.told["/docs/pets.json"] = {"cache-control": control}
    ask = task_input(asks(pets, "findPets"))
    perform(ask, ask)
    assert fetched(web) == 2


def test_a_document_that_is_old_is_asked_for_again_and_not_sent_again_if_it_is_the_same(
    web: Web, pets: str, settle: Callable[..., None]
) -> None:
    settle(document_age=0)
    web.told["/docs/pets.json"] = {"etag": '"one"'}
    ask = task_input(asks(pets, "findPets"))
    first, second = perform(ask, ask)
    assert first["path"] == second["path"] == "/v2/pets"
    asked = [one.headers.get("if-none-match") for one in web.seen if one.path != "/v2/pets"]
    assert asked == [None, '"one"']


def test_an_operation_that_came_later_is_looked_for_in_the_newest_document(
    web: Web, pets: str
) -> None:
    web.documents["/docs/pets.json"] = json.dumps({**PETS, "paths": {}})
    before, after = task_input(asks(pets, "askStatus")), task_input(asks(pets, "findPets"))

    async def run() -> Any:
        with pytest.raises(NonRetryable):
            await http_calls.openapi(**before, context=Context())
        web.documents["/docs/pets.json"] = json.dumps(PETS)
        return await outcomes(http_calls.openapi, after)

    (output,) = asyncio.run(run())
    assert output["path"] == "/v2/pets"


def test_a_document_over_the_limit_is_an_error_that_names_the_setting(
    web: Web, pets: str, settle: Callable[..., None]
) -> None:
    settle(max_document=1024)
    error = failing(asks(pets, "findPets"))
    assert error.status == 413
    assert "[builtin.http] max_document" in error.detail


def test_merge_keys_of_a_document_merge(web: Web, pets: str) -> None:
    web.documents["/docs/pets.json"] = (
        "openapi: 3.1.0\nx: &a {get: {operationId: findPets}}\npaths: {/echo: {<<: *a}}\n"
    )
    assert go(asks(pets, "findPets"))["path"] == "/echo"


@pytest.mark.parametrize(
    ("text", "status", "words"),
    [
        ("{", 502, "is no JSON"),
        ("<html>down: for: repair</html>", 502, "neither JSON nor YAML"),
        ("", 502, "is empty"),
        ("hello", 400, "no OpenAPI document"),
        ('{"openapi": "4.0.0", "paths": {}}', 400, "OpenAPI 4.0.0 is not known"),
        ("swagger: '1.2'", 400, "OpenAPI 1.2 is not known"),
        ("openapi: 3.1.0\nx: &a 1\ny: {<<: *a}", 502, "`<<` merges a mapping"),
    ],
)
def test_what_is_no_document_is_refused_with_the_reason(
    web: Web, pets: str, text: str, status: int, words: str
) -> None:
    web.documents["/docs/pets.json"] = text
    error = failing(asks(pets, "findPets"))
    assert (error.status, words in error.detail) == (status, True), error.detail
    assert pets in error.detail


@pytest.mark.parametrize(("path", "status"), [("/status/404", 404), ("/moved", 302)])
def test_a_document_that_does_not_come_is_an_error_of_its_status(
    web: Web, path: str, status: int
) -> None:
    error = failing(asks(web.url + path, "findPets"))
    assert (error.status, error.type) == (status, ERRORS + "communication")
    assert "gave no document" in error.detail


def test_a_file_is_no_document(web: Web) -> None:
    error = failing(asks("${ .place }", "x"), {"place": "file:///etc/hostname"})
    assert "must begin with http" in error.detail
