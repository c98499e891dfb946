"""`call: http` and `openapi` in the real pool: secrets stored nowhere, workers that die."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.pool import ROOT, RealPool
from tests.support.web import Web, serving

SECRET = "Zu9-hidden-from-all"
MARK = "mark-that-is-no-secret"

WORKFLOW = """
document: {dsl: '1.0.3', namespace: default, name: visit, version: '1.0.0'}
use:
  secrets: [key, login]
  authentications:
    service: {basic: {use: login}}
  functions:
    visit:
      call: http
      with:
        method: post
        endpoint: {uri: "${ .uri }", authentication: {use: service}}
        headers: {X-Key: "${ $secrets.key }"}
        body: {mark: "${ .mark }"}
        output: response
do:
  - go: {call: visit, with: "${ . }"}
"""

PETS = """
document: {dsl: '1.0.3', namespace: default, name: pets, version: '1.0.0'}
use:
  secrets: [key, login]
  functions:
    add:
      call: openapi
      with:
        document:
          endpoint: {uri: "${ .document }", authentication: {basic: {use: login}}}
        operationId: addPet
        parameters: {X-Key: "${ $secrets.key }", pace: "${ .pace }", body: {mark: "${ .mark }"}}
do:
  - go: {call: add, with: "${ . }"}
"""
DOCUMENT = {
    "openapi": "3.1.0",
    "paths": {
        "/{pace}": {
            "post": {
                "operationId": "addPet",
                "parameters": [
                    {"name": "pace", "in": "path", "required": True},
                    {"name": "X-Key", "in": "header"},
                ],
                "requestBody": {"content": {"application/json": {}}},
            }
        }
    },
}


@pytest.fixture
def web() -> Iterator[Web]:
    with serving() as service:
        yield service


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[RealPool]:
    root = tmp_path / "pool"
    for name in ("activities", "workflows"):
        (root / name).mkdir(parents=True)
    (root / "workflows" / "visit.yaml").write_text(WORKFLOW)
    (root / "workflows" / "pets.yaml").write_text(PETS)
    (root / "pool.toml").write_text(
        f'[secrets]\ndir = "{tmp_path}/secrets"\n[supervisor]\nlog_level = "DEBUG"\n'
        '[workers.wf-http]\nack_wait = "2s"\n'
    )
    (tmp_path / "secrets").mkdir()
    login = json.dumps({"username": "ada", "password": SECRET + "-2"})
    for name, text in (("key", SECRET), ("login", login)):
        path = tmp_path / "secrets" / name
        path.write_text(text)
        path.chmod(0o600)
    pool = RealPool(root / "pool.toml")
    pool.start()
    yield pool
    pool.clean_up()


def wf(pool: RealPool, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "wf.cli.main", *arguments],
        env=pool.environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )


def visit(pool: RealPool, uri: str, *options: str) -> subprocess.CompletedProcess[str]:
    given: dict[str, Any] = {"uri": uri, "mark": MARK}
    return wf(pool, "start", "visit", "--input", json.dumps(given), *options)


def written(root: Path) -> bytes:
    """Everything that the pool has on disk: streams, buckets, logs, the journal."""
    return b"\n".join(path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file())


def test_a_secret_reaches_the_service_and_is_written_nowhere(pool: RealPool, web: Web) -> None:
    done = visit(pool, web.url + "/echo", "--wait")
    assert done.returncode == 0, done.stderr
    assert web.last().headers["x-key"] == SECRET
    refused = visit(pool, web.url + "/status/401", "--wait")
    assert refused.returncode != 0
    lost = visit(pool, "http://127.0.0.1:1/", "--wait")
    assert lost.returncode != 0
    pool.stop()
    everything = written(pool.root) + (done.stdout + refused.stderr + lost.stderr).encode()
    assert MARK.encode() in everything, "the search finds what is there"
    for part in (SECRET, "hidden-from-all", web.last().headers["authorization"][6:]):
        assert part.encode() not in everything, part


def test_a_request_whose_worker_is_killed_is_sent_again_with_the_same_key(
    pool: RealPool, web: Web
) -> None:
    started = visit(pool, web.url + "/slow", "--id", "order-1")
    assert started.returncode == 0, started.stderr
    pool.until(lambda: len(web.seen) == 1, "the request is on its way")
    (worker,) = pool.processes("worker", "wf-http")
    os.kill(worker["pid"], signal.SIGKILL)
    pool.until(lambda: len(web.seen) == 2, "it is sent again")
    web.release.set()
    keys = {one.headers["idempotency-key"] for one in web.seen}
    assert keys == {"order-1:1"}

    def ended() -> bool:
        shown = json.loads(wf(pool, "show", "order-1", "--json").stdout)
        return bool(shown["status"] == "completed")

    pool.until(ended, "the instance completes")


def test_an_operation_of_a_document_is_called_again_when_its_worker_is_killed(
    pool: RealPool, web: Web
) -> None:
    web.documents["/pets.json"] = json.dumps(DOCUMENT)
    pair = base64.b64encode(f"ada:{SECRET}-2".encode()).decode()
    web.guarded["/pets.json"] = f"Basic {pair}"
    given = {"document": web.url + "/pets.json", "pace": "slow", "mark": MARK}
    wf(pool, "start", "pets", "--id", "pet-1", "--input", json.dumps(given))
    pool.until(lambda: "POST /slow" in web.paths(), "the request is on its way")
    (worker,) = pool.processes("worker", "wf-http")
    os.kill(worker["pid"], signal.SIGKILL)
    pool.until(lambda: web.paths().count("POST /slow") == 2, "it is sent again")
    web.release.set()
    ask = wf(pool, "start", "pets", "--input", json.dumps({**given, "pace": "echo"}), "--wait")
    assert ask.returncode == 0, ask.stderr
    posts = [one for one in web.seen if one.method == "POST"]
    assert [one.headers["x-key"] for one in posts] == [SECRET] * 3
    assert {one.headers["idempotency-key"] for one in posts[:2]} == {"pet-1:1"}
    assert not any("authorization" in one.headers for one in posts)
    wrong = wf(pool, "start", "pets", "--input", json.dumps({**given, "pace": None}), "--wait")
    assert "`pace` (path) is missing" in wrong.stderr
    pool.stop()
    everything = written(pool.root) + (ask.stdout + wrong.stderr).encode()
    assert MARK.encode() in everything, "the search finds what is there"
    for part in (SECRET, "hidden-from-all", pair):
        assert part.encode() not in everything, part


def test_the_example_that_polls_asks_until_the_parcel_has_arrived(pool: RealPool, web: Web) -> None:
    deployed = wf(pool, "deploy", str(ROOT / "config" / "workflows" / "parcel.yaml"))
    assert deployed.returncode == 0, deployed.stderr
    web.documents["/parcel"] = json.dumps({"state": "on its way"})
    given = {"url": f"{web.url}/parcel", "every": "PT0.1S"}
    wf(pool, "start", "parcel", "--id", "p-1", "--input", json.dumps(given))
    pool.until(lambda: web.paths().count("GET /parcel") >= 3, "it is asked again and again")
    web.documents["/parcel"] = json.dumps({"state": "delivered", "at": "the door"})
    done = wf(pool, "start", "parcel", "--id", "p-1", "--input", json.dumps(given), "--wait")
    assert json.loads(done.stdout) == {"at": "the door"}, done.stderr


def test_the_example_that_polls_retries_a_service_that_is_down_and_gives_up_in_the_end(
    pool: RealPool, web: Web
) -> None:
    wf(pool, "deploy", str(ROOT / "config" / "workflows" / "parcel.yaml"))
    web.statuses = [503, 200]
    given = {"url": f"{web.url}/flaky", "every": "PT0.5S", "within": "PT4S"}
    done = wf(pool, "start", "parcel", "--input", json.dumps(given), "--wait")
    assert done.returncode == 1
    assert "Timed out" in done.stderr
    assert len(web.seen) >= 3
