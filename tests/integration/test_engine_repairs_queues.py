"""Full queues that hold up nothing else, lost writes while parking, reads without an answer."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator import main
from orchestrator.dispatch import backpressure
from tests.integration.test_engine import (
    SLEEPER,
    TWO,
    acked_up_to,
    one_task_per_activity,
    tasks,
)
from tests.support.engine import (
    Engine,
    FakeWorker,
    deploy,
    ended,
    engine,
    history,
    in_status,
    publish_result,
    send,
    settled,
    snapshot,
    start,
    succeed,
)
from tests.support.server import RealServer
from tests.support.waiting import eventually
from wf.errors import BrokerError
from wf.jetstream import topology
from wf.jetstream.client import JetStream
from wf.jetstream.port import Outcome, Outgoing, Rejected, Stored, Unknown
from wf.protocol import messages, subjects
from wf.settings import Settings

JsonObject = dict[str, Any]

NAP = """
document: {dsl: '1.0.0', namespace: default, name: nap, version: '1.0.0'}
do:
  - nap: {wait: {milliseconds: 200}}
"""


def starting(workflow: str, instance: str, input: Any = None) -> Outgoing:
    body = messages.start_body(instance=instance, input=input)
    return Outgoing(subjects.start("default", workflow), messages.encode(body))


async def task_of(js: JetStream, activity: str, instance: str) -> JsonObject:
    async def look() -> list[JsonObject]:
        return [task for task in await tasks(js, activity) if task["instance"] == instance]

    (task,) = await eventually(look, limit_s=5, what=f"the task of {instance}")
    return task


def with_limits(settings: Settings, *, batch: int, **limits: Any) -> Settings:
    orchestrator = settings.orchestrator
    changed = orchestrator.limits.model_copy(update=limits)
    update = {"batch": batch, "limits": changed}
    return settings.model_copy(update={"orchestrator": orchestrator.model_copy(update=update)})


# Full queues


async def test_a_dead_pool_with_more_waiting_than_is_taken_in_holds_up_no_other(
    js: JetStream, nats_server: RealServer
) -> None:
    """Forty starts wait for room in one queue; thirty are all that are in hand at once."""
    await deploy(js, TWO)
    await deploy(js, TWO.replace("call: a", "call: c").replace("name: two", "name: other"))
    narrow = with_limits(nats_server.settings(), batch=10, tasks_per_activity=1)
    async with engine(nats_server, settings=narrow):
        await js.publish_batch(
            topology.WORKFLOW_EVENTS, [starting("two", f"i{n}", {"n": 1}) for n in range(40)]
        )
        await start(js, "other", "third", {"n": 3})
        await task_of(js, "c", "third")


async def test_timers_beyond_the_cap_do_not_keep_those_that_fire_from_being_heard(
    js: JetStream, nats_server: RealServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Room is made by timers that fire: held starts must not close the intake to them."""
    monkeypatch.setattr(main, "SWEEP_S", 0.1)
    monkeypatch.setattr(backpressure, "LONGEST_DELAY_S", 0.2)
    await deploy(js, NAP)
    few = with_limits(nats_server.settings(), batch=1, pending_timers=2)
    names = [f"i{n}" for n in range(6)]
    async with engine(nats_server, settings=few):
        await js.publish_batch(topology.WORKFLOW_EVENTS, [starting("nap", name) for name in names])
        for name in names:
            assert (await ended(js, name, limit_s=10))["status"] == "completed"


async def test_an_instance_that_is_released_while_its_group_goes_on_is_released_once(
    js: JetStream, nats_server: RealServer
) -> None:
    """x is held for a moment; y, in its group, takes longer than that."""
    await deploy(js, SLEEPER)
    await deploy(js, TWO)
    seen: list[str] = []

    def prepare(made: Engine) -> None:
        publish, last = made.js.publish, made.js.last

        async def refuse(stream: str, batch: list[Outgoing], **more: Any) -> list[Outcome]:
            if stream == topology.ACTIVITY_TASKS and "refused" not in seen:
                seen.append("refused")
                return [Rejected(10077, "full") for _ in batch]
            return await publish(stream, batch, **more)

        async def free() -> bool:
            return not made.orchestrator._parking.holds("x")

        async def slow(stream: str, subject: str, **more: Any) -> Stored | None:
            if "refused" in seen and subject == subjects.state("y") and "slow" not in seen:
                seen.append("slow")
                await eventually(free, what="x let go")
            return await last(stream, subject, **more)

        made.js.publish = refuse  # type: ignore[method-assign]
        made.js.last = slow  # type: ignore[method-assign]

    async with engine(nats_server, prepare=prepare) as only:
        await start(js, "sleeper", "y")
        await in_status(js, "y", "waiting")
        await settled(js)
        # y exists already: nothing is written, so its cached revision is looked up.
        again = starting("sleeper", "y")
        await js.publish_batch(topology.WORKFLOW_EVENTS, [starting("two", "x", {"n": 1}), again])
        await task_of(js, "a", "x")
        await settled(js)
        await send(js, subjects.command("x", "cancel"), messages.command_body())
        assert (await ended(js, "x", limit_s=5))["status"] == "cancelled"
        assert seen == ["refused", "slow"]
        assert only.task is not None
        assert not only.task.done()


# Parking


def hasty(made: Engine) -> None:
    made.orchestrator._parking._park_after_s = 0.2
    made.orchestrator._parking._flush_after_s = 0.3


class LosesOne:
    """Makes a hasty engine that loses one write of `second`, once armed: the first that says
    parked, or that does not."""

    def __init__(self, *, parked: bool, armed: bool) -> None:
        self._parked = parked
        self.armed = armed
        self.lost = False

    def __call__(self, made: Engine) -> None:
        hasty(made)
        publish = made.js.publish

        async def lossy(stream: str, batch: list[Outgoing], **more: Any) -> list[Outcome]:
            if self.armed and stream == topology.WORKFLOW_STATES and self._is_meant(batch[0]):
                self.armed, self.lost = False, True
                return [Unknown("lost") for _ in batch]
            return await publish(stream, batch, **more)

        made.js.publish = lossy  # type: ignore[method-assign]

    def _is_meant(self, write: Outgoing) -> bool:
        of_second = write.subject == subjects.state("second")
        return of_second and (b'"parked":true' in write.data) is self._parked

    async def has_lost(self) -> bool:
        return self.lost


async def fill_and_park(js: JetStream) -> int:
    """`second` waits behind the task of `first`; the sequence of its start."""
    await start(js, "two", "first", {"n": 1})
    await task_of(js, "a", "first")
    return await start(js, "two", "second", {"n": 2})


async def test_a_parking_that_was_not_stored_is_no_parking(
    js: JetStream, nats_server: RealServer
) -> None:
    """Its event must stay unacked: nothing else says that the task is unpublished."""
    await deploy(js, TWO)
    loses = LosesOne(parked=True, armed=True)
    narrow = one_task_per_activity(nats_server)
    async with engine(nats_server, prepare=loses, settings=narrow):
        await fill_and_park(js)
        await eventually(loses.has_lost, what="the lost write")
        await js.purge(topology.ACTIVITY_TASKS, subject=subjects.task("a"))
        await task_of(js, "a", "second")


async def test_an_unparking_that_was_not_stored_is_done_again(
    js: JetStream, nats_server: RealServer
) -> None:
    """Else the snapshot says parked, no flush timer is set, and the next task that is refused
    counts as seen to."""
    await deploy(js, TWO)
    loses = LosesOne(parked=False, armed=False)
    narrow = one_task_per_activity(nats_server)
    async with engine(nats_server, prepare=loses, settings=narrow):
        await acked_up_to(js, await fill_and_park(js))
        loses.armed = True
        await js.publish(topology.ACTIVITY_TASKS, [Outgoing(subjects.task("b"), b"{}")])  # full
        await js.purge(topology.ACTIVITY_TASKS, subject=subjects.task("a"))
        task = await task_of(js, "a", "second")
        await eventually(loses.has_lost, what="the lost write")
        await settled(js)
        await publish_result(js, "a", task, succeed()(task))
        await settled(js)
        await js.purge(topology.ACTIVITY_TASKS, subject=subjects.task("b"))
        await task_of(js, "b", "second")


async def test_a_parking_that_gets_no_answer_is_tried_again(
    js: JetStream, nats_server: RealServer
) -> None:
    """The write is lost, and so is the answer to what became of it."""
    await deploy(js, TWO)
    loses = LosesOne(parked=True, armed=True)
    unanswered: list[str] = []

    def silent(made: Engine) -> None:
        loses(made)
        last = made.js.last

        async def no_answer(stream: str, subject: str, **more: Any) -> Stored | None:
            if loses.lost and subject == subjects.state("second") and not unanswered:
                unanswered.append(subject)
                raise BrokerError("no answer")
            return await last(stream, subject, **more)

        made.js.last = no_answer  # type: ignore[method-assign]

    narrow = one_task_per_activity(nats_server)
    async with engine(nats_server, prepare=silent, settings=narrow):
        await acked_up_to(js, await fill_and_park(js))
        assert unanswered
        parked = await snapshot(js, "second")
        assert parked is not None
        assert parked["commit"]["parked"] is True
        await js.purge(topology.ACTIVITY_TASKS, subject=subjects.task("a"))
        await task_of(js, "a", "second")


async def test_with_a_crowd_held_none_waits_for_its_minute(
    js: JetStream, nats_server: RealServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backpressure, "CROWD", 3)
    await deploy(js, TWO)
    narrow = one_task_per_activity(nats_server)
    async with engine(nats_server, settings=narrow) as only:
        await fill_and_park(js)
        names = [f"i{n}" for n in range(5)]
        batch = [starting("two", name, {"n": 1}) for name in names]
        await js.publish_batch(topology.WORKFLOW_EVENTS, batch)
        for name in names:
            await in_status(js, name, "running")

        async def thinned() -> bool:
            return len(only.orchestrator._leases) <= 3

        await eventually(thinned, limit_s=5, what="all but a few parked")


# Reads without an answer

EVERY_READ = {
    f"last {topology.WORKFLOW_STATES}",
    f"last {topology.WORKFLOW_HISTORY}",
    f"last_some {topology.WORKFLOW_STATES}",
    f"last_some {topology.WORKFLOW_HISTORY}",
    f"ack_floor {topology.WORKFLOW_EVENTS}",
    "publish_core",
}


def silent_once(failed: set[str], armed: list[bool]) -> Any:
    """Have each kind of read, and the announcement of an end, fail once."""

    def fail(place: str) -> None:
        if armed and place in EVERY_READ and place not in failed:
            failed.add(place)
            raise BrokerError(f"{place}: no answer")

    def prepare(made: Engine) -> None:
        def failing(name: str) -> None:
            method = getattr(made.js, name)

            async def call(first: str, *arguments: Any, **more: Any) -> Any:
                fail(name if name == "publish_core" else f"{name} {first}")
                return await method(first, *arguments, **more)

            setattr(made.js, name, call)

        for name in ("last", "last_some", "ack_floor", "publish_core"):
            failing(name)

    return prepare


async def test_a_group_whose_reads_get_no_answer_goes_round_again_and_loses_and_doubles_nothing(
    js: JetStream, nats_server: RealServer
) -> None:
    """Before its snapshots are written, and after: what is not acked is simply done again."""
    await deploy(js, TWO)
    failed: set[str] = set()
    armed: list[bool] = []
    names = [f"i{n}" for n in range(6)]
    cancel = messages.encode(messages.command_body())
    async with FakeWorker(js, {"a": succeed(), "b": succeed()}) as worker:
        async with engine(nats_server, prepare=silent_once(failed, armed)) as only:
            armed.append(True)
            await start(js, "two", "alone", {"n": 1})
            await ended(js, "alone", limit_s=5)
            batch = [starting("two", name, {"n": 1}) for name in names]
            batch.append(Outgoing(subjects.command("nobody", "cancel"), cancel))
            await js.publish_batch(topology.WORKFLOW_EVENTS, batch)
            for name in names:
                assert (await ended(js, name, limit_s=5))["status"] == "completed"
            await settled(js)
            assert failed == EVERY_READ
            assert only.orchestrator._engine.counts["ignored.unknown"] >= 1
        everyone = ["alone", *names]
        assert sorted(worker.ran) == sorted((one, run, 1) for one in everyone for run in (1, 2))
        for one in everyone:
            assert [m["commit"] for m in await history(js, one)] == [1, 2, 3]
