"""Who reaches what at the embedded broker: docs/security.md, row by row, and the ways around it."""

from __future__ import annotations

import asyncio
import re
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import orjson
import pytest

from tests.support.server import RealServer, end_with_the_tests, make_settings
from tests.support.waiting import eventually, eventually_sync
from wf.errors import BrokerError
from wf.jetstream import embedded, logins, topology
from wf.jetstream.accounts import ENGINE
from wf.jetstream.client import JetStream, connect
from wf.jetstream.connection import Connection, from_settings
from wf.jetstream.encode import publication
from wf.jetstream.port import Accepted, Outgoing
from wf.process import paths
from wf.protocol import subjects
from wf.settings import Settings

DOCUMENT = Path(__file__).parents[2] / "docs" / "security.md"
COLUMNS = ("client", "worker", "worker-mail", "monitor")
ROW = re.compile(r"\| [^|]+ \| `([^`|]+)` \|((?: (?:yes|no) \|){4})$", re.MULTILINE)
TABLE = {
    (found[1], who): answer == "yes"
    for found in ROW.finditer(DOCUMENT.read_text())
    for who, answer in zip(COLUMNS, re.findall("yes|no", found[2]), strict=True)
}
ACTIVITIES = ("mail", "charge_card")


class Broker:
    """An embedded broker as the supervisor starts it, with the engine's streams."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        logins.make_worker(settings, ["mail"])
        self.broker = embedded.prepare(settings)
        self.process = subprocess.Popen(self.broker.argv, preexec_fn=end_with_the_tests)
        eventually_sync(self.broker.probe, what="the broker is ready")
        embedded.write_endpoint(settings, self.broker, self.process.pid)

    async def make_streams(self) -> None:
        engine = await self.connect("orchestrator")
        await topology.ensure(engine, self.settings)
        for activity in ACTIVITIES:
            await engine.ensure_task_consumer(
                activity, ack_wait_s=30, max_deliver=5, max_ack_pending=10
            )
        await engine.close()

    async def connect(self, who: str) -> JetStream:
        role = who.partition("-")[0]
        if who == role:
            return await connect(from_settings(self.settings, role), role=role, name=who)
        login = orjson.loads(paths.credentials_file(self.settings, who).read_bytes())
        connection = Connection((self.broker.url,), user=login["user"], password=login["password"])
        return await connect(connection, role=role, name=who)

    def stop(self) -> None:
        self.process.kill()
        self.process.wait(10)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    broker = Broker(make_settings(tmp_path_factory.mktemp("credentials")))
    asyncio.run(broker.make_streams())
    yield broker
    broker.stop()


Enter = Callable[[str], Awaitable[JetStream]]


@pytest.fixture
def enter(broker: Broker, runner: asyncio.Runner) -> Iterator[Enter]:
    """Connects with a credential, and closes what it has opened after the test."""
    opened: list[JetStream] = []

    async def connected(who: str) -> JetStream:
        opened.append(await broker.connect(who))
        return opened[-1]

    yield connected
    for js in opened:
        runner.run(js.close())


@pytest.fixture
def engine(enter: Enter, runner: asyncio.Runner) -> JetStream:
    return runner.run(enter("orchestrator"))


async def refused(js: JetStream, subjects_: list[str], reply: str = "") -> set[str]:
    """Those of the subjects that the broker does not let the connection publish to."""
    denied: set[str] = set()
    js._wire.on_denied.append(lambda _verb, subject: denied.add(subject))
    for subject in subjects_:
        js._wire.send(publication(subject, reply, "", b"{}"))
    await js.flush()
    return denied


def test_the_table_was_read() -> None:
    assert len(TABLE) > 180


@pytest.mark.parametrize("who", COLUMNS)
async def test_each_credential_may_publish_what_its_column_says(enter: Enter, who: str) -> None:
    rows = [subject for subject, column in TABLE if column == who]
    js = await enter(who)
    denied = await refused(js, rows)
    assert {row: row not in denied for row in rows} == {row: TABLE[row, who] for row in rows}


@pytest.mark.parametrize("who", COLUMNS)
async def test_inboxes_and_what_the_engine_tells_are_heard_as_documented(
    enter: Enter, engine: JetStream, who: str
) -> None:
    js = await enter(who)
    denied: set[str] = set()
    js._wire.on_denied.append(lambda _verb, subject: denied.add(subject))

    async def hear(subject: str, data: bytes) -> None:
        heard.append(subject)

    heard: list[str] = []
    wanted = [">", "_INBOX.>", "workflow.>", "$KV.>", "$JS.>", "activity.tasks.*"]
    wanted += [f"_INBOX_{role}.>" for role in paths.ROLES if role != who.partition("-")[0]]
    for subject in wanted:
        await js.subscribe_core(subject, hear)
    assert denied == set(wanted)
    await js.subscribe_core("workflow.finished.*", hear)
    assert ("workflow.finished.*" in denied) is (who != "client")
    await engine.publish_core("workflow.finished.i", b"")
    await engine.flush()
    await js.flush()
    assert heard == (["workflow.finished.i"] if who == "client" else [])


# Around it: by a reply subject, which the broker does not check

# To where the login may not publish itself; the rest it may reach either way.
TARGETS = {
    who: [
        row
        for (row, one), allowed in TABLE.items()
        if one == who and not allowed and not row.startswith("$JS.ACK.")  # refused as a reply too
    ]
    for who in COLUMNS
}
ANSWERED = {
    "client": [
        ("workflow.signal.received.nobody.x", b'{"v":1,"data":1}'),
        ("$JS.API.DIRECT.GET.KV_WORKFLOW_DEFINITIONS", b'{"seq":1}'),
        ("$JS.API.STREAM.MSG.GET.KV_WORKFLOW_DEFINITIONS", b'{"seq":1}'),
        ("$JS.API.STREAM.INFO.WORKFLOW_HISTORY", b""),
    ],
    "worker": [
        ("workflow.activity.completed.nobody.mail", b"{}"),
        ("$JS.API.DIRECT.GET.KV_ACTIVITY_CATALOG", b'{"seq":1}'),
        ("$JS.API.CONSUMER.INFO.ACTIVITY_TASKS.activity-mail", b""),
        ("$JS.API.CONSUMER.MSG.NEXT.ACTIVITY_TASKS.activity-mail", b'{"batch":1,"no_wait":true}'),
    ],
    "monitor": [
        ("workflow.activity.completed.nobody.mail", b"{}"),
        ("$JS.API.DIRECT.GET.ACTIVITY_TASKS", b'{"seq":1}'),
        ("$JS.API.STREAM.INFO.ACTIVITY_TASKS", b""),
    ],
}
ANSWERED["worker-mail"] = ANSWERED["worker"]


async def stored(engine: JetStream) -> dict[str, int]:
    names = (await engine.api("STREAM.NAMES"))["streams"]
    return {name: await engine.last_sequence(name) for name in names}


@pytest.mark.parametrize("who", COLUMNS)
async def test_no_answer_of_the_broker_is_stored_anywhere(
    enter: Enter, engine: JetStream, who: str
) -> None:
    definition = subjects.definition("default", f"by-reply-{who}", "1.0.0")
    await engine.publish(topology.WORKFLOW_DEFINITIONS, [Outgoing(definition, b'{"v":1}')])
    await engine.publish(topology.ACTIVITY_CATALOG, [Outgoing(subjects.catalog("mail"), b"{}")])
    await engine.publish(
        topology.ACTIVITY_TASKS, [Outgoing(subjects.task("mail"), b'{"v":1}')] * len(TARGETS[who])
    )
    js = await enter(who)
    before = await stored(engine)
    asked = 0
    for subject, body in ANSWERED[who]:
        for target in TARGETS[who]:
            js._wire.send(publication(subject, target, "", body))
            asked += subject.startswith("workflow.")
    await js.flush()
    # Whatever they set off has been done once the last request of this kind is answered.
    subject, body = ANSWERED[who][0]
    assert isinstance((await js.publish("", [Outgoing(subject, body)]))[0], Accepted)
    await engine.flush()
    after = await stored(engine)
    assert after == {**before, "WORKFLOW_EVENTS": before["WORKFLOW_EVENTS"] + asked + 1}
    await engine.purge(topology.ACTIVITY_TASKS)


@pytest.mark.parametrize("who", COLUMNS)
async def test_no_answer_of_the_broker_reaches_anothers_inbox(enter: Enter, who: str) -> None:
    heard: list[str] = []

    async def hear(subject: str, data: bytes) -> None:
        heard.append(subject)

    others = [await enter(one) for one in ("orchestrator", *COLUMNS) if one != who]
    roles = ("orchestrator", *(one for one in COLUMNS if one != who))
    for other, name in zip(others, roles, strict=True):
        await other.subscribe_core(f"_INBOX_{name.partition('-')[0]}.spy", hear)
    js = await enter(who)
    for subject, body in ANSWERED[who]:
        for role in paths.ROLES:
            js._wire.send(publication(subject, f"_INBOX_{role}.spy", "", body))
    await js.flush()
    subject, body = ANSWERED[who][0]
    assert isinstance((await js.publish("", [Outgoing(subject, body)]))[0], Accepted)
    for other in others:
        await other.flush()
    assert heard == []


# A worker of some activities


async def test_a_worker_of_one_activity_does_its_work(enter: Enter, engine: JetStream) -> None:
    await engine.publish("", [Outgoing(subjects.task("mail"), b"{}")])
    worker = await enter("worker-mail")
    consumer = topology.consumer_name("mail")
    pull = await worker.pull(topology.ACTIVITY_TASKS, consumer, window=1)
    async with asyncio.timeout(5):
        (delivery,) = await pull.next(1)
    [outcome] = await worker.publish("", [Outgoing(subjects.completed("i", "mail"), b"{}")])
    assert isinstance(outcome, Accepted)
    worker.ack(delivery)

    async def acked() -> bool:
        return await engine.ack_floor(topology.ACTIVITY_TASKS, consumer) == delivery.sequence

    await eventually(acked, what="the task is acknowledged")


async def test_a_login_is_made_while_the_broker_runs_and_disturbs_nobody(
    broker: Broker, enter: Enter, engine: JetStream
) -> None:
    consumer = topology.consumer_name("charge_card")
    worker = await enter("worker")
    pull = await worker.pull(topology.ACTIVITY_TASKS, consumer, window=1)
    lost: list[bool] = []
    for one in (worker, engine):
        one._wire.on_lost.append(lambda: lost.append(True))
    path = logins.make_worker(broker.settings, ["charge_card", "refund"], "cards")
    assert path.stat().st_mode & 0o777 == 0o600
    assert embedded.reload(broker.settings)

    async def may_log_in() -> bool:
        login = orjson.loads(path.read_bytes())
        url = f"nats://{login['user']}:{login['password']}@127.0.0.1:{broker.broker.port}"
        try:
            js = await connect(Connection((url,)), role="worker", name="new", timeout_s=1)
        except BrokerError:
            return False  # not read yet
        denied = await refused(js, ["workflow.activity.completed.i.mail", "dead.message.refund"])
        await js.close()
        return denied == {"workflow.activity.completed.i.mail"}

    await eventually(may_log_in, what="the new login works")
    await engine.publish("", [Outgoing(subjects.task("charge_card"), b"{}")])
    async with asyncio.timeout(5):
        (delivery,) = await pull.next(1)
    worker.ack(delivery)
    [outcome] = await worker.publish("", [Outgoing(subjects.completed("i", "charge_card"), b"{}")])
    assert isinstance(outcome, Accepted)
    assert not lost


def test_a_login_keeps_its_password_until_its_activities_change(tmp_path: Path) -> None:
    settings = make_settings(tmp_path)
    first = logins.make_worker(settings, ["a", "b"]).read_bytes()
    assert logins.make_worker(settings, ["a", "b"]).read_bytes() == first
    named = logins.make_worker(settings, ["a"], "n").read_bytes()
    assert logins.make_worker(settings, ["b"], "n").read_bytes() != named
    assert [one.user for one in logins.logins(settings)][-2:] == ["worker-a+b", "worker-n"]
    assert not embedded.reload(settings)


# From a version without accounts


async def test_what_a_version_without_accounts_has_stored_is_the_engines(tmp_path: Path) -> None:
    earlier = RealServer(tmp_path)
    earlier.start()
    js = await earlier.connect()
    settings = make_settings(tmp_path, store_dir=tmp_path / "store")
    await topology.ensure(js, settings)
    sent = [Outgoing(subjects.start("default", "order"), b"{}") for _ in range(100)]
    assert isinstance(await js.publish_batch("", sent), Accepted)
    await js.close()
    earlier.kill9()
    now = Broker(settings)
    try:
        engine = await now.connect("orchestrator")
        assert await engine.count(topology.WORKFLOW_EVENTS) == len(sent)
        await engine.close()
    finally:
        now.stop()


def test_two_stores_are_not_mixed(tmp_path: Path) -> None:
    for account in ("$G", ENGINE):
        (tmp_path / "jetstream" / account / "streams").mkdir(parents=True)
    with pytest.raises(BrokerError, match="both hold streams"):
        embedded.adopt_store(tmp_path)
