"""The embedded broker as the supervisor starts it, and who may do what there."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from loguru import logger

from tests.support.server import end_with_the_tests, make_settings
from tests.support.waiting import eventually, eventually_sync
from wf.errors import BrokerError
from wf.jetstream import embedded, topology
from wf.jetstream.accounts import Login
from wf.jetstream.client import JetStream, connect
from wf.jetstream.connection import Connection, from_settings
from wf.jetstream.permissions import permissions
from wf.jetstream.port import Accepted, Outgoing, Rejected
from wf.process import paths
from wf.protocol import subjects
from wf.settings import Settings


class Running:
    """An embedded broker, started as the supervisor does it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.broker = embedded.prepare(settings)
        self.process = subprocess.Popen(self.broker.argv, preexec_fn=end_with_the_tests)
        eventually_sync(self.broker.probe, what="the broker is ready")
        embedded.write_endpoint(settings, self.broker, self.process.pid)

    def kill9(self) -> None:
        self.process.kill()
        self.process.wait(10)

    async def connect(self, role: str) -> JetStream:
        return await connect(from_settings(self.settings, role), role=role, name=f"test {role}")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return make_settings(tmp_path)


@pytest.fixture
def running(settings: Settings) -> Iterator[Running]:
    running = Running(settings)
    yield running
    running.kill9()


def test_the_broker_answers_with_jetstream_on_loopback_only(running: Running) -> None:
    info = embedded.server_info(running.broker.port, 1)
    assert info is not None
    assert info["jetstream"] is True
    assert info["host"] == "127.0.0.1"
    assert info["auth_required"] is True
    assert info["max_payload"] == 8 * 1024 * 1024
    assert running.broker.log_path.is_file()


def test_probing_nothing_or_another_program_is_false(settings: Settings) -> None:
    broker = embedded.prepare(settings)
    assert broker.probe() is False
    with socket.socket() as other:
        other.bind(("127.0.0.1", broker.port))
        other.listen()
        assert broker.probe(0.05) is False


def test_files_are_for_this_user_only(running: Running) -> None:
    settings = running.settings
    files = [
        paths.broker_file(settings),
        paths.broker_config_file(settings),
        *(paths.credentials_file(settings, role) for role in paths.ROLES),
    ]
    for path in files:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    for path in (paths.state_dir(settings), paths.credentials_file(settings, "worker").parent):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700, path


def test_passwords_and_the_port_outlive_a_restart(running: Running) -> None:
    first = running.broker
    worker = paths.credentials_file(running.settings, "worker").read_bytes()
    running.kill9()
    second = embedded.prepare(running.settings)
    assert second.port == first.port
    assert paths.credentials_file(running.settings, "worker").read_bytes() == worker


async def test_what_is_stored_outlives_kill9(settings: Settings) -> None:
    running = Running(settings)
    js = await running.connect("orchestrator")
    await topology.ensure(js, settings)
    await js.publish("", [Outgoing("workflow.start.order", b"{}")])
    running.kill9()
    again = Running(settings)
    try:
        assert await js.last_sequence(topology.WORKFLOW_EVENTS) == 1  # the client came back
    finally:
        await js.close()
        again.kill9()


def test_the_configuration_syncs_always_unless_told_otherwise(tmp_path: Path) -> None:
    def text(**nats: object) -> str:
        return embedded.config_text(
            make_settings(tmp_path, **nats).nats,
            name="wf-test",
            port=4222,
            log_path=tmp_path / "log",
            logins=[Login("worker", 'with " and \\', permissions("worker"), "worker")],
        )

    assert "sync_interval: always" in text()
    assert "sync_interval" not in text(sync="interval")
    assert "max_file_store" not in text()
    assert "max_file_store: 1073741824" in text(max_store="1GiB")
    assert 'listen: "127.0.0.1:4222"' in text()
    assert r'password: "with \" and \\"' in text()


# What can go wrong.


def test_a_taken_port_is_named_with_the_remedy(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(BrokerError, match=rf"port {port} .*taken.*\[nats\] port"):
            embedded.prepare(make_settings(tmp_path, port=port))


def test_a_taken_port_names_our_own_earlier_broker(running: Running) -> None:
    settings = running.settings
    fixed = settings.model_copy(
        update={"nats": settings.nats.model_copy(update={"port": running.broker.port})}
    )
    with pytest.raises(BrokerError, match=f"process id {running.process.pid}"):
        embedded.prepare(fixed)


def test_a_store_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BrokerError, match=r"file/store.*\[nats\] store_dir"):
        embedded.prepare(make_settings(tmp_path, store_dir=tmp_path / "file" / "store"))


def test_an_unwritable_store_directory_is_named(tmp_path: Path) -> None:
    locked = Path("/proc/self/task")  # not even root may write there
    with pytest.raises(BrokerError, match=r"cannot be written.*store_dir"):
        embedded.check_store(locked)


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "SPARE_BYTES", 1 << 62)
    with pytest.raises(BrokerError, match=r"disk is full.*free some space"):
        embedded.check_store(tmp_path)


def test_a_disk_that_fills_while_trying_is_named() -> None:
    if not os.access("/dev/full", os.W_OK):
        pytest.skip("no /dev/full")
    with pytest.raises(BrokerError, match="space"):
        paths.write_private(Path("/dev/full/x"), b"x")


def test_an_old_server_is_named_with_the_remedy(tmp_path: Path) -> None:
    old = program(tmp_path, "echo 'nats-server: v2.14.3'")
    with pytest.raises(BrokerError, match=r"v2\.14\.3.*2\.15 or newer.*install"):
        embedded.check_version(old)


def test_a_program_that_is_no_server_is_named(tmp_path: Path) -> None:
    with pytest.raises(BrokerError, match="unknown version"):
        embedded.check_version(program(tmp_path, "true"))
    with pytest.raises(BrokerError, match="cannot be run"):
        embedded.check_version(tmp_path / "none")


def program(directory: Path, line: str) -> Path:
    path = directory / "nats-server"
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o755)
    return path


# Who may do what.


async def test_a_worker_may_not_start_workflows_and_the_error_is_visible(running: Running) -> None:
    orchestrator = await running.connect("orchestrator")
    await topology.ensure(orchestrator, running.settings)
    worker = await running.connect("worker")
    seen: list[str] = []
    sink = logger.add(lambda message: seen.append(message.record["message"]), level="ERROR")
    try:
        async with asyncio.timeout(2):  # told at once, not at the timeout
            (outcome,) = await worker.publish("", [Outgoing("workflow.start.x", b"{}")])
    finally:
        logger.remove(sink)
    assert isinstance(outcome, Rejected)
    assert "may not publish to workflow.start.x" in outcome.description
    assert "broker.permission_denied" in seen
    assert await orchestrator.last_sequence(topology.WORKFLOW_EVENTS) == 0
    with pytest.raises(BrokerError, match="may not publish"):
        await worker.api("STREAM.DELETE.WORKFLOW_EVENTS")
    await worker.close()
    await orchestrator.close()


async def test_a_worker_may_do_its_work(running: Running) -> None:
    orchestrator = await running.connect("orchestrator")
    await topology.ensure(orchestrator, running.settings)
    await orchestrator.ensure_task_consumer(
        "work", ack_wait_s=30, max_deliver=5, max_ack_pending=10
    )
    await orchestrator.publish("", [Outgoing("activity.tasks.work", b"{}")])
    worker = await running.connect("worker")
    (outcome,) = await worker.publish("", [Outgoing(subjects.catalog("work"), b"{}")])
    assert isinstance(outcome, Accepted)
    assert await worker.last(topology.ACTIVITY_CATALOG, subjects.catalog("work")) is not None
    pull = await worker.pull(topology.ACTIVITY_TASKS, topology.consumer_name("work"), window=1)
    async with asyncio.timeout(5):
        (delivery,) = await pull.next(1)
    (stored,) = await worker.publish("", [Outgoing(subjects.completed("i", "work"), b"{}")])
    assert isinstance(stored, Accepted)
    dead = Outgoing(subjects.dead_letter("message", "work"), b"{}")
    assert isinstance((await worker.publish("", [dead]))[0], Accepted)
    worker.in_progress(delivery)
    worker.ack(delivery)

    async def acked() -> bool:
        floor = await orchestrator.ack_floor(
            topology.ACTIVITY_TASKS, topology.consumer_name("work")
        )
        return floor == 1

    await eventually(acked)
    await worker.close()
    await orchestrator.close()


async def test_a_client_may_start_watch_and_read_but_not_finish_tasks(running: Running) -> None:
    orchestrator = await running.connect("orchestrator")
    await topology.ensure(orchestrator, running.settings)
    client = await running.connect("client")
    start = Outgoing(subjects.start("default", "order"), b"{}")
    definition = Outgoing(subjects.definition("default", "order", "1.0.0"), b"{}", expected=0)
    assert isinstance((await client.publish("", [start]))[0], Accepted)
    assert isinstance((await client.publish("", [definition]))[0], Accepted)
    assert await client.last(topology.WORKFLOW_STATES, subjects.state("none")) is None
    assert await client.scan(topology.WORKFLOW_HISTORY, "workflow.history.none") == []
    assert await client.last_sequence(topology.WORKFLOW_HISTORY) == 0
    heard = asyncio.Event()

    async def hear(subject: str, data: bytes) -> None:
        heard.set()

    unsubscribe = await client.subscribe_core(subjects.finished("order-1"), hear)
    await orchestrator.publish_core(subjects.finished("order-1"), b"completed")
    async with asyncio.timeout(5):
        await heard.wait()
    await unsubscribe()
    (outcome,) = await client.publish("", [Outgoing(subjects.completed("i", "a"), b"{}")])
    assert isinstance(outcome, Rejected)
    await client.close()
    await orchestrator.close()


async def test_a_role_hears_no_other_roles_inbox(running: Running) -> None:
    worker = await running.connect("worker")

    async def never(subject: str, data: bytes) -> None:
        raise AssertionError(subject)

    seen: list[str] = []
    sink = logger.add(lambda message: seen.append(message.record["message"]), level="ERROR")
    unsubscribe = await worker.subscribe_core("_INBOX_orchestrator.>", never)
    logger.remove(sink)
    assert "broker.permission_denied" in seen
    await unsubscribe()
    await worker.close()


# Connecting.


async def test_without_a_running_pool_the_error_says_what_to_start(settings: Settings) -> None:
    with pytest.raises(BrokerError, match=r"broker\.json does not exist: is wf-supervisor running"):
        from_settings(settings, "client")


async def test_a_wrong_password_is_said_at_once(running: Running) -> None:
    wrong = Connection(servers=(running.broker.url,), user="worker", password="no")
    async with asyncio.timeout(3):
        with pytest.raises(BrokerError, match=r"refused user 'worker'.*password"):
            await connect(wrong, role="worker", name="test")


async def test_nobody_listening_is_said_within_the_time_allowed() -> None:
    nowhere = Connection(servers=(f"nats://127.0.0.1:{embedded.free_port()}",))
    with pytest.raises(BrokerError, match=r"no broker answered within 0\.3 s"):
        await connect(nowhere, role="client", name="test", timeout_s=0.3)


def test_a_damaged_endpoint_file_says_so(settings: Settings) -> None:
    paths.make_private(paths.state_dir(settings))
    for damaged in (b"{", b"[]"):
        paths.write_private(paths.broker_file(settings), damaged)
        with pytest.raises(BrokerError, match="restart wf-supervisor"):
            from_settings(settings, "client")


def test_the_endpoint_is_what_clients_connect_to(running: Running) -> None:
    endpoint = orjson.loads(paths.broker_file(running.settings).read_bytes())
    assert endpoint == {
        "url": f"nats://127.0.0.1:{running.broker.port}",
        "port": running.broker.port,
        "pid": running.process.pid,
    }
