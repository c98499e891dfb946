"""Message ids are shared within a stream: who uses another's first takes nothing from it."""

from __future__ import annotations

import pytest

from tests.support.server import RealServer
from wf.jetstream import topology
from wf.jetstream.client import JetStream
from wf.jetstream.port import Accepted, Outgoing
from wf.protocol import messages, subjects

EVENTS = topology.WORKFLOW_EVENTS

RESULT = messages.completed_body(run=1, attempt=1, output="true")
MESSAGES = {
    "a worker's result": (
        "worker", EVENTS, "workflow.activity.completed.i.mail", RESULT, "i:1:1:done"
    ),
    "a sign of life": (
        "worker", EVENTS, "workflow.activity.completed.i.mail", RESULT, "i:1:1:started"
    ),
    "the death of a worker": (
        "monitor", EVENTS, "workflow.activity.completed.i.mail", RESULT, "i:1:1:crashed"
    ),
    "a client's start": ("client", EVENTS, "workflow.start.order", {"v": 1, "id": "i"}, "start:i"),
    "a child's start": (
        "orchestrator", EVENTS, "workflow.start.order", {"v": 1, "id": "i"}, "start:i"
    ),
    "a child's end": (
        "orchestrator", EVENTS, "workflow.child.completed.i.1", {"v": 1}, "i:3:send:0"
    ),
    "an unreadable task": (
        "worker", topology.DEAD_LETTERS, "dead.message.mail", {"v": 1}, "dead:ACTIVITY_TASKS:7"
    ),
    "the evidence of a fault": (
        "orchestrator", topology.DEAD_LETTERS, "dead.faulted.order", {"v": 1}, "i:3:dead:0"
    ),
    "an event of an instance": (
        "orchestrator", topology.CLOUD_EVENTS, "cloudevents.paid", {"id": "1"}, "i:3:send:0"
    ),
}  # fmt: skip
FOREIGN = {
    EVENTS: "workflow.signal.received.nobody.x",
    topology.DEAD_LETTERS: "dead.message.other",
    topology.CLOUD_EVENTS: "cloudevents.other",
}


async def stored(js: JetStream, stream: str, subject: str) -> list[bytes]:
    pattern = f"{subject}.*" if stream == EVENTS and subject.count(".") == 4 else subject
    return [one.data for one in await js.scan(stream, pattern)]


@pytest.mark.parametrize("name", MESSAGES)
async def test_a_message_whose_id_somebody_used_first_is_stored(
    js: JetStream, nats_server: RealServer, name: str
) -> None:
    role, stream, subject, body, message_id = MESSAGES[name]
    poison = Outgoing(FOREIGN[stream], b'{"v":1,"data":0}', message_id=message_id)
    assert isinstance((await js.publish(stream, [poison]))[0], Accepted)
    sender = await nats_server.connect(role)
    message = Outgoing(subject, messages.encode(body), message_id=message_id)
    try:
        [outcome] = await sender.publish(stream, [message])
    finally:
        await sender.close()
    assert isinstance(outcome, Accepted)
    assert await stored(js, stream, subject) == [message.data]


@pytest.mark.parametrize("role", ["worker", "monitor", "orchestrator"])
async def test_a_result_that_is_there_is_not_stored_twice(
    js: JetStream, nats_server: RealServer, role: str
) -> None:
    subject = subjects.completed("order-4711", "mail")
    result = Outgoing(subject, messages.encode(RESULT), message_id="order-4711:1:1:done")
    sender = await nats_server.connect(role)
    outcomes = [(await sender.publish(EVENTS, [result]))[0] for _ in range(2)]
    await sender.close()
    assert outcomes == [Accepted(1), Accepted(1, duplicate=True)]
    [at] = await js.scan(EVENTS, f"{subject}.*")
    assert at.subject == topology.stored_subject(subject)


@pytest.mark.parametrize("same_subject", [True, False])
async def test_the_engine_knows_its_own_message_again(js: JetStream, same_subject: bool) -> None:
    """After a crash it sends everything again: that is not stored twice."""
    subject = subjects.child_completed("i", 1)
    message = Outgoing(subject, b'{"v":1,"child":"c"}', message_id="i:3:send:0")
    other = Outgoing(
        subject if same_subject else FOREIGN[EVENTS], b'{"v":1,"data":0}', message_id="i:3:send:1"
    )
    await js.publish(EVENTS, [message, other])
    again = await js.publish(EVENTS, [message, Outgoing(subject, b'{"v":1}', "i:3:send:1")])
    assert [isinstance(one, Accepted) and one.duplicate for one in again] == [True, True]
    found = await stored(js, EVENTS, subject)
    assert found.count(message.data) == 1
    assert found.count(b'{"v":1}') == 1


async def test_what_a_client_sends_again_under_an_id_of_its_own_counts_once(
    js: JetStream, nats_server: RealServer
) -> None:
    client = await nats_server.connect("client")
    signal = Outgoing(subjects.signal("i", "go"), b'{"v":1,"data":1}', message_id="client:1234")
    event = Outgoing("cloudevents.paid", b"{}", message_id="/shop:1")
    for _ in range(2):
        await client.publish(EVENTS, [signal])
        await client.publish(topology.CLOUD_EVENTS, [event])
    await client.close()
    assert len(await stored(js, EVENTS, signal.subject)) == 1
    assert len(await stored(js, topology.CLOUD_EVENTS, event.subject)) == 1
